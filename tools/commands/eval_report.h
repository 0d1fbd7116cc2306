// The result of `qfm eval` in its forms.
#pragma once
#include <string>
#include <vector>

#include "tools/cli/results.h"
#include "train/metrics/metrics.h"

namespace qfm {

struct EvalReport {
  struct Photo {
    std::string name;
    double label, score, spread;  // 0-100, higher is better
  };
  Json header;
  std::vector<Photo> photos;
  int64_t failed = 0;
  Agreement agreement;

  std::string split() const;  // SHA-256 of the split whose test part this is; empty: none
  Json summary() const;       // the metrics; an undefined one is null
  std::string text() const;   // a table
  std::string json() const;   // {"header", "metrics", "photos"}
  std::string csv() const;    // "# key: value" lines, then a row a photo
  std::string html() const;   // one file without references: table, scatter plot, logistic curve
};

}  // namespace qfm
