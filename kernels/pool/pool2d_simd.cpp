#include <limits>

#include "kernels/common/simd.h"
#include "kernels/pool/pool_row.h"

namespace qfm::QFM_ISA {
namespace {

// Elements p[0], p[stride], ...: as many as `part` has, and no memory behind the last of them is read.
template <class T, class Part>
vf load_strided(const T* p, int64_t stride, Part part) {
  constexpr int w = vf::width;
  if (stride == 1) return load(p, part);
  const int n = lanes_of(part);
  if (stride == 2) {
    const int reach = 2 * n - 1;
    return every_second(load(p, reach < w ? reach : w), load(p + w, reach < w ? 0 : reach - w));
  }
  alignas(64) float gathered[w] = {};
  for (int k = 0; k < n; ++k) store(gathered + k, load(p + k * stride, 1), 1);
  return load(gathered);
}

// f(the vector of tap (u, v), its offset from the first) in the order of rows.
template <class T, class Part, class F>
void for_taps(const PoolRow& r, const T* p, Part part, F&& f) {
  for (int64_t u = 0; u < r.rows; ++u)
    for (int64_t v = 0; v < r.taps; ++v) {
      const int64_t offset = u * r.row_step + v * r.tap_step;
      f(load_strided(p + offset, r.stride, part), offset);
    }
}

}  // namespace

// Places are counted in floats: planes have less than 2^24 elements.
template <class T>
void max_pool_row(const PoolRow& r, T* y, int32_t* at, const T* plane) {
  const vf steps = lane_numbers() * broadcast(static_cast<float>(r.stride));
  for_vectors(r.end - r.begin, [&](int64_t k, auto part) {
    const int64_t j = r.begin + k, first = r.first + j * r.stride;
    vf most = broadcast(-std::numeric_limits<float>::infinity()), place = zero();
    for_taps(r, plane + first, part, [&](vf v, int64_t offset) {
      place = where_beats(v, most, broadcast(static_cast<float>(offset)), place);
      most = where_beats(v, most, v, most);
    });
    store(y + j, most, part);
    if (at) store_whole(at + j, place + steps + broadcast(static_cast<float>(first)), lanes_of(part));
  });
}

template <class T>
void mean_pool_row(const PoolRow& r, T* y, const T* plane) {
  const vf count = broadcast(static_cast<float>(r.count));
  for_vectors(r.end - r.begin, [&](int64_t k, auto part) {
    const int64_t j = r.begin + k;
    vf sum = zero();
    for_taps(r, plane + r.first + j * r.stride, part, [&](vf v, int64_t) { sum = sum + v; });
    store(y + j, sum / count, part);
  });
}

// The mean of each plane.
template <class T>
void plane_means(int64_t planes, int64_t places, T* y, const T* x) {
  constexpr int w = vf::width;
  const vf count = broadcast(static_cast<float>(places));
  for (int64_t plane = 0; plane < planes; ++plane, x += places) {
    vf a = zero(), b = zero();
    int64_t i = 0;
    for (; i + 2 * w <= places; i += 2 * w) a = a + load(x + i), b = b + load(x + i + w);
    for_vectors(places - i, [&](int64_t k, auto part) { a = a + load(x + i + k, part); });
    store(y + plane, broadcast(reduce_add(a + b)) / count, 1);
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
  template void plane_means(int64_t, int64_t, T*, const T*);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE
template void add_row(float*, const float*, int64_t);

}  // namespace qfm::QFM_ISA
