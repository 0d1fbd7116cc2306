// resize_bilinear and sample_bilinear against PyTorch; what they refuse, and what they do with coordinates that are no
// numbers or far away.
#include "layers/sampling.h"

#include <cmath>
#include <limits>

#include "engine/base/cpu.h"
#include "engine/cuda/cuda.h"
#include "engine/safetensors.h"
#include "tests/scopes.h"
#include "tests/support.h"
#include "tests/tolerance.h"

using namespace qfm;
using namespace qfm::test;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();

template <class F>
std::string refusal(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}
Var image(Shape shape, DType dtype = DType::F32) { return Var(Tensor::zeros(shape, dtype)); }

TEST_CASE("resize_bilinear refuses what has no result") {
  CHECK(refusal([] {
          resize_bilinear(image({2, 3, 4}), 2, 2);
        }) == "resize_bilinear: x is (2, 3, 4), wanted (B, C, H, W)");
  CHECK(refusal([] {
          resize_bilinear(image({2, 3, 0, 4}), 2, 2);
        }) == "resize_bilinear: x is (2, 3, 0, 4), wanted (B, C, H, W)");
  CHECK(refusal([] { resize_bilinear(image({2, 3, 4, 4}), 0, 2); }) == "resize_bilinear: to 0 x 2");
  CHECK(refusal([] { resize_bilinear(image({2, 3, 4, 4}), 2, -1); }) == "resize_bilinear: to 2 x -1");
  CHECK(refusal([] {
          resize_bilinear(image({2, 3, 4, 4}), 1 << 20, 1 << 20);
        }) == "resize_bilinear: to 1048576 x 1048576");
  CHECK(resize_bilinear(image({0, 3, 4, 4}), 2, 5).shape() == Shape{0, 3, 2, 5});
}

TEST_CASE("sample_bilinear refuses shapes and types that do not fit") {
  const auto sample = [](const Var& x, const Var& grid) { sample_bilinear(x, grid, SamplePadding::Zeros); };
  CHECK(refusal([&] {
          sample(image({2, 3, 4}), image({2, 5, 5, 2}));
        }) == "sample_bilinear: x is (2, 3, 4), wanted (B, C, H, W)");
  for (const Shape grid : {Shape{1, 5, 5, 2}, {2, 5, 5, 3}, {2, 25, 2}})
    CHECK(refusal([&] {
            sample(image({2, 3, 4, 4}), image(grid));
          }) == concat("sample_bilinear: x is (2, 3, 4, 4), the grid is ", grid, ", wanted (2, h, w, 2)"));
  CHECK(refusal([&] {
          sample(image({2, 3, 4, 4}, DType::BF16), image({2, 5, 5, 2}, DType::BF16));
        }) == "sample_bilinear: x is BF16, the grid is BF16, wanted F32");
  CHECK(sample_bilinear(image({2, 3, 4, 4}), image({2, 0, 5, 2}), SamplePadding::Zeros).shape() ==
        Shape{2, 3, 0, 5});
}

// PyTorch's values and gradients, made by tests/golden/make_sampling.py.
void check_golden(const TensorFile& file, const std::string& name, DType dtype, Device device) {
  CAPTURE(name);
  CAPTURE(name_of(dtype));
  const auto get = [&](const char* part) { return file.tensor(name + part).to(dtype).to(device); };
  const auto check = [&](const char* part, const Tensor& found) {
    CAPTURE(part);
    const Tensor expected = file.tensor(name + part), y = found.to(cpu_device).to(DType::F64);
    REQUIRE(y.shape() == expected.shape());
    const double most = dtype == DType::F64 ? 1e-12 : 2e-6;
    CHECK(error_ratio(y.span<double>(), expected.span<double>(), dtype, 1) * tolerance_factor(dtype) *
              epsilon(dtype) <=
          most);
  };
  const auto has = [&](const char* word) { return name.find(word) != std::string::npos; };
  const Var x = Var::leaf(get(".x")), grid = has("sample.") ? Var::leaf(get(".grid")) : Var();
  const Tensor dy = get(".dy");
  const Var y = has("sample.")
                    ? sample_bilinear(x, grid, has("border") ? SamplePadding::Border : SamplePadding::Zeros,
                                      has("corners"))
                    : resize_bilinear(x, dy.dim(2), dy.dim(3), has("corners"));
  backward(y, dy);
  check(".y", y.value);
  check(".dx", x.grad());
  if (has("sample.")) check(".dgrid", grid.grad());
}

TEST_CASE("resize_bilinear and sample_bilinear equal PyTorch's, forward and backward") {
  const TensorFile file = TensorFile::open(golden_path("sampling.safetensors"));
  int count = 0;
  for (const auto& [entry, info] : file.entries()) {
    if (!entry.ends_with(".dy")) continue;
    const std::string name = entry.substr(0, entry.size() - 3);
    check_golden(file, name, DType::F64, cpu_device);
    for (const CpuIsa path : {CpuIsa::Plain, CpuIsa::Avx2, CpuIsa::Avx512}) {
      if (!available(path)) continue;
      const PathScope scope(path);
      check_golden(file, name, DType::F32, cpu_device);
    }
    if (cuda::available()) check_golden(file, name, DType::F32, cuda_device);
    ++count;
  }
  CHECK(count == 22);
}

// Two images of 2 x 2; three places each.
const std::vector<float> kImages = {1, 2, 3, 4, 5, 6, 7, 8};
Tensor coordinates(std::vector<float> of_second) {
  std::vector<float> grid = {0, 0, 0, 0, 0, 0};
  grid.insert(grid.end(), of_second.begin(), of_second.end());
  return Tensor::from(grid, {2, 1, 3, 2});
}

TEST_CASE("sample_bilinear names a coordinate that is NaN") {
  const Var x(Tensor::from(kImages, {2, 1, 2, 2}));
  for (const SamplePadding padding : {SamplePadding::Zeros, SamplePadding::Border})
    for (const auto& place : {std::pair{kNan, 0.0f}, {0.0f, kNan}})
      CHECK(refusal([&] {
              sample_bilinear(x, Var(coordinates({0, 0, place.first, place.second, 0, 0})), padding);
            }) == "sample_bilinear: coordinate 1 of image 1 is NaN");
}

// y, dx and dgrid of the second image on a device.
struct Sampled {
  Tensor y, dx, dgrid;
};
Sampled sample_far(std::vector<float> grid, SamplePadding padding, Device device) {
  const Var x = Var::leaf(Tensor::from(kImages, {2, 1, 2, 2}).to(device));
  const Var g = Var::leaf(coordinates(std::move(grid)).to(device));
  const Var y = sample_bilinear(x, g, padding);
  backward(y, Tensor::from(std::vector<float>(6, 1.0f), {2, 1, 1, 3}).to(device));
  return {y.value.to(cpu_device).rows(1, 2), x.grad().to(cpu_device).rows(1, 2),
          g.grad().to(cpu_device).rows(1, 2)};
}
std::vector<float> values(const Tensor& t) { return {t.span<float>().begin(), t.span<float>().end()}; }

std::vector<Device> devices() {
  std::vector<Device> all{cpu_device};
  if (cuda::available()) all.push_back(cuda_device);
  return all;
}

TEST_CASE("sample_bilinear far outside: zeros, or the border") {
  for (const Device device : devices()) {
    const std::vector<float> far = {kInf, 0, -1e30f, 1e30f, -kInf, -3e38f};
    const Sampled zeros = sample_far(far, SamplePadding::Zeros, device);
    CHECK(values(zeros.y) == std::vector<float>{0, 0, 0});
    CHECK(values(zeros.dx) == std::vector<float>{0, 0, 0, 0});
    CHECK(values(zeros.dgrid) == std::vector<float>(6, 0.0f));
    const Sampled border = sample_far(far, SamplePadding::Border, device);
    CHECK(values(border.y) == std::vector<float>{7, 7, 5});  // right of the middle, lower left, upper left
    CHECK(values(border.dx) == std::vector<float>{1, 0.5f, 1, 0.5f});
    CHECK(values(border.dgrid) ==
          std::vector<float>{0, 2, 0, 0, 0, 0});  // only the first moves, down the border
  }
}

TEST_CASE("sample_bilinear: the only element of an image is its corners, however far") {
  for (const Device device : devices()) {
    const Var x = Var::leaf(Tensor::from(std::vector<float>{3}, {1, 1, 1, 1}).to(device));
    const Var grid(Tensor::from(std::vector<float>{kInf, -kInf, 0.5f, 1e35f}, {1, 1, 2, 2}).to(device));
    for (const SamplePadding padding : {SamplePadding::Zeros, SamplePadding::Border})
      CHECK(values(sample_bilinear(x, grid, padding, true).value.to(cpu_device)) == std::vector<float>{3, 3});
  }
}

TEST_CASE("sample_bilinear on CUDA gives NaN where a coordinate is NaN, and nowhere else") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const SamplePadding padding : {SamplePadding::Zeros, SamplePadding::Border}) {
    const Sampled s = sample_far({kNan, 0, 0, 0, 0, kNan}, padding, cuda_device);
    CHECK(std::isnan(values(s.y)[0]));
    CHECK(values(s.y)[1] == 6.5f);
    CHECK(std::isnan(values(s.y)[2]));
    CHECK(values(s.dx) == std::vector<float>(4, 0.25f));
    for (size_t i = 0; i < 6; ++i) CHECK(std::isnan(values(s.dgrid)[i]) == (i / 2 != 1));
  }
}

}  // namespace
