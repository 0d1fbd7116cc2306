#include "train/run/semantics.h"

#include <cmath>
#include <utility>

#include "models/pretrained.h"
#include "models/registry.h"
#include "models/weight_names.h"
#include "train/image/photo_stream.h"
#include "train/predict/predict.h"

namespace qfm {
namespace {

// Throws Error where neither flag names one that will do.
const std::string& semantics_file(const TrainConfig& config) {
  const std::string& given = config.objectives.text("semantics");
  if (!given.empty()) return given;
  QFM_CHECK(!config.init.empty(),
            "--method v2: --semantics is missing: weights that know what a photo shows, such as ImageNet's");
  QFM_CHECK(!open_weights(config.init).metadata().count("qfm"), config.init,
            ": is a model of ours, whose features measure quality; --semantics takes weights that know what "
            "a photo shows");
  return config.init;
}

Tensor class_tokens(const std::string& path, const std::vector<std::string>& photos, Device device,
                    int workers, const std::function<void(int64_t, int64_t)>& progress) {
  const LoadedModel network = load_backbone(path, device, DType::F32);
  const Predictor predictor(*network.model, network.info,
                            {{Crops::Kind::Center, 1}, Resize{network.info.crop, 0, 0}});
  const auto count = static_cast<int64_t>(photos.size());
  const Tensor rows({count, network.info.config.features().width});
  PhotoStream stream(photos, {.workers = workers});
  for (int64_t i = 0; i < count; ++i) {
    DecodeResult photo = stream.next();
    QFM_CHECK(photo.error.empty(), photos[static_cast<size_t>(i)], ": ", photo.error);
    rows.rows(i, i + 1).copy_from(predictor.embed(std::move(photo.image)).cls);
    if (progress) progress(i + 1, count);
  }
  return rows;
}

}  // namespace

Tensor centred_directions(const Tensor& rows) {
  const int64_t n = rows.dim(0), width = rows.dim(1);
  const Tensor result({n, width});
  std::vector<double> mean(static_cast<size_t>(width)), apart(mean);
  const auto row = [width](const Tensor& x, int64_t i) { return x.data<float>() + i * width; };
  for (int64_t i = 0; i < n; ++i)
    for (size_t d = 0; d < mean.size(); ++d) mean[d] += row(rows, i)[d] / static_cast<double>(n);
  for (int64_t i = 0; i < n; ++i) {
    double squares = 0;
    for (size_t d = 0; d < mean.size(); ++d)
      apart[d] = row(rows, i)[d] - mean[d], squares += apart[d] * apart[d];
    const double length = squares > 0 ? std::sqrt(squares) : 1;
    for (size_t d = 0; d < mean.size(); ++d) row(result, i)[d] = static_cast<float>(apart[d] / length);
  }
  return result;
}

Semantics semantics_of(const TrainConfig& config, const std::vector<std::string>& photos, Device device,
                       std::function<void(int64_t, int64_t)> progress) {
  const Options& o = config.objectives;
  if (o.text("method") != "v2" || o.text("match") == "off") return {};
  const std::string path = semantics_file(config);
  const int64_t width = backbone_info(path).config.features().width;
  return {width, [=, workers = static_cast<int>(config.workers)] {
            return centred_directions(class_tokens(path, photos, device, workers, progress));
          }};
}

}  // namespace qfm
