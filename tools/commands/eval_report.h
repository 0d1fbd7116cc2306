// The result of `qfm eval` in its forms.
#pragma once
#include <string>
#include <vector>

#include "tools/cli/charts.h"
#include "tools/cli/results.h"
#include "train/metrics/interval_metrics.h"

namespace qfm {

struct EvalReport {
  struct Photo {
    std::string name;
    double label, score, spread;  // 0-100, higher is better
  };
  // Of a calibrated model: how true its intervals are.
  struct Intervals {
    double probability;
    std::vector<CalibratedPhoto> photos;  // as `photos`
    std::vector<ChartPoint> reliability;  // coverage over the probability of the interval
    std::vector<ReliabilityBin> pairs;
  };
  Json header;
  std::vector<Photo> photos;
  int64_t failed = 0;
  Agreement agreement;
  std::optional<Intervals> intervals = {};
  std::vector<std::pair<std::string, Agreement>> subsets = {};  // within each, where the table has subsets

  std::string split() const;  // SHA-256 of the split whose test part this is; empty: none
  Json summary() const;       // the metrics; an undefined one is null
  std::string text() const;   // a table
  std::string json() const;   // {"header", "metrics", "photos"}
  std::string csv() const;    // "# key: value" lines, then a row a photo
  std::string html() const;   // one file without references: table, scatter plot, logistic curve
};

}  // namespace qfm
