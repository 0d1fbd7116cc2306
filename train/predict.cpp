#include "train/predict.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace qfm {
namespace {

constexpr int64_t kMostCrops = 16;  // in one batch: bounds the memory of scoring

// Windows [begin, end) as a batch in the type and on the device of the model.
Tensor crop_batch(const Image& photo, const std::vector<Window>& windows, size_t begin, size_t end, int crop,
                  const Normalisation& norm, const ParamSet& params) {
  Tensor images({static_cast<int64_t>(end - begin), 3, crop, crop});
  for (size_t i = begin; i < end; ++i) {
    const Tensor one = images.rows(static_cast<int64_t>(i - begin), static_cast<int64_t>(i - begin) + 1);
    normalise(one.data<float>(), photo, windows[i], crop, false, norm);
  }
  return images.to(params.compute()).to(params.master.device());
}

Tensor on_cpu(const Var& x) { return x.value.to(cpu_device).to(DType::F32); }

}  // namespace

Normalisation normalisation(const ModelInfo& info) {
  Normalisation norm;
  std::copy(info.mean.begin(), info.mean.end(), norm.mean);
  std::copy(info.std.begin(), info.std.end(), norm.std);
  return norm;
}

Predictor::Predictor(const QfmIqm& model, const ModelInfo& info, PredictOptions options)
    : model_(model),
      info_(info),
      options_(options),
      resize_(static_cast<int>(options.resize.value_or(info.resize))) {
  const VitConfig& vit = model.config.vit;
  QFM_CHECK(vit.image_height == info.crop && vit.image_width == info.crop, "the model takes ",
            vit.image_width, " x ", vit.image_height, " pixels, its description says crops of ", info.crop);
  QFM_CHECK(resize_ == 0 || (resize_ >= info.crop && resize_ <= 65536), "resize to ", resize_,
            " is not 0 (none) nor from ", info.crop, " (the side of a crop) to 65536");
}

// run(images) for batches of the photo's crops, in order; returns the windows.
template <class Run>
std::vector<Window> Predictor::each_batch(Image photo, Run&& run) const {
  const NoGrad inference;
  const int crop = static_cast<int>(info_.crop);
  photo = fit_for_crops(std::move(photo), resize_, crop);
  auto windows =
      crop_windows(options_.crops, photo.width, photo.height, crop, Rng(options_.seed, "score crops"));
  for (size_t begin = 0; begin < windows.size(); begin += kMostCrops)
    run(crop_batch(photo, windows, begin, std::min(windows.size(), begin + kMostCrops), crop,
                   normalisation(info_), model_.params));
  return windows;
}

Prediction Predictor::operator()(Image photo) const {
  Prediction result;
  result.width = photo.width, result.height = photo.height;
  double sum = 0;
  std::vector<double> judges;
  const auto windows = each_batch(std::move(photo), [&](const Tensor& images) {
    const auto output = model_(images);
    const Tensor score = on_cpu(output.score), each = on_cpu(output.judges);
    for (float s : score.span<float>()) sum += s;
    judges.insert(judges.end(), each.span<float>().begin(), each.span<float>().end());
  });
  result.crops = static_cast<int64_t>(windows.size());
  result.score = sum / static_cast<double>(result.crops);

  double mean = 0, square = 0;
  for (double j : judges) mean += j / static_cast<double>(judges.size());
  for (double j : judges) square += (j - mean) * (j - mean);
  result.spread = std::sqrt(square / static_cast<double>(judges.size()));
  return result;
}

Predictor::Embedding Predictor::embed(Image photo) const {
  std::vector<Vit::Features> parts;
  auto windows = each_batch(std::move(photo), [&](const Tensor& images) {
    const auto features = model_.vit(images);
    parts.push_back({on_cpu(features.cls), on_cpu(features.patches)});
  });
  const int64_t crops = static_cast<int64_t>(windows.size()), width = model_.config.vit.width;
  Embedding all{Tensor({crops, width}), Tensor({crops, model_.config.vit.patches(), width}),
                std::move(windows)};
  int64_t at = 0;
  for (const auto& part : parts) {
    const int64_t end = at + part.cls.dim(0);
    all.cls.rows(at, end).copy_from(part.cls.value);
    all.patches.rows(at, end).copy_from(part.patches.value);
    at = end;
  }
  return all;
}

}  // namespace qfm
