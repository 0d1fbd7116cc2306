#include "kernels/norm/batchnorm.h"

#include <array>
#include <cmath>

#include "kernels/common/activate.h"
#include "kernels/common/parallel_loops.h"
#include "kernels/norm/batchnorm_planes.h"

QFM_DECLARE_ISA(template <class T>
                void norm_moments(const NormPlanes& p, double* mean, double* squares, const T* x);
                template <class T> void norm_apply(const NormPlanes& p, T* y, const T* x, const T* residual,
                                                   NormLine<float> line);
                template <class T>
                void norm_gradient_sums(const NormPlanes& p, double* sum, double* sum_x, T* dresidual,
                                        const T* dy, const T* x, const T* residual, NormLine<float> line);
                template <class T> void norm_gradient(const NormPlanes& p, T* dx, const T* dy, const T* x,
                                                      NormLine<float> line, NormGradient<float> gradient);)

namespace qfm {
namespace plain {
namespace {

// f(channel, first element, last element + 1) for every plane, channel after channel.
template <class F>
void for_planes(const NormPlanes& p, F&& f) {
  for (int64_t c = 0; c < p.channels; ++c)
    for (int64_t b = 0; b < p.batch; ++b) {
      const int64_t begin = (b * p.stride + c) * p.places;
      f(c, begin, begin + p.places);
    }
}

// The mean of each channel and the sum of squared deviations from it.
template <class T>
void norm_moments(const NormPlanes& p, double* mean, double* squares, const T* x) {
  const auto n = static_cast<double>(p.batch * p.places);
  std::fill(mean, mean + p.channels, 0.0);
  std::fill(squares, squares + p.channels, 0.0);
  for_planes(p, [&](int64_t c, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) mean[c] += to<double>(x[i]);
  });
  for (int64_t c = 0; c < p.channels; ++c) mean[c] /= n;
  for_planes(p, [&](int64_t c, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      squares[c] += (to<double>(x[i]) - mean[c]) * (to<double>(x[i]) - mean[c]);
  });
}

template <class T>
void norm_apply(const NormPlanes& p, T* y, const T* x, const T* residual, NormLine<acc<T>> line) {
  using A = acc<T>;
  with_activation(p.activation, [&]<Activation a>(Activated<a>) {
    for_planes(p, [&](int64_t c, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const A v = (A(x[i]) - line.center[c]) * line.scale[c] + line.shift[c];
        y[i] = T(activate<a>(residual ? v + A(residual[i]) : v));
      }
    });
  });
}

// sum = sum of dv, sum_x = sum of dv (x - center); dresidual, unless null, is dv.
template <class T>
void norm_gradient_sums(const NormPlanes& p, double* sum, double* sum_x, T* dresidual, const T* dy,
                        const T* x, const T* residual, NormLine<acc<T>> line) {
  using A = acc<T>;
  std::fill(sum, sum + p.channels, 0.0);
  std::fill(sum_x, sum_x + p.channels, 0.0);
  with_activation(p.activation, [&]<Activation a>(Activated<a>) {
    for_planes(p, [&](int64_t c, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const A d = A(x[i]) - line.center[c], v = d * line.scale[c] + line.shift[c];
        const A dv = activate_backward<a>(A(dy[i]), residual ? v + A(residual[i]) : v);
        sum[c] += double(dv);
        sum_x[c] += double(dv) * double(d);
        if (dresidual) dresidual[i] = T(dv);
      }
    });
  });
}

template <class T>
void norm_gradient(const NormPlanes& p, T* dx, const T* dy, const T* x, NormLine<acc<T>> line,
                   NormGradient<acc<T>> gradient) {
  using A = acc<T>;
  with_activation(p.activation, [&]<Activation a>(Activated<a>) {
    for_planes(p, [&](int64_t c, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const A d = A(x[i]) - line.center[c], v = d * line.scale[c] + line.shift[c];
        const A dv = activate_backward<a>(A(dy[i]), v);
        dx[i] = T(gradient.by_dv[c] * dv + (gradient.by_x[c] * d + gradient.rest[c]));
      }
    });
  });
}

}  // namespace
}  // namespace plain

namespace {

constexpr int64_t kMostChannels = 64;  // of a range
template <class A>
using Channels = std::array<A, kMostChannels>;

// run(the planes of some channels, the first of them, where their elements begin), on all threads. The passes over a
// range follow each other, so that later ones find it in a cache. Ranges of small planes are whole cache lines.
template <class F>
void for_channels(const BatchNormShape& s, F&& run) {
  const int64_t n = std::max<int64_t>(1, s.batch * s.places);
  int64_t size = std::clamp<int64_t>(kRangeElements / n, 1, kMostChannels);
  if (size > 16) size = size / 16 * 16;
  for_ranges(s.channels, size, [&](int64_t begin, int64_t end) {
    run(NormPlanes{s.batch, end - begin, s.channels, s.places, s.activation}, begin, begin * s.places);
  });
}

void move_running(float* running, double momentum, double value) {
  *running = static_cast<float>((1 - momentum) * double(*running) + momentum * value);
}

double reciprocal_root(double variance, double eps) { return 1 / std::sqrt(variance + eps); }

}  // namespace

