#include <limits>
#include <type_traits>

#include "kernels/common/simd.h"
#include "kernels/pool/pool_row.h"

namespace qfm::QFM_ISA {
namespace {

// Elements p[0], p[stride], ...: as many as `part` has, and no memory behind the last of them is read. stride: 1, 2, or
// 0 for the one that is given.
template <int stride, class T, class Part>
vf load_strided(const T* p, int64_t any, Part part) {
  constexpr int w = vf::width;
  if constexpr (stride == 1) {
    return load(p, part);
  } else if constexpr (stride == 2 && std::is_same_v<Part, Whole>) {
    return even_and_odd(load(p), load(p + w - 1));
  } else if constexpr (stride == 2) {
    const int reach = 2 * part.n - 1;
    return even_and_odd(load(p, reach < w ? reach : w), load(p + w - 1, reach < w ? 0 : reach - w + 1));
  } else {
    alignas(64) float gathered[w] = {};
    for (int k = 0; k < lanes_of(part); ++k) store(gathered + k, load(p + k * any, 1), 1);
    return load(gathered);
  }
}

// f(j, part) for the vectors of results [begin, end); the last one reaches back over results that are there already.
template <class F>
void for_results(int64_t begin, int64_t end, F&& f) {
  constexpr int w = vf::width;
  if (end - begin < w) {
    if (begin < end) f(begin, Tail{static_cast<int>(end - begin)});
    return;
  }
  int64_t j = begin;
  for (; j + w <= end; j += w) f(j, Whole{});
  if (j < end) f(end - w, Whole{});
}

// f(the vector of tap (u, v), its offset from the first) in the order of rows.
template <int stride, class T, class Part, class F>
void for_taps(const PoolRow& r, const T* p, Part part, F&& f) {
  for (int64_t u = 0; u < r.rows; ++u)
    for (int64_t v = 0; v < r.taps; ++v) {
      const int64_t offset = u * r.row_step + v * r.tap_step;
      f(load_strided<stride>(p + offset, r.stride, part), offset);
    }
}

template <int n>
using Stride = std::integral_constant<int, n>;
template <class F>
void with_stride(int64_t stride, F&& run) {
  if (stride == 1) run(Stride<1>{});
  else if (stride == 2) run(Stride<2>{});
  else run(Stride<0>{});
}

// Places are counted in floats: planes have less than 2^24 elements.
template <int stride, class T>
void max_pool(const PoolRow& r, T* y, int32_t* at, const T* plane) {
  const vf steps = lane_numbers() * broadcast(static_cast<float>(r.stride));
  for_results(r.begin, r.end, [&](int64_t j, auto part) {
    const int64_t first = r.first + j * r.stride;
    vf most = broadcast(-std::numeric_limits<float>::infinity()), place = zero();
    for_taps<stride>(r, plane + first, part, [&](vf v, int64_t offset) {
      place = where_beats(v, most, broadcast(static_cast<float>(offset)), place);
      most = where_beats(v, most, v, most);
    });
    store(y + j, most, part);
    if (at) store_whole(at + j, place + steps + broadcast(static_cast<float>(first)), lanes_of(part));
  });
}

template <int stride, class T>
void mean_pool(const PoolRow& r, T* y, const T* plane) {
  const vf count = broadcast(static_cast<float>(r.count));
  for_results(r.begin, r.end, [&](int64_t j, auto part) {
    vf sum = zero();
    for_taps<stride>(r, plane + r.first + j * r.stride, part, [&](vf v, int64_t) { sum = sum + v; });
    store(y + j, sum / count, part);
  });
}

}  // namespace

template <class T>
void max_pool_row(const PoolRow& r, T* y, int32_t* at, const T* plane) {
  with_stride(r.stride, [&]<int stride>(Stride<stride>) { max_pool<stride>(r, y, at, plane); });
}

template <class T>
void mean_pool_row(const PoolRow& r, T* y, const T* plane) {
  with_stride(r.stride, [&]<int stride>(Stride<stride>) { mean_pool<stride>(r, y, plane); });
}

// The mean of each plane.
template <class T>
void plane_means(int64_t planes, int64_t places, T* y, const T* x) {
  constexpr int w = vf::width;
  const auto count = static_cast<float>(places);
  for (int64_t plane = 0; plane < planes; ++plane, x += places) {
    vf a = zero(), b = zero();
    int64_t i = 0;
    for (; i + 2 * w <= places; i += 2 * w) a = a + load(x + i), b = b + load(x + i + w);
    for_vectors(places - i, [&](int64_t k, auto part) { a = a + load(x + i + k, part); });
    store(y + plane, broadcast(reduce_add(a + b) / count), 1);
  }
}

// Every element of a plane is its value, divided by their number.
template <class T>
void spread_planes(int64_t planes, int64_t places, T* dx, const T* dy) {
  const vf count = broadcast(static_cast<float>(places));
  for (int64_t plane = 0; plane < planes; ++plane, dx += places) {
    float value;
    store(&value, load(dy + plane, 1) / count, 1);
    const vf each = broadcast(value);
    for_vectors(places, [&](int64_t i, auto part) { store(dx + i, each, part); });
  }
}

template <class A>
void add_row(A* to, const A* row, int64_t n) {
  for_vectors(n,
              [&](int64_t i, auto part) { store(to + i, load(to + i, part) + load(row + i, part), part); });
}

#define QFM_INSTANTIATE(T)                                            \
  template void max_pool_row(const PoolRow&, T*, int32_t*, const T*); \
  template void mean_pool_row(const PoolRow&, T*, const T*);          \
  template void plane_means(int64_t, int64_t, T*, const T*);          \
  template void spread_planes(int64_t, int64_t, T*, const T*);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE
template void add_row(float*, const float*, int64_t);

}  // namespace qfm::QFM_ISA
