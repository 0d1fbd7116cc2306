// Elementwise functions on CUDA; the contracts are in elementwise.h.
//
// Maths:  add y = a + b;  scale y = c x;  sigmoid y = 1 / (1 + exp(-x)), dx = dy y (1 - y);  layerscale
// y = r + gamma x, dx = gamma dy, dgamma = sum over rows of dy x;  gate y = g x, dx = g dy, dg = sum over
// tokens of dy x;  copy_tokens and casts move values.
//
// Cost, for n elements of e bytes (n = 256 x 197 x 384, bf16: 38.7 MB for one pass, 12 us at 3.35 TB/s):
// every input is read and every output written once:
//   scale, sigmoid, cast, copy, gate       2 n e  floor 23 us
//   add, layerscale, any backward          3 n e  floor 35 us
// and 1 to 4 FLOPs an element (sigmoid: about 15), 0.1 GFLOP and far below the memory's time. So what counts
// is 16 bytes a thread and access; what is repeated (gamma, a position, a gate) stays in a thread's registers
// or the L1 cache.
#include "kernels/common/cuda_loops.cuh"
#include "kernels/pointwise/elementwise.h"

namespace qfm {
namespace {

struct Add {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Times {
  float factor;
  __device__ float operator()(float x) const { return factor * x; }
};
struct TimesAt {
  const float* factor;
  __device__ float operator()(float x) const { return *factor * x; }
};
struct Same {
  __device__ float operator()(float x) const { return x; }
};
struct Sigmoid {
  __device__ float operator()(float x) const {
    const float e = expf(-fabsf(x));  // at most 1 on either side
    return (x < 0 ? e : 1.0f) / (1.0f + e);
  }
};
struct SigmoidGrad {
  __device__ float operator()(float dy, float y) const { return dy * y * (1.0f - y); }
};

// What add_broadcast, layerscale and gate do with x, the repeated p and the residual r.
struct PlusRepeated {
  __device__ float operator()(float x, float p, float) const { return x + p; }
};
struct TimesRepeated {
  __device__ float operator()(float x, float p, float r) const { return r + p * x; }
};

// y[b, t, d] = f(x[b, t, d], p[b, d], residual[b, t, d]); residual may be null: zeros. A thread keeps its p.
template <int V, class F, class T>
__global__ void __launch_bounds__(kThreads)
    repeat_kernel(F f, T* y, const T* x, const T* p, const T* residual, int64_t batch, int64_t tokens,
                  int64_t dim) {
  const int64_t d = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * V;
  if (d >= dim) return;  // no barrier follows
  const int64_t first = int64_t{blockIdx.y} * blockDim.y + threadIdx.y,
                step = int64_t{gridDim.y} * blockDim.y;
  for (int64_t b = blockIdx.z; b < batch; b += gridDim.z) {
    const Pack<T, V> ps = load<V>(p + b * dim + d);
    for (int64_t t = first; t < tokens; t += step) {
      const int64_t at = (b * tokens + t) * dim + d;
      Pack<T, V> ys = load<V>(x + at), rs{};
      if (residual) rs = load<V>(residual + at);
      for (int k = 0; k < V; ++k)
        ys.at[k] =
            T(f(static_cast<float>(ys.at[k]), static_cast<float>(ps.at[k]), static_cast<float>(rs.at[k])));
      store<V>(y + at, ys);
    }
  }
}

template <class F, class T>
void repeat(Cuda cuda, F f, T* y, const T* x, const T* p, const T* residual, int64_t batch, int64_t tokens,
            int64_t dim) {
  if (batch == 0 || tokens == 0 || dim == 0) return;
  with_lanes<T>(dim, {y, x, p, residual}, [&]<int V>(Lanes<V>) {
    const dim3 block = matrix_block(dim / V);
    const dim3 grid(static_cast<unsigned>(ceil_div(dim / V, block.x)), grid_size(ceil_div(tokens, block.y)),
                    grid_size(batch));
    launch<repeat_kernel<V, F, T>>(grid, block, 0, cuda.stream, f, y, x, p, residual, batch, tokens, dim);
  });
}

// A row of layerscale's and the gate's backward: dx = gamma dy is written, dy x goes into the sum. The gammas
// of two slots are gamma_step apart.
template <class T>
struct ScaleBackward {
  T* dx;
  const T *dy, *x, *gamma;
  int64_t cols, gamma_step;
  template <int V>
  __device__ void add(float (&sum)[V], int64_t slot, int64_t row, int64_t column) const {
    const int64_t at = row * cols + column;
    const Pack<T, V> dys = load<V>(dy + at), xs = load<V>(x + at),
                     gs = load<V>(gamma + slot * gamma_step + column);
    Pack<T, V> dxs;
    for (int k = 0; k < V; ++k) {
      const float d = static_cast<float>(dys.at[k]);
      dxs.at[k] = T(static_cast<float>(gs.at[k]) * d);
      sum[k] = fmaf(d, static_cast<float>(xs.at[k]), sum[k]);
    }
    store<V>(dx + at, dxs);
  }
};

template <class T, int V>
__global__ void __launch_bounds__(kThreads) copy_tokens_kernel(TokenCopy s, T* dst, const T* src) {
  for (int64_t b = blockIdx.y; b < s.batch; b += gridDim.y) {
    const T* from = src + ((s.repeat_src ? 0 : b * s.src_tokens) + s.src_at) * s.dim;
    T* to = dst + (b * s.dst_tokens + s.dst_at) * s.dim;
    const int64_t first = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * V;
    for (int64_t i = first; i < s.count * s.dim; i += int64_t{gridDim.x} * kThreads * V)
      store<V>(to + i, load<V>(from + i));
  }
}

}  // namespace

template <class T>
void add(Cuda cuda, T* y, const T* a, const T* b, int64_t n) {
  map(cuda, Add{}, n, y, a, b);
}

template <class T>
void scale(Cuda cuda, T* y, const T* x, double factor, int64_t n) {
  map(cuda, Times{static_cast<float>(factor)}, n, y, x);
}

template <class T>
void scale_by(Cuda cuda, T* y, const T* x, const acc<T>* factor, int64_t n) {
  map(cuda, TimesAt{factor}, n, y, x);
}

template <class To, class From>
void cast(Cuda cuda, To* dst, const From* src, int64_t n) {
  map(cuda, Same{}, n, dst, src);
}

template <class T>
void add_broadcast(Cuda cuda, T* y, const T* x, const T* p, int64_t outer, int64_t inner) {
  repeat(cuda, PlusRepeated{}, y, x, p, static_cast<const T*>(nullptr), 1, outer, inner);
}

template <class T>
void sigmoid_forward(Cuda cuda, T* y, const T* x, int64_t n) {
  map(cuda, Sigmoid{}, n, y, x);
}

template <class T>
void sigmoid_backward(Cuda cuda, T* dx, const T* dy, const T* y, int64_t n) {
  map(cuda, SigmoidGrad{}, n, dx, dy, y);
}

template <class T>
void layerscale_forward(Cuda cuda, T* y, const T* x, const T* gamma, const T* residual, int64_t rows,
                        int64_t cols) {
  repeat(cuda, TimesRepeated{}, y, x, gamma, residual, 1, rows, cols);
}

template <class T>
void layerscale_backward(Cuda cuda, T* dx, acc<T>* dgamma, const T* dy, const T* x, const T* gamma,
                         int64_t rows, int64_t cols) {
  if (cols == 0) return;
  with_lanes<T>(cols, {dx, dy, x, gamma}, [&]<int V>(Lanes<V>) {
    column_sums_of_all<V>(cuda, ScaleBackward<T>{dx, dy, x, gamma, cols, 0}, dgamma, rows, cols);
  });
}

template <class T>
void gate_forward(Cuda cuda, T* y, const T* x, const T* g, int64_t batch, int64_t tokens, int64_t dim) {
  repeat(cuda, TimesRepeated{}, y, x, g, static_cast<const T*>(nullptr), batch, tokens, dim);
}

template <class T>
void gate_backward(Cuda cuda, T* dx, T* dg, const T* dy, const T* x, const T* g, int64_t batch,
                   int64_t tokens, int64_t dim) {
  if (batch == 0 || dim == 0) return;
  with_lanes<T>(dim, {dx, dy, x, g}, [&]<int V>(Lanes<V>) {
    column_sums<V>(cuda, ScaleBackward<T>{dx, dy, x, g, dim, dim}, dg, batch * tokens, tokens, batch, dim);
  });
}

template <class T>
void copy_tokens(Cuda cuda, TokenCopy s, T* dst, const T* src) {
  if (s.batch == 0 || s.count == 0 || s.dim == 0) return;
  with_lanes<T>(s.dim, {dst, src}, [&]<int V>(Lanes<V>) {
    const dim3 grid(
        static_cast<unsigned>(std::min<int64_t>(ceil_div(s.count * s.dim, kThreads * V), 1 << 20)),
        grid_size(s.batch));
    launch<copy_tokens_kernel<T, V>>(grid, kThreads, 0, cuda.stream, s, dst, src);
  });
}

#define QFM_INSTANTIATE(T)                                                                              \
  template void add(Cuda, T*, const T*, const T*, int64_t);                                             \
  template void scale(Cuda, T*, const T*, double, int64_t);                                             \
  template void scale_by(Cuda, T*, const T*, const float*, int64_t);                                    \
  template void cast(Cuda, T*, const float*, int64_t);                                                  \
  template void cast(Cuda, T*, const bf16*, int64_t);                                                   \
  template void add_broadcast(Cuda, T*, const T*, const T*, int64_t, int64_t);                          \
  template void sigmoid_forward(Cuda, T*, const T*, int64_t);                                           \
  template void sigmoid_backward(Cuda, T*, const T*, const T*, int64_t);                                \
  template void layerscale_forward(Cuda, T*, const T*, const T*, const T*, int64_t, int64_t);           \
  template void layerscale_backward(Cuda, T*, acc<T>*, const T*, const T*, const T*, int64_t, int64_t); \
  template void gate_forward(Cuda, T*, const T*, const T*, int64_t, int64_t, int64_t);                  \
  template void gate_backward(Cuda, T*, T*, const T*, const T*, const T*, int64_t, int64_t, int64_t);   \
  template void copy_tokens(Cuda, TokenCopy, T*, const T*);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm
