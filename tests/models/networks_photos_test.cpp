// EfficientNet-Lite0 with its published weights, from photo files to logits: equal to the PyTorch program they come
// from. The weights are no part of the repository: models/pretrained/efficientnet_lite0_to_safetensors.py makes the file.
#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "layers/linear.h"
#include "models/pretrained.h"
#include "models/registry.h"
#include "tests/support.h"
#include "tests/tolerance.h"
#include "train/image/decode.h"
#include "train/predict/predict.h"

using namespace qfm;
using namespace qfm::test;

namespace {

std::string weights_path() {
  const char* path = std::getenv("QFM_EFFICIENTNET_LITE0");
  return path ? path : shared_path("weights/efficientnet_lite0.safetensors");
}

}  // namespace

TEST_CASE("networks: EfficientNet-Lite0 gives the logits of the demo photos that PyTorch gives") {
  if (weights_path().empty()) QFM_SKIP("the weights of EfficientNet-Lite0 are not here (QFM_EFFICIENTNET_LITE0)");
  const TensorFile file = TensorFile::open(weights_path());
  const ModelInfo info(timm_config(file));
  CHECK(info.config.arch == "efficientnet-lite0");
  Model model(info.config, cpu_device, DType::F32, false);
  model.params.initialise(0);
  load_pretrained(model, file.path());
  model.params.pack();
  const Predictor predictor(model, info, {.crops = parse_crops("center"), .resize = {}, .seed = 0});

  std::vector<std::string> photos;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(QFM_SOURCE_DIR) + "/tools/demo_photos"))
    if (entry.path().extension() == ".jpg") photos.push_back(entry.path());
  std::sort(photos.begin(), photos.end());
  const Tensor expected = TensorFile::open(golden_path("networks_photos.safetensors")).tensor("logits");
  REQUIRE(static_cast<int64_t>(photos.size()) == expected.dim(0));
  const NoGrad inference;
  for (size_t i = 0; i < photos.size(); ++i) {
    CAPTURE(photos[i]);
    const Tensor pooled = predictor.embed(decode_image(photos[i])).cls;
    const Tensor logits = linear(pooled, file.tensor("classifier.weight"), file.tensor("classifier.bias")).value;
    const auto row = static_cast<int64_t>(i);
    const Tensor found = logits.to(DType::F64), wanted = expected.rows(row, row + 1).to(DType::F64);
    double error = 0;
    for (size_t k = 0; k < 1000; ++k)
      error = std::max(error, std::fabs(found.span<double>()[k] - wanted.span<double>()[k]));
    CHECK(error <= 2e-4 * largest(wanted.span<double>()));  // as the real DeiT-Tiny's in golden_test.cpp
    const auto first = [](std::span<double> v) { return std::max_element(v.begin(), v.end()) - v.begin(); };
    CHECK(first(found.span<double>()) == first(wanted.span<double>()));
  }
}
