#include "train/views/view_source.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>

#include "train/image/photo_stream.h"
#include "train/image/transform.h"

namespace qfm {
namespace {

std::vector<Image> decoded(const std::vector<std::string>& paths, int side, int workers) {
  PhotoStream stream(paths, {.workers = workers});
  std::vector<Image> photos;
  for (const std::string& path : paths) {
    DecodeResult one = stream.next();
    QFM_CHECK(one.error.empty(), path, ": ", one.error);
    photos.push_back(resize_shorter_side(std::move(one.image), side, Resampling::Bilinear));
  }
  return photos;
}

}  // namespace

ViewSource::ViewSource(const std::vector<std::string>& paths, MakeViews make, const ViewOptions& options)
    : paths_(paths), make_(std::move(make)), options_(options) {
  QFM_CHECK(options.pairs >= 1 && options.crop >= 1 && options.crop <= options.side && options.workers >= 0,
            "views: ", options.pairs, " pairs, crops of ", options.crop, " in photos of ", options.side, ", ",
            options.workers, " workers");
  QFM_CHECK(static_cast<int64_t>(paths.size()) >= options.pairs, "views: ", paths.size(), " photos for ",
            options.pairs, " pairs");
  photos_ = decoded(paths, options.side, options.workers);
}

std::vector<uint32_t> ViewSource::order(uint32_t epoch) const {
  std::vector<uint32_t> all(photos_.size());
  std::iota(all.begin(), all.end(), 0u);
  Rng rng(options_.seed, "views order", epoch);
  for (size_t left = all.size(); left > 1; --left)
    std::swap(all[left - 1], all[rng.below(static_cast<uint32_t>(left))]);
  return all;
}

Batch ViewSource::empty_batch() const {
  const int64_t rows = batch_size();
  Batch batch;
  batch.pixels = Tensor({rows, options_.crop, options_.crop, 3}, DType::U8);
  batch.labels = Tensor({options_.pairs});
  batch.norm = options_.norm, batch.views = 2, batch.labelled = options_.labelled ? rows : 0;
  batch.mirrored.resize(static_cast<size_t>(rows));
  batch.photos.resize(static_cast<size_t>(rows)), batch.samples.resize(static_cast<size_t>(rows));
  return batch;
}

Batch ViewSource::batch(int64_t number) const {
  const auto epoch = static_cast<uint32_t>(number / batches_per_epoch());
  const auto all = order(epoch);
  Batch batch = empty_batch();
  const auto put = [&](int64_t row, uint32_t photo, uint32_t view, const Image& image, bool mirror) {
    QFM_CHECK(image.width == options_.crop && image.height == options_.crop, "views: a view is ", image.width,
              "x", image.height);
    std::memcpy(batch.pixels.rows(row, row + 1).raw(), image.rgb.data(), image.rgb.size());
    const auto i = static_cast<size_t>(row);
    batch.mirrored[i] = mirror, batch.photos[i] = photo, batch.samples[i] = 2 * photo + view;
  };
  for (int64_t i = 0; i < options_.pairs; ++i) {
    const uint32_t photo = all[static_cast<size_t>(number % batches_per_epoch() * options_.pairs + i)];
    const ViewPair pair = make_(photos_[photo], Rng(options_.seed, "views", epoch, photo));
    put(i, photo, 0, pair.first, pair.mirror_first);
    put(i + options_.pairs, photo, 1, pair.second, pair.mirror_second);
    batch.labels.data<float>()[i] = pair.label;
  }
  return batch;
}

void ViewSource::start(int64_t first, int64_t end) {
  ahead_.reset();
  ahead_ = std::make_unique<Prefetch<Batch>>(first, end, options_.workers, options_.workers + 1,
                                             [this](int64_t i) { return batch(i); });
}

Image window_of(const Image& photo, int crop, Rng& rng) {
  const auto left = rng.below(static_cast<uint32_t>(photo.width - crop + 1)),
             top = rng.below(static_cast<uint32_t>(photo.height - crop + 1));
  Image out(crop, crop);
  for (int y = 0; y < crop; ++y)
    std::memcpy(out.row(y), photo.row(static_cast<int>(top) + y) + size_t{3} * left,
                size_t{3} * static_cast<size_t>(crop));
  return out;
}

Image random_square(const Image& photo, int crop, double least, Rng& rng) {
  const int largest = std::min(photo.width, photo.height);
  const double area = least + (1 - least) * static_cast<double>(rng.uniform());
  const int size = std::clamp(static_cast<int>(std::lround(largest * std::sqrt(area))), 1, largest);
  return resize(window_of(photo, size, rng), crop, crop, Resampling::Bilinear);
}

MakeViews two_squares(int crop, double least) {
  return [crop, least](const Image& photo, Rng rng) {
    ViewPair pair;
    pair.first = random_square(photo, crop, least, rng), pair.mirror_first = rng.uniform() < 0.5f;
    pair.second = random_square(photo, crop, least, rng), pair.mirror_second = rng.uniform() < 0.5f;
    return pair;
  };
}

}  // namespace qfm
