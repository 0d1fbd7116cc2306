#include "kernels/image/patch_embed_cudnn.h"

#include <tuple>

#include "kernels/vendor/cudnn_graph.h"
#include "kernels/vendor/kernel_policy.h"
#include "kernels/vendor/vendor_case.h"

namespace qfm::cudnn {
namespace {

constexpr const char* kWhat = "patch embedding";

// cuDNN's dimensions are (batch, channels, height, width); our tokens, row by row, are its pixels with
// channels last.
struct PatchGraph {
  Graph graph;
  Graph::Tensor y, images, w, b;

  PatchGraph(const PatchShape& s, int64_t width) {
    const int64_t rows = s.height / s.patch, columns = s.width / s.patch, area = s.height * s.width,
                  taps = s.patch * s.patch;
    const Dims out{s.batch, width, rows, columns},
        channels_last{rows * columns * width, 1, columns * width, width};
    images = graph.tensor(CUDNN_DATA_BFLOAT16, {s.batch, s.channels, s.height, s.width},
                          {s.channels * area, area, s.width, 1});
    w = graph.tensor(CUDNN_DATA_BFLOAT16, {width, s.channels, s.patch, s.patch},
                     {s.channels * taps, taps, s.patch, 1});
    b = graph.tensor(CUDNN_DATA_BFLOAT16, {1, width, 1, 1}, {width, 1, width, width});
    y = graph.tensor(CUDNN_DATA_BFLOAT16, out, channels_last);
    const Graph::Tensor products = graph.between(CUDNN_DATA_FLOAT, out, channels_last);
    graph.convolution(products, images, w, {.strides = {s.patch, s.patch}});
    graph.pointwise(CUDNN_POINTWISE_ADD, y, products, b);
  }
};

std::string key_of(const PatchShape& s, int64_t width) {
  return concat("patch_embed BF16 ", s.batch, "x", s.channels, "x", s.height, "x", s.width, " p", s.patch,
                " d", width);
}

}  // namespace

bool patch_embed_by(Cuda cuda, const PatchShape& s, int64_t width, bf16* y, const bf16* images, const bf16* w,
                    const bf16* b) {
  if (!aligned({y, images, w, b}) || s.batch <= 0 || s.tokens() <= 0 || s.channels <= 0 || width <= 0 ||
      !handle())
    return false;
  const auto& [g, plan] =
      *cached_plan<PatchGraph>(std::tuple(s.batch, s.channels, s.height, s.width, s.patch, width), kWhat,
                               [&] { return PatchGraph(s, width); });
  if (!plan) return false;
  const Plan::Argument arguments[] = {{g.images, images}, {g.w, w}, {g.b, b}, {g.y, y}};
  return served_by_vendor([&] { return key_of(s, width); },
                          [&] {
                            plan->run(cuda, arguments);
                            return true;
                          });
}

bool patch_embed(Cuda cuda, const PatchShape& s, int64_t width, bf16* y, const bf16* images, const bf16* w,
                 const bf16* b) {
  return choose([&] { return key_of(s, width); }, false) == Choice{true, 0} &&
         patch_embed_by(cuda, s, width, y, images, w, b);
}

size_t build_patch_embed(const PatchShape& s, int64_t width, const std::string& device_json) {
  return EngineConfigs(PatchGraph(s, width).graph, device_from_json(device_json), kWhat).deterministic();
}

}  // namespace qfm::cudnn
