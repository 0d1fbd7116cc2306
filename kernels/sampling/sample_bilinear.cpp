#include "kernels/sampling/sample_bilinear.h"

#include "kernels/common/parallel_loops.h"
#include "kernels/sampling/sample_point.h"
#include "kernels/sampling/sample_table.h"

QFM_DECLARE_ISA(void fill_places(const SampleTable<float>& table, const float* grid, int64_t count,
                                 const SampleShape& s);
                template <class T> void sample_block(T* y, const T* x, const SampleTable<float>& table,
                                                     const SampleShape& s, int channels, float* tile);
                template <class T> void sample_block_dx(T* dx, const T* dy, const SampleTable<float>& table,
                                                        const SampleShape& s, int channels, float* tile);
                template <class T>
                void sample_block_dgrid(float* sums, const T* dy, const T* x, const SampleTable<float>& table,
                                        const SampleShape& s, int channels, float* tile);)

namespace qfm {
namespace plain {
namespace {

template <class A>
void fill_places(const SampleTable<A>& table, const A* grid, int64_t count, const SampleShape& s) {
  for (int64_t p = 0; p < count; ++p) {
    const SamplePoint<A> point(s, grid + 2 * p);
    for (int k = 0; k < 4; ++k) table.at[k][p] = point.at[k], table.weight[k][p] = point.weight(k);
    table.x[p] = point.x, table.y[p] = point.y;
    table.slope_x[p] = point.slope_x, table.slope_y[p] = point.slope_y;
  }
}

// A block: some channels of one image.
template <class T>
void sample_block(T* y, const T* x, const SampleTable<acc<T>>& table, const SampleShape& s, int channels,
                  acc<T>*) {
  using A = acc<T>;
  for (int c = 0; c < channels; ++c, y += s.places, x += s.plane())
    for (int64_t p = 0; p < s.places; ++p) {
      A sum = 0;
      for (int k = 0; k < 4; ++k)
        sum += table.weight[k][p] * (table.at[k][p] < s.plane() ? A(x[table.at[k][p]]) : A(0));
      y[p] = T(sum);
    }
}

// sums: a plane and one element more, which takes what falls outside.
template <class T>
void sample_block_dx(T* dx, const T* dy, const SampleTable<acc<T>>& table, const SampleShape& s, int channels,
                     acc<T>* sums) {
  using A = acc<T>;
  for (int c = 0; c < channels; ++c, dx += s.plane(), dy += s.places) {
    std::fill(sums, sums + s.plane() + 1, A(0));
    for (int64_t p = 0; p < s.places; ++p)
      for (int k = 0; k < 4; ++k) sums[table.at[k][p]] += table.weight[k][p] * A(dy[p]);
    for (int64_t e = 0; e < s.plane(); ++e) dx[e] = T(sums[e]);
  }
}

// sums (2, places): d position, summed over the block's channels.
template <class T>
void sample_block_dgrid(acc<T>* sums, const T* dy, const T* x, const SampleTable<acc<T>>& table,
                        const SampleShape& s, int channels, acc<T>*) {
  using A = acc<T>;
  std::fill(sums, sums + 2 * s.places, A(0));
  for (int c = 0; c < channels; ++c, dy += s.places, x += s.plane())
    for (int64_t p = 0; p < s.places; ++p) {
      A v[4];
      for (int k = 0; k < 4; ++k) v[k] = table.at[k][p] < s.plane() ? A(x[table.at[k][p]]) : A(0);
      sums[p] += A(dy[p]) * ((1 - table.y[p]) * (v[1] - v[0]) + table.y[p] * (v[3] - v[2]));
      sums[s.places + p] += A(dy[p]) * ((1 - table.x[p]) * (v[2] - v[0]) + table.x[p] * (v[3] - v[1]));
    }
}

}  // namespace
}  // namespace plain

namespace {

constexpr int64_t kPlaces = 1024;  // in a range

template <class A>
SampleTable<A> from_place(const SampleTable<A>& t, int64_t p) {
  return {{t.at[0] + p, t.at[1] + p, t.at[2] + p, t.at[3] + p},
          {t.weight[0] + p, t.weight[1] + p, t.weight[2] + p, t.weight[3] + p},
          t.x + p,
          t.y + p,
          t.slope_x + p,
          t.slope_y + p};
}

// All places of all images.
template <class A>
class Places {
 public:
  Places(const SampleShape& s, const A* grid)
      : count_(s.places),
        memory_(s.batch * s.places * static_cast<int64_t>(4 * sizeof(int32_t) + 8 * sizeof(A))) {
    const int64_t n = s.batch * s.places;
    A* reals = memory_.template as<A>();
    auto* whole = reinterpret_cast<int32_t*>(reals + 8 * n);
    for (int k = 0; k < 4; ++k) table_.at[k] = whole + k * n, table_.weight[k] = reals + k * n;
    table_.x = reals + 4 * n, table_.y = reals + 5 * n;
    table_.slope_x = reals + 6 * n, table_.slope_y = reals + 7 * n;
    for_ranges(n, kPlaces, [&](int64_t begin, int64_t end) {
      fill(from_place(table_, begin), grid + 2 * begin, end - begin, s);
    });
  }
  SampleTable<A> of(int64_t image) const { return from_place(table_, image * count_); }

