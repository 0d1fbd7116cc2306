// Where a score comes from: the maps against their definitions, and on photos of which one half is damaged.
#include "train/predict/explain.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <numeric>

#include "models/heads/linear_head.h"
#include "tests/support.h"
#include "tests/toy.h"
#include "train/image/decode.h"
#include "train/image/distort.h"
#include "train/image/photo_files.h"

namespace qfm::test {
namespace {

enum class Side { Left, Right, Top, Bottom };

struct Half {
  Side side;
  int width, height;
  bool holds(int x, int y) const {
    const bool left = 2 * x < width, top = 2 * y < height;
    return side == Side::Left ? left : side == Side::Right ? !left : side == Side::Top ? top : !top;
  }
};

// The damaged photo in one half, the photo itself in the other.
Image half_damaged(const Image& photo, Distortion kind, Side side) {
  const Half half{side, photo.width, photo.height};
  Image mixed = distort(photo, kind, 4);
  for (int y = 0; y < photo.height; ++y)
    for (int x = 0; x < photo.width; ++x)
      if (!half.holds(x, y)) std::copy_n(photo.row(y) + 3 * x, 3, mixed.row(y) + 3 * x);
  return mixed;
}

// Mean of the map in the damaged half less that in the other.
double difference(const QualityMap& map, Side side) {
  const Half half{side, map.width, map.height};
  double sums[2] = {};
  int64_t counts[2] = {};
  for (int y = 0; y < map.height; ++y)
    for (int x = 0; x < map.width; ++x) sums[half.holds(x, y)] += map.at(x, y), ++counts[half.holds(x, y)];
  return sums[1] / static_cast<double>(counts[1]) - sums[0] / static_cast<double>(counts[0]);
}

struct Toy {
  Model model{toy_config(), cpu_device, DType::F64, false};
  const ModelInfo info = toy_info();
  Toy() { model.params.initialise(7); }
  // On 0-100, of one window of the photo.
  double score(const Image& photo, CropWindow window) const {
    Tensor image({1, 3, kToyCrop, kToyCrop}, DType::F64);
    const CropSource source{photo.rgb.data(), photo.width, photo.height, window.left, window.top, 0};
    cut_crops(image, &source, normalisation(info));
    return score(image);
  }
  double score(const Tensor& image) const {
    const NoGrad inference;
    return info.to_0_100(model(image).scores.score.value.data<double>()[0]);
  }
};

double sum_of(const QualityMap& map) { return std::accumulate(map.values.begin(), map.values.end(), 0.0); }

TEST_CASE("the map of windows is what the model says of each place's surroundings") {
  const Toy toy;
  const Image one = drawn(kToyCrop, kToyCrop, 3), wide = drawn(kToyCrop + 8, kToyCrop, 4);
  const QualityMap alone = explain(toy.model, toy.info, one, ExplainKind::Windows);
  CHECK(alone.values.size() == kToyCrop * kToyCrop);
  const float whole = static_cast<float>(toy.score(one, {0, 0}));
  CHECK(std::all_of(alone.values.begin(), alone.values.end(),
                    [&](float v) { return std::abs(v - whole) < 1e-4; }));
  // Two windows: each alone at its end, between them their mean in the middle.
  const QualityMap two = explain(toy.model, toy.info, wide, ExplainKind::Windows);
  const double left = toy.score(wide, {0, 0}), right = toy.score(wide, {8, 0});
  REQUIRE(std::abs(left - right) > 1e-3);
  CHECK(two.at(0, 5) == doctest::Approx(left).epsilon(1e-5));
  CHECK(two.at(39, 30) == doctest::Approx(right).epsilon(1e-5));
  CHECK((two.at(19, 9) + two.at(20, 9)) / 2 == doctest::Approx((left + right) / 2).epsilon(1e-5));
}

TEST_CASE("the map of windows leaves no place of a large photo out") {
  const Toy toy;
  const QualityMap map = explain(toy.model, toy.info, drawn(30 * kToyCrop, 25 * kToyCrop, 5), ExplainKind::Windows);
  CHECK(std::all_of(map.values.begin(), map.values.end(), [](float v) { return std::isfinite(v); }));
}

TEST_CASE("the map of gradients sums to the score's derivatives on the way from the mosaic") {
  const Toy toy;
  const Image photo = drawn(kToyCrop, kToyCrop, 3);
  const QualityMap map = explain(toy.model, toy.info, photo, ExplainKind::Gradient);
  // Between the mosaic and the photo.
  Tensor image({1, 3, kToyCrop, kToyCrop}, DType::F64);
  const CropSource source{photo.rgb.data(), photo.width, photo.height, 0, 0, 0};
  cut_crops(image, &source, normalisation(toy.info));
  const auto at = [&](double share) {
    const Tensor mixed({1, 3, kToyCrop, kToyCrop}, DType::F64);
    const double* x = image.data<double>();
    double* y = mixed.data<double>();
    for (int c = 0; c < 3; ++c)
      for (int v = 0; v < kToyCrop; ++v)
        for (int u = 0; u < kToyCrop; ++u) {
          double cell = 0;
          for (int dv = 0; dv < 16; ++dv)
            for (int du = 0; du < 16; ++du)
              cell += x[(c * kToyCrop + v / 16 * 16 + dv) * kToyCrop + u / 16 * 16 + du] / 256;
          const int i = (c * kToyCrop + v) * kToyCrop + u;
          y[i] = cell + share * (x[i] - cell);
        }
    return toy.score(mixed);
  };
  double derivatives = 0;
  constexpr double step = 1e-4;
  for (int k = 0; k < 8; ++k)
    derivatives += (at((k + 0.5) / 8 + step) - at((k + 0.5) / 8 - step)) / (2 * step) / 8;
  REQUIRE(std::abs(derivatives) > 1e-4);
  CHECK(sum_of(map) / 256 == doctest::Approx(derivatives).epsilon(1e-4));
}

TEST_CASE("the map of attention is 1 in the mean, and refused where the head has none") {
  const Toy toy;
  const QualityMap map = explain(toy.model, toy.info, drawn(kToyCrop, kToyCrop, 3), ExplainKind::Attention);
  CHECK(sum_of(map) / static_cast<double>(map.values.size()) == doctest::Approx(1).epsilon(1e-5));
  ModelConfig config = toy_config();
  config.head = std::make_shared<const LinearHeadConfig>();
  const Model linear(config, cpu_device, DType::F32, false);
  CHECK(contains(message_of([&] { explain(linear, toy.info, drawn(40, 40), ExplainKind::Attention); }),
                 "no attention"));
}

TEST_CASE("extreme regions are boxes around what lies furthest off, furthest first") {
  QualityMap map{240, 120, std::vector<float>(240 * 120, 50)};
  const auto put = [&](int x, int y, int width, int height, float value) {
    for (int v = y; v < y + height; ++v)
      for (int u = x; u < x + width; ++u) map.values[static_cast<size_t>(v * 240 + u)] = value;
  };
  put(20, 10, 30, 20, 20), put(200, 100, 10, 10, 5), put(100, 60, 10, 10, 99);
  using Box = std::array<int, 4>;
  const auto box = [](const Region& r) { return Box{r.x, r.y, r.width, r.height}; };
  const auto low = extreme_regions(map, 5, false);
  REQUIRE(low.size() == 2);
  CHECK(box(low[0]) == Box{200, 100, 10, 10});
  CHECK(low[0].value == doctest::Approx(5));
  CHECK(box(low[1]) == Box{20, 10, 30, 20});
  CHECK(low[1].value == doctest::Approx(20));
  CHECK(extreme_regions(map, 1, false).size() == 1);
  const auto high = extreme_regions(map, 5, true);
  REQUIRE(high.size() == 1);
  CHECK(box(high[0]) == Box{100, 60, 10, 10});
}

TEST_CASE("of photos with one damaged half the maps are lower there") {
  const std::string folder = shared_path("data/pristine");
  if (folder.empty()) QFM_SKIP("no ../shared/data/pristine");
  if (!std::getenv("QFM_LONG_TESTS")) QFM_SKIP("a quarter of an hour: QFM_LONG_TESTS=1");
  const LoadedModel shipped = load_model(
      std::string(QFM_SOURCE_DIR) + "/models/pretrained/qfm-tiny.safetensors", cpu_device, DType::F32, false);
  const char* names[] = {"windows", "gradient", "attention"};
  int lower[3] = {}, all = 0;
  for (const std::string& path : photos_in(folder, false)) {
    if (all == 200) break;
    const auto side = static_cast<Side>(all % 4);
    const Image photo =
        half_damaged(decode_image(path), all / 4 % 2 ? Distortion::Noise : Distortion::Blur, side);
    for (const ExplainKind kind : {ExplainKind::Windows, ExplainKind::Gradient, ExplainKind::Attention})
      lower[static_cast<int>(kind)] +=
          difference(explain(*shipped.model, shipped.info, photo, kind), side) < 0;
    ++all;
  }
  for (int k = 0; k < 3; ++k)
    MESSAGE(std::string(names[k]) << ": lower in the damaged half of " << lower[k] << " of " << all);
  CHECK(all == 200);
  CHECK(lower[0] >= 0.95 * all);
  CHECK(lower[1] >= 0.95 * all);
}

}  // namespace
}  // namespace qfm::test
