// Batches of two views of each photo, of any photos: two crops of it, or a reference and its distortion.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/prefetch.h"
#include "engine/base/rng.h"
#include "train/image/image.h"
#include "train/loop/batch_source.h"

namespace qfm {

struct ViewPair {
  Image first, second;  // crop x crop pixels
  bool mirror_first = false, mirror_second = false;
  float label = 0;
};
// Draws from `rng` only: the stream of this (epoch, photo).
using MakeViews = std::function<ViewPair(const Image& photo, Rng rng)>;

struct ViewOptions {
  int64_t pairs = 64;     // of a batch, which has twice as many rows
  int crop = 96;          // pixels
  int side = 192;         // the photos' shorter side, pixels, at least `crop`
  bool labelled = false;  // the pairs' labels are to be learnt
  Normalisation norm = {};
  uint64_t seed = 0;
  int workers = 1;  // threads that make views; 0: the caller does
};

// The photos are decoded once and kept, 3 side^2 bytes and more each. An epoch is a random order of them, cut in
// batches; what is left over at its end is dropped. Batch::labels are (pairs): one for two rows.
class ViewSource : public BatchSource {
 public:
  // Throws Error: fewer photos than `pairs`; "PATH: reason" for one that cannot be decoded.
  ViewSource(const std::vector<std::string>& paths, MakeViews make, const ViewOptions& options);

  int64_t batches_per_epoch() const override { return static_cast<int64_t>(photos_.size()) / options_.pairs; }
  int64_t batch_size() const override { return 2 * options_.pairs; }
  // A pure function of its number in the run.
  Batch batch(int64_t number) const;
  void start(int64_t first, int64_t end) override;
  Batch next() override { return ahead_->next(); }
  const std::vector<std::string>& paths() const override { return paths_; }

 private:
  std::vector<uint32_t> order(uint32_t epoch) const;
  Batch empty_batch() const;

  const std::vector<std::string> paths_;
  const MakeViews make_;
  const ViewOptions options_;
  std::vector<Image> photos_;
  std::unique_ptr<Prefetch<Batch>> ahead_;  // last: its threads use the rest
};

// A window of crop x crop pixels as it is in the photo.
Image window_of(const Image& photo, int crop, Rng& rng);
// The first augmentation of SimCLR (published; squares only, no colour jitter, no blur): a square whose area is
// `least` .. 1 of the largest, brought to crop x crop.
Image random_square(const Image& photo, int crop, double least, Rng& rng);
// Two of these, each mirrored with p = 0.5.
MakeViews two_squares(int crop, double least = 0.2);

}  // namespace qfm
