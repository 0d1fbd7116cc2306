#include "train/loop/loader.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "engine/base/rng.h"

namespace qfm {

Loader::Loader(std::vector<std::string> paths, std::vector<float> labels, const LoaderOptions& options)
    : paths_(std::move(paths)), labels_(std::move(labels)), options_(options) {
  QFM_CHECK(!paths_.empty() && paths_.size() == labels_.size(), "loader: ", paths_.size(), " photos and ",
            labels_.size(), " labels");
  QFM_CHECK(options.batch >= 1 && options.crops_per_image >= 1 && options.workers >= 0, "loader: batch ",
            options.batch, ", ", options.crops_per_image, " crops a photo, ", options.workers, " workers");
  QFM_CHECK(
      paths_.size() <= std::numeric_limits<uint32_t>::max() / static_cast<size_t>(options.crops_per_image),
      "loader: ", paths_.size(), " photos with ", options.crops_per_image, " crops each are too many");
}

int64_t batches_of(int64_t photos, const LoaderOptions& options) {
  return std::max<int64_t>(1, photos * options.crops_per_image / options.batch);
}

int64_t Loader::batch_size() const {
  return std::min(options_.batch, static_cast<int64_t>(paths_.size()) * options_.crops_per_image);
}

// A permutation of all pairs (Fisher and Yates), pair = photo * crops_per_image + crop.
std::shared_ptr<const std::vector<uint32_t>> Loader::order(int64_t epoch) const {
  const std::lock_guard lock(order_mutex_);
  if (order_epoch_ != epoch) {
    std::vector<uint32_t> pairs(paths_.size() * static_cast<size_t>(options_.crops_per_image));
    std::iota(pairs.begin(), pairs.end(), 0u);
    Rng rng(options_.seed, options_.stream + "order", static_cast<uint32_t>(epoch));
    for (size_t left = pairs.size(); left > 1; --left)
      std::swap(pairs[left - 1], pairs[rng.below(static_cast<uint32_t>(left))]);
    order_ = std::make_shared<const std::vector<uint32_t>>(std::move(pairs));
    order_epoch_ = epoch;
  }
  return order_;
}

namespace {

// The window of a photo, to (crop, crop, 3).
void copy_window(uint8_t* to, const Image& photo, CropWindow window, int crop) {
  const size_t bytes = size_t{3} * static_cast<size_t>(crop);
  for (int y = 0; y < crop; ++y, to += bytes)
    std::memcpy(to, photo.row(window.top + y) + size_t{3} * static_cast<size_t>(window.left), bytes);
}

}  // namespace

void Loader::draw_sample(Batch& batch, int64_t row, int64_t epoch, int64_t pair) const {
  const auto e = static_cast<uint32_t>(epoch), p = static_cast<uint32_t>(pair);
  const std::string& path = paths_[static_cast<size_t>(pair / options_.crops_per_image)];
  const CutPhoto cut = cut_photo(decode_image(path, options_.decode), options_.resize, options_.crop, {Crops::Kind::Random, 1},
                                 Rng(options_.seed, options_.stream + "crop", e, p));
  copy_window(batch.pixels.rows(row, row + 1).data<uint8_t>(), cut.image, cut.places[0], options_.crop);
  batch.mirrored.push_back(Rng(options_.seed, options_.stream + "flip", e, p).uniform() < 0.5f);
}

Batch Loader::batch(int64_t epoch, int64_t index) const {
  const auto pairs = order(epoch);
  const int64_t size = batch_size();
  Batch result{Tensor({size, options_.crop, options_.crop, 3}, DType::U8),
               {},
               options_.norm,
               Tensor({size}),
               {},
               {},
               size};
  for (int64_t i = 0; i < size; ++i) {
    const int64_t pair = (*pairs)[static_cast<size_t>(index * options_.batch + i)];
    const int64_t photo = pair / options_.crops_per_image;
    draw_sample(result, i, epoch, pair);
    result.labels.data<float>()[i] = labels_[static_cast<size_t>(photo)];
    result.photos.push_back(photo);
    result.samples.push_back(static_cast<uint32_t>(pair));
  }
  return result;
}

void Loader::start(int64_t first, int64_t end) {
  const int64_t each = batches_per_epoch(),
                depth = options_.workers + 1;  // one waits while each worker makes another
  ahead_.reset();
  ahead_ = std::make_unique<Prefetch<Batch>>(first, end, options_.workers, depth,
                                             [this, each](int64_t i) { return batch(i / each, i % each); });
}

}  // namespace qfm
