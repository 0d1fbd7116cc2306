#include "kernels/sampling/lanes.h"
#include "kernels/sampling/sample_bilinear.h"
#include "kernels/sampling/sample_table.h"

// A vector holds one element of as many channels. Their planes are turned into a tile of such vectors, in which the four
// elements of any place are four loads, and results are turned back. The tile's last vector stands for what lies
// outside: zeros to read, and never looked at where it is added to.
namespace qfm::QFM_ISA {
namespace {

constexpr int kLanes = vf::width;

// Vectors of places [p, p + kLanes) from rows of `stride` elements, one a channel; and back.
template <class T, class Part>
void load_turned(vf (&v)[kLanes], const T* x, int64_t stride, int channels, Part part) {
  for (int c = 0; c < kLanes; ++c) v[c] = c < channels ? load(x + c * stride, part) : zero();
  transpose(v);
}
template <class T, class Part>
void store_turned(T* y, vf (&v)[kLanes], int64_t stride, int channels, Part part) {
  transpose(v);
  for (int c = 0; c < channels; ++c) store(y + c * stride, v[c], part);
}

inline int count(Whole) { return kLanes; }
inline int count(Tail tail) { return tail.n; }

template <class T>
void fill_tile(float* tile, const T* x, int64_t plane, int channels) {
  for_vectors(plane, [&](int64_t p, auto part) {
    vf v[kLanes];
    load_turned(v, x + p, plane, channels, part);
    for (int i = 0; i < count(part); ++i) store(tile + (p + i) * kLanes, v[i]);
  });
  store(tile + plane * kLanes, zero());
}

// Positions along one axis: as SampleAxis, of which this is the vector form.
struct Axis {
  vi low;
  vf rest, slope;
  Axis(vf coordinate, int64_t size, SamplePadding padding, bool align_corners) {
    const vf one = broadcast(1.0f), half = broadcast(0.5f), n = broadcast(static_cast<float>(size)),
             last = n - one;
    const vf far = broadcast(kSampleFar);
    coordinate = min(far, max(zero() - far, coordinate));  // NaN, their second operand, passes
    slope = (align_corners ? last : n) * half;
    vf position = align_corners ? (coordinate + one) * slope : ((coordinate + one) * n - one) * half;
    if (padding == SamplePadding::Border) {
      slope = select(both(less(zero(), position), less(position, last)), slope, zero());
      position = min(last, max(zero(), position));
    }
    const vmask inside = both(less(zero() - one, position), less(position, n));
    const vf below = floor(position), other = select(no_nan(position), zero(), position);
    low = select(inside, whole(below), broadcast(int32_t{-2}));
    rest = select(inside, position - below, other);
    slope = select(inside, slope, other);
  }
};

}  // namespace

void fill_places(const SampleTable<float>& table, const float* grid, int64_t count, const SampleShape& s) {
  const vf one = broadcast(1.0f);
  const vi width = broadcast(static_cast<int32_t>(s.width)),
           height = broadcast(static_cast<int32_t>(s.height)), minus = broadcast(int32_t{-1}),
           end = broadcast(static_cast<int32_t>(s.height * s.width));
  for_vectors(count, [&](int64_t p, auto part) {
    float pairs[2 * kLanes] = {};
    const int n = 2 * QFM_ISA::count(part);
    for (int i = 0; i < n; ++i) pairs[i] = grid[2 * p + i];
    const vf low = load(pairs), high = load(pairs + kLanes);
    const Axis across(pick_of(low, high, evens()), s.width, s.padding, s.align_corners);
    const Axis down(pick_of(low, high, evens() - minus), s.height, s.padding, s.align_corners);
    const vf shares_x[2] = {one - across.rest, across.rest}, shares_y[2] = {one - down.rest, down.rest};
    for (int k = 0; k < 4; ++k) {
      const vi column = k % 2 ? across.low - minus : across.low, row = k / 2 ? down.low - minus : down.low;
      const vmask inside =
          both(both(less(minus, column), less(column, width)), both(less(minus, row), less(row, height)));
      store(table.at[k] + p, select(inside, row * width + column, end), part);
      store(table.weight[k] + p, shares_x[k % 2] * shares_y[k / 2], part);
    }
    store(table.x + p, across.rest, part);
    store(table.y + p, down.rest, part);
    store(table.slope_x + p, across.slope, part);
    store(table.slope_y + p, down.slope, part);
  });
}

template <class T>
void sample_block(T* y, const T* x, const SampleTable<float>& table, const SampleShape& s, int channels,
                  float* tile) {
  fill_tile(tile, x, s.height * s.width, channels);
  for_vectors(s.places, [&](int64_t p, auto part) {
    vf v[kLanes];
    for (int i = 0; i < count(part); ++i) {
      vf sum = zero();
      for (int k = 0; k < 4; ++k)
        sum = fma(broadcast(table.weight[k][p + i]), load(tile + int64_t{table.at[k][p + i]} * kLanes), sum);
      v[i] = sum;
    }
    for (int i = count(part); i < kLanes; ++i) v[i] = zero();
    store_turned(y + p, v, s.places, channels, part);
  });
}

template <class T>
void sample_block_dx(T* dx, const T* dy, const SampleTable<float>& table, const SampleShape& s, int channels,
                     float* tile) {
  const int64_t plane = s.height * s.width;
  for (int64_t e = 0; e <= plane; ++e) store(tile + e * kLanes, zero());
  for_vectors(s.places, [&](int64_t p, auto part) {
    vf v[kLanes];
    load_turned(v, dy + p, s.places, channels, part);
    for (int i = 0; i < count(part); ++i)
      for (int k = 0; k < 4; ++k) {
        float* to = tile + int64_t{table.at[k][p + i]} * kLanes;
        store(to, fma(broadcast(table.weight[k][p + i]), v[i], load(to)));
      }
  });
  for_vectors(plane, [&](int64_t e, auto part) {
    vf v[kLanes];
    for (int i = 0; i < kLanes; ++i) v[i] = i < count(part) ? load(tile + (e + i) * kLanes) : zero();
    store_turned(dx + e, v, plane, channels, part);
  });
}

template <class T>
void sample_block_dgrid(float* sums, const T* dy, const T* x, const SampleTable<float>& table,
                        const SampleShape& s, int channels, float* tile) {
  fill_tile(tile, x, s.height * s.width, channels);
  for_vectors(s.places, [&](int64_t p, auto part) {
    vf d[kLanes], across[kLanes], down[kLanes];
    load_turned(d, dy + p, s.places, channels, part);
    for (int i = 0; i < kLanes; ++i) {
      across[i] = down[i] = zero();
      if (i >= count(part)) continue;
      vf v[4];
      for (int k = 0; k < 4; ++k) v[k] = load(tile + int64_t{table.at[k][p + i]} * kLanes);
      const vf upper = v[1] - v[0], lower = v[3] - v[2], left = v[2] - v[0], right = v[3] - v[1];
      across[i] = d[i] * fma(broadcast(table.y[p + i]), lower - upper, upper);
      down[i] = d[i] * fma(broadcast(table.x[p + i]), right - left, left);
    }
    store(sums + p, sums_of(across), part);
    store(sums + s.places + p, sums_of(down), part);
  });
}

#define QFM_INSTANTIATE(T)                                                                                 \
  template void sample_block(T*, const T*, const SampleTable<float>&, const SampleShape&, int, float*);    \
  template void sample_block_dx(T*, const T*, const SampleTable<float>&, const SampleShape&, int, float*); \
  template void sample_block_dgrid(float*, const T*, const T*, const SampleTable<float>&,                  \
                                   const SampleShape&, int, float*);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm::QFM_ISA
