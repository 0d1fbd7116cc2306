#include "kernels/conv/conv2d_cudnn.h"

#include <array>

#include "kernels/vendor/cudnn_graph.h"
#include "kernels/vendor/kernel_policy.h"
#include "kernels/vendor/vendor_case.h"

namespace qfm::cudnn {
namespace {

constexpr const char* name_of(ConvDirection direction) {
  return direction == ConvDirection::Forward ? "conv2d_forward"
         : direction == ConvDirection::Dx    ? "conv2d_dx"
                                             : "conv2d_dw";
}

Dims dense(const Dims& d) { return {d[1] * d[2] * d[3], d[2] * d[3], d[3], 1}; }

// Of a gradient each tensor stands for its own gradient. Our images are as cuDNN names its dimensions.
struct ConvGraph {
  Graph graph;
  Graph::Tensor y, x, w;

  ConvGraph(ConvDirection direction, const ConvShape& s, DType type) {
    const cudnnDataType_t element = type == DType::BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    const auto tensor = [&](cudnnDataType_t of, const Dims& dims) {
      return graph.tensor(of, dims, dense(dims));
    };
    y = tensor(element, {s.batch, s.out_channels, s.out_height(), s.out_width()});
    x = tensor(element, {s.batch, s.in_channels, s.height, s.width});
    w = tensor(direction == ConvDirection::Dw ? CUDNN_DATA_FLOAT : element,
               {s.out_channels, s.group_in(), s.y.size, s.x.size});
    graph.true_f32 = type == DType::F32 && !tf32_wanted();
    const Graph::Windows windows{{s.y.stride, s.x.stride},
                                 {s.y.pad_begin, s.x.pad_begin},
                                 {s.y.pad_end, s.x.pad_end},
                                 {s.y.dilation, s.x.dilation}};
    if (direction == ConvDirection::Forward) graph.convolution(y, x, w, windows);
    else if (direction == ConvDirection::Dx) graph.convolution_dx(x, y, w, windows);
    else graph.convolution_dw(w, y, x, windows);
  }
};

// Everything that decides which plan serves.
using Key = std::array<int64_t, 18>;
Key key_of(ConvDirection direction, const ConvShape& s, DType type) {
  return {static_cast<int64_t>(direction),
          static_cast<int64_t>(type),
          s.batch,
          s.in_channels,
          s.height,
          s.width,
          s.out_channels,
          s.groups,
          s.y.size,
          s.y.stride,
          s.y.pad_begin,
          s.y.pad_end,
          s.y.dilation,
          s.x.size,
          s.x.stride,
          s.x.pad_begin,
          s.x.pad_end,
          s.x.dilation};
}

bool chosen(ConvDirection direction, const ConvShape& s, DType type) {
  return choose([&] { return conv2d_key(direction, s, type); }, false) == Choice{true, 0};
}

}  // namespace

std::string conv2d_key(ConvDirection direction, const ConvShape& s, DType type) {
  const auto axis = [](const Window& w) {
    return concat(w.size, "/", w.stride, " p", w.pad_begin, ",", w.pad_end, " d", w.dilation);
  };
  return concat(name_of(direction), " ", qfm::name_of(type), " ", s.batch, "x", s.in_channels, "x", s.height,
                "x", s.width, " o", s.out_channels, " g", s.groups, " y", axis(s.y), " x", axis(s.x));
}

template <class T>
bool conv2d_by(Cuda cuda, ConvDirection direction, const ConvShape& s, const void* y, const void* x,
               const void* w) {
  if (!aligned({y, x, w}) || s.batch <= 0 || !handle()) return false;
  const DType type = dtype_of<T>;
  const auto& [g, plan] = *cached_plan<ConvGraph>(key_of(direction, s, type), name_of(direction),
                                                  [&] { return ConvGraph(direction, s, type); });
  if (!plan) return false;
  const Plan::Argument arguments[] = {{g.y, y}, {g.x, x}, {g.w, w}};
  return served_by_vendor([&] { return conv2d_key(direction, s, type); },
                          [&] {
                            plan->run(cuda, arguments);
                            return true;
                          });
}

template <class T>
bool conv2d_forward(Cuda cuda, const ConvShape& s, T* y, const T* x, const T* w, const ConvEpilogue<T>& e) {
  return !e.scale && !e.shift && !e.residual && e.activation == Activation::None &&
         chosen(ConvDirection::Forward, s, dtype_of<T>) &&
         conv2d_by<T>(cuda, ConvDirection::Forward, s, y, x, w);
}
template <class T>
bool conv2d_dx(Cuda cuda, const ConvShape& s, T* dx, const T* dy, const T* w) {
  return chosen(ConvDirection::Dx, s, dtype_of<T>) && conv2d_by<T>(cuda, ConvDirection::Dx, s, dy, dx, w);
}
template <class T>
bool conv2d_dw(Cuda cuda, const ConvShape& s, acc<T>* dw, acc<T>* db, const T* dy, const T* x) {
  return !db && chosen(ConvDirection::Dw, s, dtype_of<T>) &&
         conv2d_by<T>(cuda, ConvDirection::Dw, s, dy, x, dw);
}

size_t build_conv2d(ConvDirection direction, const ConvShape& s, DType type, const std::string& device_json) {
  return EngineConfigs(ConvGraph(direction, s, type).graph, device_from_json(device_json), name_of(direction))
      .deterministic();
}

#define QFM_INSTANTIATE(T)                                                                                  \
  template bool conv2d_by<T>(Cuda, ConvDirection, const ConvShape&, const void*, const void*, const void*); \
  template bool conv2d_forward(Cuda, const ConvShape&, T*, const T*, const T*, const ConvEpilogue<T>&);     \
  template bool conv2d_dx(Cuda, const ConvShape&, T*, const T*, const T*);                                  \
  template bool conv2d_dw<T>(Cuda, const ConvShape&, acc<T>*, acc<T>*, const T*, const T*);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm::cudnn