template <class T>
void batchnorm_forward(Cpu, const BatchNormShape& shape, T* y, acc<T>* mean, acc<T>* rstd,
                       float* running_mean, float* running_var, double momentum, const T* x,
                       const T* residual, const T* gain, const T* bias) {
  using A = acc<T>;
  const auto moments_of = QFM_BEST_ISA(norm_moments, T);
  const auto apply = QFM_BEST_ISA(norm_apply, T);
  const auto n = static_cast<double>(shape.batch * shape.places);
  if (n == 0) return;
  for_channels(shape, [&](const NormPlanes& p, int64_t first, int64_t at) {
    Channels<double> means, squares;
    Channels<A> scale, shift;
    moments_of(p, means.data(), squares.data(), x + at);
    for (int64_t i = 0; i < p.channels; ++i) {
      const int64_t c = first + i;
      const auto k = static_cast<size_t>(i);
      const double variance = squares[k] / n, r = reciprocal_root(variance, shape.eps),
                   s = to<double>(gain[c]) * r;
      mean[c] = A(means[k]);
      rstd[c] = A(r);
      scale[k] = A(s);
      shift[k] =
          A(to<double>(bias[c]) - (means[k] - double(mean[c])) * s);  // with what rounding took off the mean
      if (running_mean) move_running(running_mean + c, momentum, means[k]);
      if (running_var) move_running(running_var + c, momentum, squares[k] / std::max(1.0, n - 1));
    }
    apply(p, y + at, x + at, residual ? residual + at : nullptr,
          NormLine<A>{mean + first, scale.data(), shift.data()});
  });
}

template <class T>
void batchnorm_backward(Cpu, const BatchNormShape& shape, T* dx, T* dresidual, acc<T>* dgain, acc<T>* dbias,
                        const T* dy, const T* x, const T* residual, const T* gain, const T* bias,
                        const acc<T>* mean, const acc<T>* rstd) {
  using A = acc<T>;
  const auto sums_of = QFM_BEST_ISA(norm_gradient_sums, T);
  const auto gradient = QFM_BEST_ISA(norm_gradient, T);
  const auto n = static_cast<double>(shape.batch * shape.places);
  for_channels(shape, [&](NormPlanes p, int64_t first, int64_t at) {
    Channels<double> sum, sum_x;
    Channels<A> scale, shift, by_x, rest;
    for (int64_t i = 0; i < p.channels; ++i) {
      const auto k = static_cast<size_t>(i);
      scale[k] = A(to<double>(gain[first + i]) * double(rstd[first + i]));
      shift[k] = A(bias[first + i]);
    }
    const NormLine<A> line{mean + first, scale.data(), shift.data()};
    T* dv = dresidual ? dresidual + at : nullptr;
    sums_of(p, sum.data(), sum_x.data(), dv, dy + at, x + at, residual ? residual + at : nullptr, line);
    for (int64_t i = 0; i < p.channels; ++i) {
      const auto k = static_cast<size_t>(i);
      const auto r = static_cast<double>(rstd[first + i]), by_xhat = sum_x[k] * r;
      dgain[first + i] = A(by_xhat);
      dbias[first + i] = A(sum[k]);
      by_x[k] = shape.fixed ? A{0} : A(-double(scale[k]) * r * by_xhat / n);
      rest[k] = shape.fixed ? A{0} : A(-double(scale[k]) * sum[k] / n);
    }
    if (dv) p.activation = Activation::None;
    gradient(p, dx + at, dv ? dv : dy + at, x + at, line,
             NormGradient<A>{scale.data(), by_x.data(), rest.data()});
  });
}

template <class T>
void batchnorm_fold(Cpu, int64_t channels, double eps, acc<T>* scale, acc<T>* shift, acc<T>* mean,
                    acc<T>* rstd, const T* gain, const T* bias, const float* running_mean,
                    const float* running_var) {
  using A = acc<T>;
  for (int64_t c = 0; c < channels; ++c) {
    const double r = reciprocal_root(double(running_var[c]), eps), s = to<double>(gain[c]) * r;
    scale[c] = A(s);
    shift[c] = A(to<double>(bias[c]) - double(running_mean[c]) * s);
    if (mean) mean[c] = A(running_mean[c]);
    if (rstd) rstd[c] = A(r);
  }
}

template <class T>
void scale_shift_forward(Cpu, const BatchNormShape& shape, T* y, const T* x, const T* residual,
                         const acc<T>* scale, const acc<T>* shift) {
  using A = acc<T>;
  const auto apply = QFM_BEST_ISA(norm_apply, T);
  static constexpr Channels<A> kZeros{};
  for_channels(shape, [&](const NormPlanes& p, int64_t first, int64_t at) {
    apply(p, y + at, x + at, residual ? residual + at : nullptr,
          NormLine<A>{kZeros.data(), scale + first, shift + first});
  });
}

#define QFM_INSTANTIATE(T)                                                                                   \
  template void batchnorm_forward(Cpu, const BatchNormShape&, T*, acc<T>*, acc<T>*, float*, float*, double,  \
                                  const T*, const T*, const T*, const T*);                                   \
  template void batchnorm_backward(Cpu, const BatchNormShape&, T*, T*, acc<T>*, acc<T>*, const T*, const T*, \
                                   const T*, const T*, const T*, const acc<T>*, const acc<T>*);              \
  template void batchnorm_fold(Cpu, int64_t, double, acc<T>*, acc<T>*, acc<T>*, acc<T>*, const T*, const T*, \
                               const float*, const float*);                                                  \
  template void scale_shift_forward(Cpu, const BatchNormShape&, T*, const T*, const T*, const acc<T>*,       \
                                    const acc<T>*);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
