// An experiment: data sets x label shares x variants x seeds, every variant on the same splits and seeds.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "train/data/dataset.h"
#include "train/run/config.h"

namespace qfm {

struct ExperimentData {
  std::string name;            // in tables
  std::string data;            // NAME:FOLDER or a manifest CSV
  std::optional<Range> scale;  // absent: as the set declares or observed
  bool lower_is_better = false;
  // COLUMN=VALUE of a fixed split. Without `test`, `split` draws one a seed: of all photos, or of `train`
  // alone, which tunes without a look at the photos that are kept for the end.
  std::string train, test;
  double split = 0.8;  // share of the references (or photos) that is trained on
  // By variant, then "srcc" or "plcc". Printed in a column of their own, never mixed with measured figures.
  std::map<std::string, std::map<std::string, double>> published = {};
};

struct ExperimentVariant {
  std::string name;
  TrainConfig config;  // its flags of `qfm train`, over those that all variants have in common
};

struct Experiment {
  std::string name;
  std::vector<ExperimentData> data;
  std::vector<ExperimentVariant> variants;
  std::string baseline;  // the variant that the others are tested against; not given: the first
  std::vector<int64_t> seeds;
  std::vector<double> label_shares{1.0};  // shares of the training part that are trained on
  std::string protocol = "clean";         // or "paper": the best epoch on the test part, labelled so
  std::string crops = "grid";             // when testing
};

// A JSON object with the members above; "common" holds flags of every variant, "seeds" is a count or a list.
// Throws Error "NAME: key: reason" for unknown keys, wrong types, flags that `qfm train` does not have, a
// baseline that is no variant, names given twice.
Experiment parse_experiment(std::string_view json, const std::string& name);

struct ExperimentRun {
  const ExperimentData* data;
  const ExperimentVariant* variant;
  double label_share;
  int64_t seed;
  // Names the run in folders and results: "BIQ2021/full/share-1/seed-3".
  std::string id() const;
};
// All runs, those of one seed together, so that pairs are complete early.
std::vector<ExperimentRun> runs_of(const Experiment& experiment);

// The photos of a run, equal for all variants. Of the training part label_share is kept, drawn by the seed; the
// photos of a smaller share are among those of a larger one. Throws Error where a part would have fewer than 3.
struct TrainTest {
  Dataset train, test;
};
TrainTest split_for(const ExperimentData& data, double label_share, int64_t seed);

}  // namespace qfm
