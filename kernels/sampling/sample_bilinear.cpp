#include "kernels/sampling/sample_bilinear.h"

#include "kernels/common/parallel_loops.h"
#include "kernels/sampling/sample_point.h"

namespace qfm {
namespace plain {
namespace {

// One channel of one image.
template <class T>
void sample_plane(T* y, const T* x, const SamplePoint<acc<T>>* points, const SampleShape& s) {
  using A = acc<T>;
  for (int64_t p = 0; p < s.places; ++p) {
    A sum = 0;
    for (int k = 0; k < 4; ++k)
      sum += points[p].weight(k) * (points[p].at[k] < s.plane() ? A(x[points[p].at[k]]) : A(0));
    y[p] = T(sum);
  }
}

// sum: the plane and one element more, which takes what falls outside.
template <class T>
void sample_plane_dx(T* dx, acc<T>* sum, const T* dy, const SamplePoint<acc<T>>* points,
                     const SampleShape& s) {
  using A = acc<T>;
  std::fill(sum, sum + s.plane() + 1, A(0));
  for (int64_t p = 0; p < s.places; ++p)
    for (int k = 0; k < 4; ++k) sum[points[p].at[k]] += points[p].weight(k) * A(dy[p]);
  for (int64_t i = 0; i < s.plane(); ++i) dx[i] = T(sum[i]);
}

// Places [begin, end) of one image, over all channels.
template <class T>
void sample_dgrid(acc<T>* dgrid, const T* dy, const T* x, const SamplePoint<acc<T>>* points,
                  const SampleShape& s, int64_t begin, int64_t end) {
  using A = acc<T>;
  std::fill(dgrid + 2 * begin, dgrid + 2 * end, A(0));
  for (int64_t c = 0; c < s.channels; ++c, x += s.plane(), dy += s.places)
    for (int64_t p = begin; p < end; ++p) {
      const auto& point = points[p];
      A v[4];
      for (int k = 0; k < 4; ++k) v[k] = point.at[k] < s.plane() ? A(x[point.at[k]]) : A(0);
      dgrid[2 * p] += A(dy[p]) * ((1 - point.y) * (v[1] - v[0]) + point.y * (v[3] - v[2]));
      dgrid[2 * p + 1] += A(dy[p]) * ((1 - point.x) * (v[2] - v[0]) + point.x * (v[3] - v[1]));
    }
  for (int64_t p = begin; p < end; ++p) {
    dgrid[2 * p] *= points[p].slope_x;
    dgrid[2 * p + 1] *= points[p].slope_y;
  }
}

}  // namespace
}  // namespace plain

namespace {

constexpr int64_t kPlaces = 512;  // in a range

// The points of all places of all images.
template <class A>
class Points {
 public:
  Points(const SampleShape& s, const A* grid) : memory_(s.batch * s.places * sizeof(SamplePoint<A>)) {
    for_ranges(s.batch * s.places, kPlaces, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p)
        new (memory_.template as<SamplePoint<A>>() + p) SamplePoint<A>(s, grid + 2 * p);
    });
  }
  const SamplePoint<A>* of(const SampleShape& s, int64_t image) const {
    return memory_.template as<const SamplePoint<A>>() + image * s.places;
  }

 private:
  Scratch memory_;
};

}  // namespace

template <class T>
void sample_bilinear_forward(Cpu, const SampleShape& s, T* y, const T* x, const acc<T>* grid) {
  if (s.batch * s.channels * s.places == 0) return;
  const Points<acc<T>> points(s, grid);
  parallel_for(s.batch * s.channels, [&](int64_t i) {
    plain::sample_plane(y + i * s.places, x + i * s.plane(), points.of(s, i / s.channels), s);
  });
}

template <class T>
void sample_bilinear_dx(Cpu, const SampleShape& s, T* dx, const T* dy, const acc<T>* grid) {
  if (s.batch * s.channels * s.plane() == 0) return;
  const Points<acc<T>> points(s, grid);
  parallel_for(s.batch * s.channels, [&](int64_t i) {
    const Scratch sum((s.plane() + 1) * sizeof(acc<T>));
    plain::sample_plane_dx(dx + i * s.plane(), sum.as<acc<T>>(), dy + i * s.places,
                           points.of(s, i / s.channels), s);
  });
}

template <class T>
void sample_bilinear_dgrid(Cpu, const SampleShape& s, acc<T>* dgrid, const T* dy, const T* x,
                           const acc<T>* grid) {
  if (s.batch * s.places == 0) return;
  const Points<acc<T>> points(s, grid);
  const int64_t ranges = (s.places + kPlaces - 1) / kPlaces;
  parallel_for(s.batch * ranges, [&](int64_t i) {
    const int64_t image = i / ranges, begin = i % ranges * kPlaces;
    plain::sample_dgrid(dgrid + image * s.places * 2, dy + image * s.channels * s.places,
                        x + image * s.channels * s.plane(), points.of(s, image), s, begin,
                        std::min(s.places, begin + kPlaces));
  });
}

#define QFM_INSTANTIATE(T)                                                                     \
  template void sample_bilinear_forward(Cpu, const SampleShape&, T*, const T*, const acc<T>*); \
  template void sample_bilinear_dx(Cpu, const SampleShape&, T*, const T*, const acc<T>*);      \
  template void sample_bilinear_dgrid(Cpu, const SampleShape&, acc<T>*, const T*, const T*, const acc<T>*);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
