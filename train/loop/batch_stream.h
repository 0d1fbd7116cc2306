// The batches of a run: labelled photos, and pseudo-labelled ones behind them where there are any.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "train/loop/loader.h"

namespace qfm {

struct LabelledPhotos {
  std::vector<std::string> paths;
  std::vector<float> labels;
};

// How many of a batch's rows people scored, where pseudo_share of them is pseudo-labelled.
int64_t labelled_rows(int64_t batch, double pseudo_share);

// An epoch is one pass over the labelled photos (loader.h); the pseudo-labelled ones run beside them in
// epochs of their own. pseudo_share of a batch's rows, rounded, at least one and not all, is pseudo-labelled.
// Both kinds keep the order labelled, pseudo-labelled, and photos are numbered through.
class BatchStream : public BatchSource {
 public:
  // pseudo.paths empty: labelled photos only. Throws Error where a batch has no room for both.
  BatchStream(const LabelledPhotos& labelled, const LabelledPhotos& pseudo, double pseudo_share,
              const LoaderOptions& options);

  int64_t batches_per_epoch() const override { return labelled_->batches_per_epoch(); }
  int64_t batch_size() const override;
  void start(int64_t first, int64_t end) override;
  Batch next() override;
  const std::vector<std::string>& paths() const override { return paths_; }
  const std::vector<float>& labels() const { return labels_; }  // of the same photos

 private:
  std::optional<Loader> labelled_, pseudo_;
  std::vector<std::string> paths_;
  std::vector<float> labels_;
  uint32_t first_pseudo_sample_ = 0;  // samples too are numbered through
};

}  // namespace qfm
