// Batch normalisation on CUDA; the contract is in batchnorm.h.
//
// Maths, for a channel of n elements cut in slices of at most 4096, with m_s the mean of a slice:
//   q_s = sum (x - m_s)^2,  mean = sum n_s m_s / n,  var = (sum q_s + sum n_s (m_s - mean)^2) / n
// A block holds its slice in registers, so that the second sum reads nothing; slices are merged in double, in order.
// Backward: slices' sums of dv and dv (x - mean), merged in double, then
//   dx = a dv + b (x - mean) + c,  a = gain rstd,  b = -a rstd dgain / n,  c = -a dbias / n
//
// Cost, for B x C planes of P elements of e bytes (64 x 256 x 56 x 56, bf16, 3.35 TB/s: 103 MB an image batch):
//   forward   reads x twice, writes y: 3 B C P e (308 MB: floor 92 us)
//   backward  reads dy and x twice, writes dx: 5 B C P e (514 MB: 153 us); with a residual 7
// The sums need all of a channel before its first result, and 100 MB do not stay in a cache of 50.
#include "engine/base/error.h"
#include "kernels/norm/batchnorm.cuh"

namespace qfm {
namespace {

struct SliceMoments {
  double mean, squares;
};
struct SliceSums {
  float sum, sum_x;
};

template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    batchnorm_moments_kernel(ChannelSlices s, SliceMoments* parts, const T* x) {
  SHARED(float, first, [kNormWarps]);
  SHARED(float, second, [kNormWarps]);
  SHARED(float, third, [kNormWarps]);
  float held[kHeld] = {}, sum = 0, rest = 0, squares = 0;
  const auto size = static_cast<float>(s.size(s.slice()));
  s.for_packs<V>([&](int k, int64_t at) {
    const Pack<T, V> xs = load<V>(x + at);
    for (int i = 0; i < V; ++i) sum += held[k * V + i] = static_cast<float>(xs.at[i]);
  });
  const float mean = norm_block_sum(sum, first) / size;
  s.for_packs<V>([&](int k, int64_t) {
    for (int i = 0; i < V; ++i) {
      const float d = held[k * V + i] - mean;
      rest += d, squares = fmaf(d, d, squares);
    }
  });
  rest = norm_block_sum(rest, second), squares = norm_block_sum(squares, third);
  if (threadIdx.x > 0) return;
  const double more = static_cast<double>(rest) / size;  // what rounding took off the mean
  parts[blockIdx.x] = {mean + more, fmax(0.0, squares - more * more * size)};
}

template <class T>
struct ForwardEnd {
  const SliceMoments* parts;
  float *mean, *rstd, *scale, *shift, *running_mean, *running_var;
  const T *gain, *bias;
  double eps, momentum;
};
__device__ inline void move_running(float* running, double momentum, double value) {
  *running = static_cast<float>((1 - momentum) * static_cast<double>(*running) + momentum * value);
}
// A warp a channel: lane l takes the slices l, l + 32, ...
template <class T>
__global__ void __launch_bounds__(kThreads) batchnorm_forward_end_kernel(ChannelSlices s, ForwardEnd<T> p) {
  const int64_t c = int64_t{blockIdx.x} * kNormWarps + warp_id();
  if (c >= s.channels) return;  // a whole warp; no barrier follows
  const SliceMoments* parts = p.parts + c * s.slices;
  const double n = s.n;
  double sum = 0, squares = 0;
  for (uint32_t i = lane_id(); i < s.slices; i += 32) sum += parts[i].mean * s.size(i);
  const double mean = warp_sum(sum) / n;
  for (uint32_t i = lane_id(); i < s.slices; i += 32) {
    const double distance = parts[i].mean - mean;
    squares += parts[i].squares + distance * distance * s.size(i);
  }
  squares = warp_sum(squares);
  if (lane_id() > 0) return;
  const double r = 1 / sqrt(squares / n + p.eps),
               scale = static_cast<double>(static_cast<float>(p.gain[c])) * r;
  const auto rounded = static_cast<float>(mean);
  p.mean[c] = rounded, p.rstd[c] = static_cast<float>(r), p.scale[c] = static_cast<float>(scale);
  p.shift[c] = static_cast<float>(static_cast<float>(p.bias[c]) - (mean - rounded) * scale);
  if (p.running_mean) move_running(p.running_mean + c, p.momentum, mean);
  if (p.running_var) move_running(p.running_var + c, p.momentum, squares / fmax(1.0, n - 1));
}

// y = activation(scale (x - center) + shift + residual); center null: 0.
template <Activation a, class T>
struct Apply {
  T* y;
  const T *x, *residual;
  const float *center, *scale, *shift;
  struct At {
    Apply of;
    ChannelLine line;
    template <int V>
    __device__ void run(int64_t i) const {
      const Pack<T, V> xs = load<V>(of.x + i), rs = of.residual ? load<V>(of.residual + i) : Pack<T, V>{};
      float ys[V];
      for (int k = 0; k < V; ++k) {
        const float v = line(static_cast<float>(xs.at[k]));
        ys[k] = activate<a>(of.residual ? v + static_cast<float>(rs.at[k]) : v);
      }
      store<V>(of.y + i, round_pack<T>(ys));
    }
  };
  __device__ At operator()(int64_t c) const { return {*this, {center ? center[c] : 0, scale[c], shift[c]}}; }
};

template <class T>
struct BackwardArrays {
  T *dx, *dresidual;
  const T *dy, *x, *residual, *gain, *bias;
  const float *mean, *rstd;
  __device__ ChannelLine line(int64_t c) const {
    return {mean[c], static_cast<float>(gain[c]) * rstd[c], static_cast<float>(bias[c])};
  }
};

template <Activation a, class T, int V>
__global__ void __launch_bounds__(kThreads)
    batchnorm_sums_kernel(ChannelSlices s, SliceSums* parts, BackwardArrays<T> p) {
  SHARED(float, first, [kNormWarps]);
  SHARED(float, second, [kNormWarps]);
  const ChannelLine line = p.line(s.channel());
  float sum = 0, sum_x = 0;
  s.for_packs<V>([&](int, int64_t at) {
    const Pack<T, V> xs = load<V>(p.x + at), dys = load<V>(p.dy + at),
                     rs = p.residual ? load<V>(p.residual + at) : Pack<T, V>{};
    float dvs[V];
    for (int i = 0; i < V; ++i) {
      const auto x = static_cast<float>(xs.at[i]);
      const float v = p.residual ? line(x) + static_cast<float>(rs.at[i]) : line(x);
      dvs[i] = activate_backward<a>(static_cast<float>(dys.at[i]), v);
      sum += dvs[i], sum_x = fmaf(dvs[i], x - line.center, sum_x);
    }
    if (p.dresidual) store<V>(p.dresidual + at, round_pack<T>(dvs));
  });
  sum = norm_block_sum(sum, first), sum_x = norm_block_sum(sum_x, second);
  if (threadIdx.x == 0) parts[blockIdx.x] = {sum, sum_x};
}

template <class T>
struct BackwardEnd {
  const SliceSums* parts;
  float *dgain, *dbias, *by_x, *rest;
  const T* gain;
  const float* rstd;
  bool fixed;
};
template <class T>
__global__ void __launch_bounds__(kThreads) batchnorm_backward_end_kernel(ChannelSlices s, BackwardEnd<T> p) {
  const int64_t c = int64_t{blockIdx.x} * kNormWarps + warp_id();
  if (c >= s.channels) return;  // a whole warp; no barrier follows
  const SliceSums* parts = p.parts + c * s.slices;
  double sum = 0, sum_x = 0;
  for (uint32_t i = lane_id(); i < s.slices; i += 32) sum += parts[i].sum, sum_x += parts[i].sum_x;
  sum = warp_sum(sum), sum_x = warp_sum(sum_x);
  if (lane_id() > 0) return;
  const double r = p.rstd[c], by_xhat = sum_x * r;
  const double scale = static_cast<double>(static_cast<float>(p.gain[c])) * r;
  p.dgain[c] = static_cast<float>(by_xhat), p.dbias[c] = static_cast<float>(sum);
  p.by_x[c] = p.fixed ? 0 : static_cast<float>(-scale * r * by_xhat / s.n);
  p.rest[c] = p.fixed ? 0 : static_cast<float>(-scale * sum / s.n);
}

// dx = scale dv + by_x (x - mean) + rest.
template <Activation a, class T>
struct Gradient {
  BackwardArrays<T> p;
  const float *by_x, *rest;
  struct At {
    BackwardArrays<T> p;
    ChannelLine line;
    float by_x, rest;
    template <int V>
    __device__ void run(int64_t i) const {
      const Pack<T, V> xs = load<V>(p.x + i), dys = load<V>(p.dy + i);
      float ds[V];
      for (int k = 0; k < V; ++k) {
        const auto x = static_cast<float>(xs.at[k]);
        const float dv = activate_backward<a>(static_cast<float>(dys.at[k]), line(x));
        ds[k] = fmaf(line.scale, dv, fmaf(by_x, x - line.center, rest));
      }
      store<V>(p.dx + i, round_pack<T>(ds));
    }
  };
  __device__ At operator()(int64_t c) const { return {p, p.line(c), by_x[c], rest[c]}; }
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    batchnorm_fold_kernel(int64_t channels, double eps, float* scale, float* shift, float* mean, float* rstd,
                          const T* gain, const T* bias, const float* running_mean, const float* running_var) {
  const int64_t c = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (c >= channels) return;
  const double r = 1 / sqrt(static_cast<double>(running_var[c]) + eps),
               s = static_cast<double>(static_cast<float>(gain[c])) * r;
  scale[c] = static_cast<float>(s);
  shift[c] = static_cast<float>(static_cast<double>(static_cast<float>(bias[c])) -
                                static_cast<double>(running_mean[c]) * s);
  if (mean) mean[c] = running_mean[c];
  if (rstd) rstd[c] = static_cast<float>(r);
}

ChannelSlices slices_of(const BatchNormShape& s) {
  const int64_t n = s.batch * s.places;
  QFM_CHECK(n < int64_t{1} << 31 && s.channels * ceil_div(n, kSlice) < int64_t{1} << 31,
            "batchnorm: ", s.batch, " x ", s.channels, " x ", s.places, " is out of range");
  return {s.channels, s.places, static_cast<uint32_t>(n), static_cast<uint32_t>(ceil_div(n, kSlice))};
}
bool nothing(const BatchNormShape& s) { return s.batch * s.channels * s.places == 0; }

template <class T>
void apply(Cuda cuda, const BatchNormShape& s, T* y, const T* x, const T* residual, const float* center,
           const float* scale, const float* shift) {
  with_lanes<T>(s.places, {static_cast<const T*>(y), x, residual}, [&]<int V>(Lanes<V>) {
    with_activation(s.activation, [&]<Activation a>(Activated<a>) {
      for_plane_packs<V>(cuda, Apply<a, T>{y, x, residual, center, scale, shift}, s);
    });
  });
}

}  // namespace

template <class T>
void batchnorm_forward(Cuda cuda, const BatchNormShape& shape, T* y, acc<T>* mean, acc<T>* rstd,
                       float* running_mean, float* running_var, double momentum, const T* x,
                       const T* residual, const T* gain, const T* bias) {
  if (nothing(shape)) return;
  const ChannelSlices s = slices_of(shape);
  const int64_t blocks = s.channels * s.slices;
  const DeviceScratch parts(blocks * sizeof(SliceMoments)), lines(2 * s.channels * sizeof(float));
  float *scale = lines.as<float>(), *shift = scale + s.channels;
  with_lanes<T>(s.places, {x}, [&]<int V>(Lanes<V>) {
    launch<batchnorm_moments_kernel<T, V>>(blocks, kThreads, 0, cuda.stream, s, parts.as<SliceMoments>(), x);
  });
  launch<batchnorm_forward_end_kernel<T>>(
      ceil_div(s.channels, kNormWarps), kThreads, 0, cuda.stream, s,
      ForwardEnd<T>{parts.as<SliceMoments>(), mean, rstd, scale, shift, running_mean, running_var, gain, bias,
                    shape.eps, momentum});
  apply(cuda, shape, y, x, residual, mean, scale, shift);
}

template <class T>
void batchnorm_backward(Cuda cuda, const BatchNormShape& shape, T* dx, T* dresidual, acc<T>* dgain,
                        acc<T>* dbias, const T* dy, const T* x, const T* residual, const T* gain,
                        const T* bias, const acc<T>* mean, const acc<T>* rstd) {
  if (nothing(shape)) return;
  const ChannelSlices s = slices_of(shape);
  const int64_t blocks = s.channels * s.slices;
  const DeviceScratch parts(blocks * sizeof(SliceSums)), lines(2 * s.channels * sizeof(float));
  float *by_x = lines.as<float>(), *rest = by_x + s.channels;
  BackwardArrays<T> p{dx, dresidual, dy, x, residual, gain, bias, mean, rstd};
  const auto pointers = {static_cast<const T*>(dx), static_cast<const T*>(dresidual), dy, x, residual};
  with_lanes<T>(s.places, pointers, [&]<int V>(Lanes<V>) {
    with_activation(shape.activation, [&]<Activation a>(Activated<a>) {
      launch<batchnorm_sums_kernel<a, T, V>>(blocks, kThreads, 0, cuda.stream, s, parts.as<SliceSums>(), p);
    });
  });
  launch<batchnorm_backward_end_kernel<T>>(
      ceil_div(s.channels, kNormWarps), kThreads, 0, cuda.stream, s,
      BackwardEnd<T>{parts.as<SliceSums>(), dgain, dbias, by_x, rest, gain, rstd, shape.fixed});
  if (dresidual) p.dy = dresidual;  // dv
  with_lanes<T>(s.places, pointers, [&]<int V>(Lanes<V>) {
    with_activation(dresidual ? Activation::None : shape.activation, [&]<Activation a>(Activated<a>) {
      for_plane_packs<V>(cuda, Gradient<a, T>{p, by_x, rest}, shape);
    });
  });
}

template <class T>
void batchnorm_fold(Cuda cuda, int64_t channels, double eps, acc<T>* scale, acc<T>* shift, acc<T>* mean,
                    acc<T>* rstd, const T* gain, const T* bias, const float* running_mean,
                    const float* running_var) {
  if (channels == 0) return;
  launch<batchnorm_fold_kernel<T>>(ceil_div(channels, kThreads), kThreads, 0, cuda.stream, channels, eps,
                                   scale, shift, mean, rstd, gain, bias, running_mean, running_var);
}

template <class T>
void scale_shift_forward(Cuda cuda, const BatchNormShape& shape, T* y, const T* x, const T* residual,
                         const acc<T>* scale, const acc<T>* shift) {
  if (nothing(shape)) return;
  apply<T>(cuda, shape, y, x, residual, nullptr, scale, shift);
}

#define QFM_INSTANTIATE(T)                                                                                   \
  template void batchnorm_forward(Cuda, const BatchNormShape&, T*, acc<T>*, acc<T>*, float*, float*, double, \
                                  const T*, const T*, const T*, const T*);                                   \
  template void batchnorm_backward(Cuda, const BatchNormShape&, T*, T*, acc<T>*, acc<T>*, const T*,          \
                                   const T*, const T*, const T*, const T*, const acc<T>*, const acc<T>*);    \
  template void batchnorm_fold(Cuda, int64_t, double, acc<T>*, acc<T>*, acc<T>*, acc<T>*, const T*,          \
                               const T*, const float*, const float*);                                        \
  template void scale_shift_forward(Cuda, const BatchNormShape&, T*, const T*, const T*, const acc<T>*,      \
                                    const acc<T>*);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm
