#include "tools/bench/image_cases.h"

#include <utility>

namespace qfm {
namespace {

struct Layer {
  int64_t in, size, out, kernel, stride;  // size: height and width of the image that it reads
};
// Each shape once, in the order of the network.
constexpr Layer kResNet50[] = {
    {3, 224, 64, 7, 2},     {64, 56, 64, 1, 1},    {64, 56, 64, 3, 1},    {64, 56, 256, 1, 1},
    {256, 56, 64, 1, 1},    {256, 56, 128, 1, 1},  {128, 56, 128, 3, 2},  {128, 28, 512, 1, 1},
    {256, 56, 512, 1, 2},   {512, 28, 128, 1, 1},  {128, 28, 128, 3, 1},  {512, 28, 256, 1, 1},
    {256, 28, 256, 3, 2},   {256, 14, 1024, 1, 1}, {512, 28, 1024, 1, 2}, {1024, 14, 256, 1, 1},
    {256, 14, 256, 3, 1},   {1024, 14, 512, 1, 1}, {512, 14, 512, 3, 2},  {512, 7, 2048, 1, 1},
    {1024, 14, 2048, 1, 2}, {2048, 7, 512, 1, 1},  {512, 7, 512, 3, 1}};
struct Depthwise {
  int64_t channels, size, kernel, stride;
};
constexpr Depthwise kEfficientNetLite0[] = {
    {32, 112, 3, 1}, {96, 112, 3, 2}, {144, 56, 3, 1}, {144, 56, 5, 2}, {240, 28, 5, 1}, {240, 28, 3, 2},
    {480, 14, 3, 1}, {480, 14, 5, 1}, {672, 14, 5, 1}, {672, 14, 5, 2}, {1152, 7, 5, 1}, {1152, 7, 3, 1}};

// What each convolution's result goes through in training.
struct Norm {
  int64_t channels, size;
  Activation activation;
  bool residual = false;
};
constexpr Norm kNorms[] = {
    {64, 112, Activation::Relu},       {64, 56, Activation::Relu},   {256, 56, Activation::Relu, true},
    {512, 28, Activation::Relu, true}, {512, 7, Activation::Relu},   {2048, 7, Activation::Relu, true},
    {32, 112, Activation::Relu6},      {96, 112, Activation::Relu6}, {144, 56, Activation::Relu6},
    {24, 56, Activation::None},        {240, 28, Activation::Relu6}, {480, 14, Activation::Relu6},
    {1152, 7, Activation::Relu6},      {320, 7, Activation::None}};

std::string norm_name(const Norm& norm) {
  return std::string("batchnorm") + (norm.residual ? "_residual" : "") +
         (norm.activation == Activation::Relu6  ? "_relu6"
          : norm.activation == Activation::Relu ? "_relu"
                                                : "");
}
std::string window_name(int64_t kernel, int64_t stride) {
  const std::string size = std::to_string(kernel);
  return size + "x" + size + (stride > 1 ? "/" + std::to_string(stride) : "");
}
Window window(int64_t kernel, int64_t stride) { return {kernel, stride, kernel / 2, kernel / 2}; }

}  // namespace

std::vector<KernelCase> image_cases(int64_t batch, DType dtype) {
  std::vector<NamedConv> all;
  for (const auto& [in, size, out, kernel, stride] : kResNet50) {
    const Window w = window(kernel, stride);
    all.push_back({"conv" + window_name(kernel, stride), {batch, in, size, size, out, 1, w, w}});
  }
  for (const auto& [channels, size, kernel, stride] : kEfficientNetLite0) {
    const Window w = window(kernel, stride);
    all.push_back(
        {"dwconv" + window_name(kernel, stride), {batch, channels, size, size, channels, channels, w, w}});
  }
  std::vector<NamedNorm> norms;
  for (const Norm& norm : kNorms)
    norms.push_back({norm_name(norm),
                     {batch, norm.channels, norm.size * norm.size, 1e-5, norm.activation},
                     norm.residual});
  return image_kernel_cases({.batch = batch,
                             .tokens = 0,
                             .patches = 0,
                             .width = 0,
                             .convolutions = all,
                             .samplings = {{"up", batch, 64, 56, 56, 112, 112},
                                           {"same", batch, 64, 56, 56, 56, 56},
                                           {"down", batch, 64, 112, 112, 56, 56},
                                           {"far", batch, 64, 14, 14, 112, 112},
                                           {"rgb", batch, 3, 224, 224, 384, 384}},
                             .norms = norms,
                             .pools = {{"3x3/2", {batch * 64, 112, 112, window(3, 2), window(3, 2)}}},
                             .adaptive_pools = {{"global_pool", {batch * 2048, 7, 7, 1, 1}},
                                                {"global_pool", {batch * 1280, 7, 7, 1, 1}}}},
                            dtype);
}

}  // namespace qfm