 private:
  static void fill(const SampleTable<A>& table, const A* grid, int64_t count, const SampleShape& s) {
    if constexpr (has_vector_code && std::is_same_v<A, float>) {
      if (cpu_path() == CpuIsa::Avx512) return avx512::fill_places(table, grid, count, s);
      if (cpu_path() == CpuIsa::Avx2) return avx2::fill_places(table, grid, count, s);
    }
    plain::fill_places(table, grid, count, s);
  }
  int64_t count_;
  Scratch memory_;
  SampleTable<A> table_;
};

// How the channels of an image are cut into blocks. Vector code turns whole planes into tiles, which does not pay for a
// single channel or for places that are few beside the plane.
template <class T>
struct Blocks {
  bool vectors;
  int64_t channels, count;  // of a block; blocks of an image
  explicit Blocks(const SampleShape& s)
      : vectors(!any_double<T> && cpu_path() != CpuIsa::Plain && s.channels > 1 && 4 * s.places >= s.plane()),
        channels(vectors && cpu_path() == CpuIsa::Avx512 ? 16 : 8),
        count((s.channels + channels - 1) / channels) {}
  // f(image, its block, first channel of all images', channels, a tile) on all threads.
  template <class F>
  void run(const SampleShape& s, F&& f) const {
    parallel_for(s.batch * count, [&](int64_t i) {
      const Scratch tile((s.plane() + 1) * (vectors ? channels : 1) * static_cast<int64_t>(sizeof(acc<T>)));
      const int64_t image = i / count, first = i % count * channels;
      f(image, i % count, image * s.channels + first,
        static_cast<int>(std::min(channels, s.channels - first)), tile.template as<acc<T>>());
    });
  }
};
// The current path's f, or the plain one where vectors do not pay.
#define QFM_BLOCK(f) (blocks.vectors ? QFM_BEST_ISA(f, T) : &plain::f<T>)

}  // namespace

template <class T>
void sample_bilinear_forward(Cpu, const SampleShape& s, T* y, const T* x, const acc<T>* grid) {
  if (s.batch * s.channels * s.places == 0) return;
  const Places<acc<T>> places(s, grid);
  const Blocks<T> blocks(s);
  const auto run = QFM_BLOCK(sample_block);
  blocks.run(s, [&](int64_t image, int64_t, int64_t channel, int channels, acc<T>* tile) {
    run(y + channel * s.places, x + channel * s.plane(), places.of(image), s, channels, tile);
  });
}

template <class T>
void sample_bilinear_dx(Cpu, const SampleShape& s, T* dx, const T* dy, const acc<T>* grid) {
  if (s.batch * s.channels * s.plane() == 0) return;
  const Places<acc<T>> places(s, grid);
  const Blocks<T> blocks(s);
  const auto run = QFM_BLOCK(sample_block_dx);
  blocks.run(s, [&](int64_t image, int64_t, int64_t channel, int channels, acc<T>* tile) {
    run(dx + channel * s.plane(), dy + channel * s.places, places.of(image), s, channels, tile);
  });
}

template <class T>
void sample_bilinear_dgrid(Cpu, const SampleShape& s, acc<T>* dgrid, const T* dy, const T* x,
                           const acc<T>* grid) {
  using A = acc<T>;
  if (s.batch * s.places == 0) return;
  const Places<A> places(s, grid);
  const Blocks<T> blocks(s);
  const auto run = QFM_BLOCK(sample_block_dgrid);
  const Scratch scratch(s.batch * blocks.count * 2 * s.places * static_cast<int64_t>(sizeof(A)));
  A* sums = scratch.as<A>();
  blocks.run(s, [&](int64_t image, int64_t block, int64_t channel, int channels, A* tile) {
    run(sums + (image * blocks.count + block) * 2 * s.places, dy + channel * s.places,
        x + channel * s.plane(), places.of(image), s, channels, tile);
  });
  for_ranges(s.batch * s.places, kPlaces, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const SampleTable<A> table = places.of(p / s.places);
      const A* of = sums + p / s.places * blocks.count * 2 * s.places;
      const int64_t at = p % s.places;
      A sum_x = 0, sum_y = 0;
      for (int64_t b = 0; b < blocks.count; ++b, of += 2 * s.places)
        sum_x += of[at], sum_y += of[s.places + at];
      dgrid[2 * p] = table.slope_x[at] * sum_x;
      dgrid[2 * p + 1] = table.slope_y[at] * sum_y;
    }
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
