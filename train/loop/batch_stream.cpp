#include "train/loop/batch_stream.h"

#include <algorithm>
#include <cmath>

namespace qfm {

int64_t labelled_rows(int64_t batch, double pseudo_share) {
  const auto share = std::llround(pseudo_share * static_cast<double>(batch));
  return batch - std::clamp<int64_t>(share, 1, std::max<int64_t>(1, batch - 1));
}

BatchStream::BatchStream(const LabelledPhotos& labelled, const LabelledPhotos& pseudo, double pseudo_share,
                         const LoaderOptions& options)
    : paths_(labelled.paths), labels_(labelled.labels) {
  if (pseudo.paths.empty()) {
    labelled_.emplace(labelled.paths, labelled.labels, options);
    return;
  }
  QFM_CHECK(options.batch >= 2, "--batch ", options.batch,
            ": no room for labelled and pseudo-labelled photos");
  LoaderOptions first = options, second = options;
  first.batch = labelled_rows(options.batch, pseudo_share);
  second.batch = options.batch - first.batch, second.stream = "pseudo ";
  labelled_.emplace(labelled.paths, labelled.labels, first);
  pseudo_.emplace(pseudo.paths, pseudo.labels, second);
  paths_.insert(paths_.end(), pseudo.paths.begin(), pseudo.paths.end());
  labels_.insert(labels_.end(), pseudo.labels.begin(), pseudo.labels.end());
  first_pseudo_sample_ =
      static_cast<uint32_t>(static_cast<int64_t>(labelled.paths.size()) * options.crops_per_image);
}

int64_t BatchStream::batch_size() const {
  return labelled_->batch_size() + (pseudo_ ? pseudo_->batch_size() : 0);
}

void BatchStream::start(int64_t first, int64_t end) {
  labelled_->start(first, end);
  if (pseudo_) pseudo_->start(first, end);
}

namespace {

Tensor joined(const Tensor& a, const Tensor& b) {
  std::vector<int64_t> dims(a.shape().begin(), a.shape().end());
  dims[0] += b.dim(0);
  const Tensor y = like(a, Shape(dims));
  y.rows(0, a.dim(0)).copy_from(a);
  y.rows(a.dim(0), y.dim(0)).copy_from(b);
  return y;
}

}  // namespace

Batch BatchStream::next() {
  Batch batch = labelled_->next();
  if (!pseudo_) return batch;
  const Batch more = pseudo_->next();
  batch.pixels = joined(batch.pixels, more.pixels), batch.labels = joined(batch.labels, more.labels);
  batch.mirrored.insert(batch.mirrored.end(), more.mirrored.begin(), more.mirrored.end());
  const auto offset = static_cast<int64_t>(labelled_->paths().size());
  for (int64_t photo : more.photos) batch.photos.push_back(offset + photo);
  for (uint32_t sample : more.samples) batch.samples.push_back(first_pseudo_sample_ + sample);
  return batch;
}

}  // namespace qfm
