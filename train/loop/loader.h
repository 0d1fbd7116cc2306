// Batches of random crops for training, decoded ahead of time.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/prefetch.h"
#include "engine/tensor.h"
#include "train/image/decode.h"
#include "train/loop/batch_source.h"

namespace qfm {

struct LoaderOptions {
  int64_t batch = 16, crops_per_image = 10;
  int crop = 224;  // pixels
  Resize resize;
  Normalisation norm;
  DecodeOptions decode;
  uint64_t seed = 0;
  int workers = 1;  // threads that decode; 0: the caller decodes
  std::string stream = {};  // before the names of the random streams: loaders of one run need different ones
};

// Batches of an epoch over so many photos.
int64_t batches_of(int64_t photos, const LoaderOptions& options);

// An epoch is a random order of all (photo, crop) pairs, cut in batches; what is left over at its end is
// dropped, as the published recipe does. Fewer pairs than a batch make one smaller batch. Order, window and
// mirroring (p = 0.5) draw from streams named (seed, purpose, epoch, pair): a batch depends on nothing else,
// least of all on the number of workers.
class Loader {
 public:
  // labels[i] belongs to paths[i]. Throws Error for an empty set.
  Loader(std::vector<std::string> paths, std::vector<float> labels, const LoaderOptions& options);

  int64_t batches_per_epoch() const { return batches_of(static_cast<int64_t>(paths_.size()), options_); }
  int64_t batch_size() const;  // rows of every batch
  // A pure function of its arguments. Throws Error "PATH: reason" for a photo that cannot be decoded.
  Batch batch(int64_t epoch, int64_t index) const;
  // Starts the workers: next() will give batches number first .. end - 1 of the run, over the ends of epochs:
  // number i is batch(i / batches_per_epoch(), i % batches_per_epoch()).
  void start(int64_t first, int64_t end);
  Batch next() { return ahead_->next(); }

  const std::vector<std::string>& paths() const { return paths_; }

 private:
  void draw_sample(Batch& batch, int64_t row, int64_t epoch, int64_t pair) const;
  std::shared_ptr<const std::vector<uint32_t>> order(int64_t epoch) const;

  const std::vector<std::string> paths_;
  const std::vector<float> labels_;
  const LoaderOptions options_;
  mutable std::mutex order_mutex_;
  mutable int64_t order_epoch_ = -1;
  mutable std::shared_ptr<const std::vector<uint32_t>> order_;  // that of order_epoch_, drawn once for all its batches
  std::unique_ptr<Prefetch<Batch>> ahead_;  // last: its threads use the rest
};

}  // namespace qfm
