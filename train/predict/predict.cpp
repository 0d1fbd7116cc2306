#include "train/predict/predict.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "engine/base/notice.h"
#include "kernels/vendor/kernel_policy.h"
#include "train/predict/crop_batches.h"

namespace qfm {
namespace {

// Our own kernels give each crop the same bits in any batch; a vendor's library picks its kernels by the shape.
std::string about_smaller_batches(size_t crops) {
  return concat("memory ran out: scored in batches of ", crops,
                " crops; with a vendor's products the last digits may differ (QFM_KERNELS=own: they do not)");
}

}  // namespace

Normalisation normalisation(const ModelInfo& info) {
  Normalisation norm;
  std::copy(info.mean.begin(), info.mean.end(), norm.mean);
  std::copy(info.std.begin(), info.std.end(), norm.std);
  return norm;
}

Predictor::Predictor(const Model& model, const ModelInfo& info, PredictOptions options)
    : model_(model), info_(info), options_(options), resize_(options.resize.value_or(info.resize)) {
  if (model.params.master.device() != cpu_device)
    forward_ = std::make_unique<CapturedForward<Model::Output>>(
        [&model](const Tensor& images) { return model(images); });
  const FeatureShape features = model.config.features();
  QFM_CHECK(features.image_height == info.crop && features.image_width == info.crop, "the model takes ",
            features.image_width, " x ", features.image_height, " pixels, its description says crops of ", info.crop);
  QFM_CHECK(model.config.head->views() == 1, "the model's head scores ", model.config.head->views(),
            " views of an image together: a photo alone has no score");
  const int64_t least = resize_.fixed() ? std::min(resize_.height, resize_.width) : resize_.side;
  QFM_CHECK(least == 0 || (least >= info.crop && least <= 65536), "resize to ", name_of(resize_),
            ": a side is not from ", info.crop, " (that of a crop) to 65536");
}

// run(images) for batches of the photo's crops, in order; returns the windows.
template <class Run>
std::vector<CropWindow> Predictor::each_batch(Image photo, Run&& run) const {
  const NoGrad inference;
  const int crop = static_cast<int>(info_.crop);
  CutPhoto cut = cut_photo(std::move(photo), resize_, crop, options_.crops, Rng(options_.seed, "score crops"));
  const CropBatches batches(cut.image, cut.places, crop, normalisation(info_), model_.params);
  size_t most = kMostCrops;
  for (size_t begin = 0; begin < cut.places.size();) {
    const size_t end = std::min(cut.places.size(), begin + most);
    try {
      const uint64_t before = vendor_calls();
      run(batches(begin, end));
      if (most < kMostCrops && vendor_calls() > before) notice(about_smaller_batches(most));
      begin = end;
    } catch (const OutOfMemory&) {  // the same crops in smaller batches
      if (end - begin == 1) throw;
      most = (end - begin) / 2;
      if (forward_) forward_->clear();
      release_cached(model_.params.master.device());
    }
  }
  return std::move(cut.windows);
}

Prediction Predictor::operator()(Image photo) const {
  Prediction result;
  result.width = photo.width, result.height = photo.height;
  double sum = 0, log_variance = 0;
  std::vector<double> members;
  const auto windows = each_batch(std::move(photo), [&](const Tensor& images) {
    const auto output = forward_ ? (*forward_)(images) : model_(images);
    const Tensor score = on_cpu(output.scores.score), each = on_cpu(output.scores.members);
    for (float s : score.span<float>()) sum += s;
    if (!output.scores.log_variance.value.empty())
      for (float v : on_cpu(output.scores.log_variance).span<float>()) log_variance += v;
    members.insert(members.end(), each.span<float>().begin(), each.span<float>().end());
  });
  result.crops = static_cast<int64_t>(windows.size());
  result.score = sum / static_cast<double>(result.crops);
  if (model_.config.head->gives_variance())
    result.deviation = std::exp(log_variance / static_cast<double>(result.crops) / 2);

  double mean = 0, square = 0;
  for (double m : members) mean += m / static_cast<double>(members.size());
  for (double m : members) square += (m - mean) * (m - mean);
  result.spread = std::sqrt(square / static_cast<double>(members.size()));
  return result;
}

Predictor::Embedding Predictor::embed(Image photo) const {
  std::vector<Features> parts;
  auto windows = each_batch(std::move(photo), [&](const Tensor& images) {
    const Features features = (*model_.backbone)(images);
    parts.push_back({on_cpu(features.pooled), on_cpu(features.tokens), {}});
  });
  const FeatureShape shape = model_.config.features();
  const auto crops = static_cast<int64_t>(windows.size());
  Embedding all{Tensor({crops, shape.width}), Tensor({crops, shape.tokens(), shape.width}),
                std::move(windows)};
  int64_t at = 0;
  for (const auto& part : parts) {
    const int64_t end = at + part.pooled.dim(0);
    all.cls.rows(at, end).copy_from(part.pooled.value);
    all.patches.rows(at, end).copy_from(part.tokens.value);
    at = end;
  }
  return all;
}

}  // namespace qfm
