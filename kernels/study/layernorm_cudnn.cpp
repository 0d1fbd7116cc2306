#include "kernels/study/layernorm_cudnn.h"

#include <utility>

#include "kernels/vendor/cudnn_graph.h"
#include "kernels/vendor/vendor_case.h"

namespace qfm::cudnn {
namespace {

constexpr const char* kWhat = "layer normalisation";

struct NormGraph {
  Graph graph;
  Graph::Tensor x, y, w, b, mean, rstd, eps;

  NormGraph(int64_t rows, int64_t cols) {
    const Dims area{rows, cols, 1, 1}, row{1, cols, 1, 1}, column{rows, 1, 1, 1},
        strides{cols, 1, cols, cols};
    x = graph.tensor(CUDNN_DATA_BFLOAT16, area, strides),
    y = graph.tensor(CUDNN_DATA_BFLOAT16, area, strides);
    w = graph.tensor(CUDNN_DATA_BFLOAT16, row, strides), b = graph.tensor(CUDNN_DATA_BFLOAT16, row, strides);
    mean = graph.tensor(CUDNN_DATA_FLOAT, column, {1, 1, 1, 1});
    rstd = graph.tensor(CUDNN_DATA_FLOAT, column, {1, 1, 1, 1});
    eps = graph.scalar();
    graph.layernorm(y, mean, rstd, x, w, b, eps);
  }
};

}  // namespace

bool layernorm_forward_by(Cuda cuda, int64_t rows, int64_t cols, bf16* y, float* mean, float* rstd,
                          const bf16* x, const bf16* w, const bf16* b, double eps) {
  if (!aligned({y, mean, rstd, x, w, b}) || rows <= 0 || cols <= 0 || !handle()) return false;
  const auto& [g, plan] =
      *cached_plan<NormGraph>(std::pair(rows, cols), kWhat, [&] { return NormGraph(rows, cols); });
  if (!plan) return false;
  const auto e = static_cast<float>(eps);
  const Plan::Argument arguments[] = {{g.x, x},       {g.w, w},       {g.b, b},   {g.y, y},
                                      {g.mean, mean}, {g.rstd, rstd}, {g.eps, &e}};
  return served_by_vendor([&] { return concat("layernorm BF16 ", rows, "x", cols); },
                          [&] {
                            plan->run(cuda, arguments);
                            return true;
                          });
}

size_t build_layernorm(int64_t rows, int64_t cols, const std::string& device_json) {
  return EngineConfigs(NormGraph(rows, cols).graph, device_from_json(device_json), kWhat).deterministic();
}

}  // namespace qfm::cudnn
