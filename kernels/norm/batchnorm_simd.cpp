#include <type_traits>

#include "kernels/common/activate.h"
#include "kernels/common/simd.h"
#include "kernels/norm/batchnorm_planes.h"

// Sums of a channel are taken in runs of about kRun elements: in floats, four vectors beside each other, so that one
// addition does not wait for another; the runs' sums are added in double. A run is part of a plane or several planes.
namespace qfm::QFM_ISA {
namespace {

constexpr int64_t kRun = 2048;
constexpr int kSums = 4;

// The planes or the part of a plane of one run: `planes` times `length` elements, `step` apart.
struct Run {
  int64_t first, planes, length, step;
  double elements() const { return static_cast<double>(planes * length); }
};

// f(run) for the runs of channel c, in order.
template <class F>
void for_runs(const NormPlanes& p, int64_t c, F&& f) {
  const int64_t step = p.stride * p.places;
  const int64_t group = p.places < kRun ? kRun / p.places : 1;  // planes of a run
  for (int64_t b = 0; b < p.batch; b += group) {
    const int64_t planes = b + group < p.batch ? group : p.batch - b;
    for (int64_t i = 0; i < p.places; i += kRun)
      f(Run{(b * p.stride + c) * p.places + i, planes, i + kRun < p.places ? kRun : p.places - i, step});
  }
}

// f(i, k, part) for the vectors of a run, element i and on, to be summed in sum k.
template <class F>
void for_sums(const Run& run, F&& f) {
  constexpr int w = vf::width;
  for (int64_t plane = 0; plane < run.planes; ++plane) {
    int64_t i = run.first + plane * run.step;
    const int64_t end = i + run.length;
    for (; i + kSums * w <= end; i += kSums * w)
      for (int k = 0; k < kSums; ++k) f(i + k * w, k, Whole{});
    for (int k = 0; k < kSums - 1; ++k)
      if (i + w <= end) f(i, k, Whole{}), i += w;
    if (i < end) f(i, kSums - 1, Tail{static_cast<int>(end - i)});
  }
}

void clear(vf (&sums)[kSums]) {
  for (vf& sum : sums) sum = zero();
}
float total(const vf (&sums)[kSums]) { return reduce_add((sums[0] + sums[1]) + (sums[2] + sums[3])); }

// f(i, part) for the vectors of channel c in all images.
template <class F>
void for_elements(const NormPlanes& p, int64_t c, F&& f) {
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t first = (b * p.stride + c) * p.places;
    for_vectors(p.places, [&](int64_t j, auto part) { f(first + j, part); });
  }
}

template <class F>
void with_residual(bool there, F&& run) {
  if (there) run(std::true_type{});
  else run(std::false_type{});
}

struct Line {
  vf center, scale, shift;
  Line(const NormLine<float>& line, int64_t c)
      : center(broadcast(line.center[c])), scale(broadcast(line.scale[c])), shift(broadcast(line.shift[c])) {}
};

// The mean of a run and the squared deviations from it: the run is in the cache, so going over it twice costs little.
// The mean is corrected by the deviations' own mean, which is what rounding lost in the first sum.
struct Moments {
  double n = 0, mean = 0, squares = 0;
  template <class T>
  Moments(const Run& run, const T* x) : n(run.elements()) {
    vf first[kSums], second[kSums];
    clear(first), clear(second);
    for_sums(run, [&](int64_t i, int k, auto part) { first[k] = first[k] + load(x + i, part); });
    const float about = total(first) / static_cast<float>(n);
    const vf center = broadcast(about);
    clear(first);
    for_sums(run, [&](int64_t i, int k, auto part) {
      const vf d = kept(load(x + i, part) - center, part);
      first[k] = first[k] + d;
      second[k] = fma(d, d, second[k]);
    });
    const double rest = static_cast<double>(total(first)) / n;
    mean = static_cast<double>(about) + rest;
    squares = static_cast<double>(total(second)) - rest * rest * n;
    if (squares < 0) squares = 0;
  }
  Moments() = default;
  // Of both together.
  void merge(const Moments& other) {
    const double all = n + other.n, distance = other.mean - mean;
    mean += distance * (other.n / all);
    squares += other.squares + distance * distance * (n * other.n / all);
    n = all;
  }
};

}  // namespace

template <class T>
void norm_moments(const NormPlanes& p, double* mean, double* squares, const T* x) {
  for (int64_t c = 0; c < p.channels; ++c) {
    Moments all;
    for_runs(p, c, [&](const Run& run) { all.merge(Moments(run, x)); });
    mean[c] = all.mean;
    squares[c] = all.squares;
  }
}

template <class T>
void norm_apply(const NormPlanes& p, T* y, const T* x, const T* residual, NormLine<float> of) {
  with_activation(p.activation, [&]<Activation a>(Activated<a>) {
    with_residual(residual, [&]<bool with>(std::bool_constant<with>) {
      for (int64_t c = 0; c < p.channels; ++c) {
        const Line line(of, c);
        for_elements(p, c, [&](int64_t i, auto part) {
          vf v = fma(load(x + i, part) - line.center, line.scale, line.shift);
          if constexpr (with) v = v + load(residual + i, part);
          stream(y + i, activate<a>(v), part);
        });
      }
    });
  });
}

template <class T>
void norm_gradient_sums(const NormPlanes& p, double* sum, double* sum_x, T* dresidual, const T* dy,
                        const T* x, const T* residual, NormLine<float> of) {
  with_activation(p.activation, [&]<Activation a>(Activated<a>) {
    with_residual(residual, [&]<bool with>(std::bool_constant<with>) {
      for (int64_t c = 0; c < p.channels; ++c) {
        const Line line(of, c);
        sum[c] = sum_x[c] = 0;
        for_runs(p, c, [&](const Run& run) {
          vf first[kSums], second[kSums];
          clear(first), clear(second);
          for_sums(run, [&](int64_t i, int k, auto part) {
            const vf d = load(x + i, part) - line.center;
            vf v = fma(d, line.scale, line.shift);
            if constexpr (with) v = v + load(residual + i, part);
            const vf dv = activate_backward<a>(load(dy + i, part), v);
            if constexpr (with)
              if (dresidual) store(dresidual + i, dv, part);
            first[k] = first[k] + dv;  // dy is 0 past the tail, and so is dv
            second[k] = fma(dv, d, second[k]);
          });
          sum[c] += static_cast<double>(total(first));
          sum_x[c] += static_cast<double>(total(second));
        });
      }
    });
  });
}

template <class T>
void norm_gradient(const NormPlanes& p, T* dx, const T* dy, const T* x, NormLine<float> of,
                   NormGradient<float> gradient) {
  with_activation(p.activation, [&]<Activation a>(Activated<a>) {
    for (int64_t c = 0; c < p.channels; ++c) {
      const Line line(of, c);
      const vf by_dv = broadcast(gradient.by_dv[c]), by_x = broadcast(gradient.by_x[c]),
               rest = broadcast(gradient.rest[c]);
      for_elements(p, c, [&](int64_t i, auto part) {
        const vf d = load(x + i, part) - line.center;
        const vf dv = activate_backward<a>(load(dy + i, part), fma(d, line.scale, line.shift));
        stream(dx + i, fma(by_dv, dv, fma(by_x, d, rest)), part);
      });
    }
  });
}

#define QFM_INSTANTIATE(T)                                                                                \
  template void norm_moments(const NormPlanes&, double*, double*, const T*);                              \
  template void norm_apply(const NormPlanes&, T*, const T*, const T*, NormLine<float>);                   \
  template void norm_gradient_sums(const NormPlanes&, double*, double*, T*, const T*, const T*, const T*, \
                                   NormLine<float>);                                                      \
  template void norm_gradient(const NormPlanes&, T*, const T*, const T*, NormLine<float>,                 \
                              NormGradient<float>);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm::QFM_ISA
