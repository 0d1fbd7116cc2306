#include "kernels/conv/conv_finish.h"

// A plane is copied between zeros, under a stride in one part for each residue, so that a tap is a distance: positions
// are then computed as one flat row, whatever the width of the image. Those between two rows are not used.
namespace qfm::QFM_ISA {
namespace {

constexpr int64_t kBandFloats = 6144;

// Position (i, j) is the flat i * pitch + j. Part (a, b) holds the source's rows first_row + a + i * step and columns
// first_column + b + j * step.
struct Layout {
  int64_t first_row, first_column, step_y, step_x;
  int64_t extra_rows, pitch,
      band;  // of a part beyond the band's; floats of a row; rows of positions at a time

  explicit Layout(const ConvSum& s) : step_y(s.y.source_step), step_x(s.x.source_step) {
    int64_t last_row = s.taps[0].row, last_column = s.taps[0].column;
    first_row = last_row, first_column = last_column;
    for (int64_t t = 1; t < s.tap_count(); ++t) {
      first_row = smaller(first_row, s.taps[t].row), last_row = larger(last_row, s.taps[t].row);
      first_column = smaller(first_column, s.taps[t].column),
      last_column = larger(last_column, s.taps[t].column);
    }
    extra_rows = (last_row - first_row) / step_y;
    pitch = s.x.positions + (last_column - first_column) / step_x;
    if (step_x == 1) {  // the zeros before a row also end the row above
      const int64_t before = larger(0, -first_column), after = larger(0, pitch - before - s.x.source);
      pitch -= smaller(before, after);
    }
    band = smaller(s.y.positions, larger(1, kBandFloats / pitch));
  }
  int64_t part_floats() const { return (band + extra_rows + 1) * pitch + 8 * kPanel; }
  int64_t parts() const { return step_y * step_x; }
  int64_t flat() const { return band * pitch + 8 * kPanel; }
  // From a position to what the tap sees, over all parts.
  int64_t distance(const SumTap& tap) const {
    const int64_t row = tap.row - first_row, column = tap.column - first_column;
    return (row % step_y * step_x + column % step_x) * part_floats() + row / step_y * pitch + column / step_x;
  }
};

struct Space {
  int64_t* distances;
  uint32_t* lanes;  // of a row's vectors that lie in the source, for each column residue
  float *parts, *flat, *sums;
  WorkspaceParts cut;

  Space(const ConvSum& s, const Layout& l, void* workspace = nullptr) : cut{workspace} {
    cut.take(distances, s.tap_count());
    cut.take(lanes, l.step_x * (l.pitch / vf::width + 1));
    cut.take(parts, l.parts() * l.part_floats());
    cut.take(flat, s.phases() * l.flat());
    cut.take(sums, (s.tap_count() + 1) * vf::width);
  }
};

void prepare(const ConvSum& s, const Layout& l, const Space& space) {
  for (int64_t t = 0; t < s.tap_count(); ++t) space.distances[t] = l.distance(s.taps[t]);
  uint32_t* lanes = space.lanes;
  for (int64_t b = 0; b < l.step_x; ++b)
    for (int64_t j = 0; j < l.pitch; j += vf::width)
      *lanes++ = lanes_inside(l.first_column + b + j * l.step_x, smaller(vf::width, l.pitch - j), l.step_x,
                              s.x.source);
}

// Rows of each part that positions of rows [row, row + rows) see of one plane.
template <int64_t step, class T>
void fill_parts(const ConvSum& s, const Layout& l, const Space& space, const T* plane, int64_t row,
                int64_t rows) {
  const int64_t step_x = step > 0 ? step : l.step_x;
  for (int64_t part = 0; part < l.parts(); ++part) {
    const int64_t b = part % step_x;
    const uint32_t* const lanes = space.lanes + b * ((l.pitch + vf::width - 1) / vf::width);
    float* to = space.parts + part * l.part_floats();
    for (int64_t i = 0; i < rows + l.extra_rows; ++i, to += l.pitch) {
      const int64_t y = l.first_row + part / step_x + (row + i) * l.step_y;
      const bool inside = y >= 0 && y < s.y.source;
      const T* const from = plane + y * s.x.source + l.first_column + b;
      for (int64_t j = 0, v = 0; j < l.pitch; j += vf::width, ++v)
        store(to + j, inside ? load_piece(from + j * step_x, lanes[v], step_x) : zero());
    }
    for (int64_t j = 0; j < l.pitch + kPanel; j += vf::width) store(to + j, zero());
  }
}
template <class T>
void fill(const ConvSum& s, const Layout& l, const Space& space, const T* plane, int64_t row, int64_t rows) {
  if (l.step_x == 1) fill_parts<1>(s, l, space, plane, row, rows);
  else if (l.step_x == 2) fill_parts<2>(s, l, space, plane, row, rows);
  else fill_parts<0>(s, l, space, plane, row, rows);
}

// What follows for all positions of a channel.
struct Affine {
  vf scale, shift;
  bool scales, shifts;
  Activation activation;
  template <class T>
  Affine(const ConvEpilogue<T>& e, int64_t channel)
      : scale(broadcast(e.scale ? e.scale[channel] : 1.0f)),
        shift(broadcast(e.shift ? e.shift[channel] : 0.0f)),
        scales(e.scale),
        shifts(e.shift),
        activation(e.residual ? Activation::None : e.activation) {}
  vf operator()(vf v) const {
    if (scales) v = v * scale;
    if (shifts) v = v + shift;
    return activate(activation, v);
  }
};

// N vectors of positions.
template <int N, class T>
inline void convolve(const SumTap* taps, const int64_t* distances, int64_t count, const T* w,
                     const Affine& affine, const float* from, float* to) {
  vf sum[N];
  for (int i = 0; i < N; ++i) sum[i] = zero();
  for (int64_t t = 0; t < count; ++t) {
    const vf weight = broadcast(static_cast<float>(w[taps[t].index]));
    const float* x = from + distances[t];
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) sum[i] = fma(weight, load(x + i * vf::width), sum[i]);
  }
  for (int i = 0; i < N; ++i) store(to + i * vf::width, affine(sum[i]));
}

template <class T>
void convolve_band(const ConvSum& s, const Layout& l, const Space& space, const T* w, const Affine& affine,
                   int64_t rows) {
  for (int64_t f = 0; f < s.phases(); ++f) {
    const int64_t first = s.phase_taps[f], count = s.phase_taps[f + 1] - first, n = rows * l.pitch;
    float* to = space.flat + f * l.flat();
    int64_t q = 0;
    for (; q + 4 * vf::width < n; q += 8 * vf::width)
      convolve<8>(s.taps + first, space.distances + first, count, w, affine, space.parts + q, to + q);
    if (q < n)
      convolve<4>(s.taps + first, space.distances + first, count, w, affine, space.parts + q, to + q);
  }
}

// The positions of rows [row, row + rows) to the result; the residual and what follows it come last.
template <class T>
void finish_band(const DepthwiseBlock<T>& g, const Layout& l, const Space& space, int64_t plane, int64_t row,
                 int64_t rows) {
  const ConvSum& s = g.sum;
  T* to = g.result + plane * s.result_area() + row * s.y.phases * s.x.result;
  if (s.phases() > 1) {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t f = 0; f < s.y.phases && (row + i) * s.y.phases + f < s.y.result; ++f, to += s.x.result)
        merge_phases(to, s.x.result, space.flat + f * s.x.phases * l.flat() + i * l.pitch, s.x.phases,
                     l.flat());
    return;
  }
  const ConvEpilogue<T> rest{nullptr, nullptr, g.epilogue.residual, g.epilogue.activation};
  const float* from = space.flat;
  for (int64_t i = 0; i < rows; ++i, to += s.x.result, from += l.pitch) {
    if (rest.residual) finish_run(rest, 0, from, g.result, to - g.result, s.x.result);
    else for_vectors(s.x.result, [&](int64_t j, auto lanes) { store(to + j, load(from + j), lanes); });
  }
}

// Adds products of dy with what N taps see, lane by lane.
template <int N>
void add_products(const float* dy, const float* from, const int64_t* distances, int64_t n, float* sums) {
  vf sum[N];
  const float* x[N];
  for (int i = 0; i < N; ++i) sum[i] = load(sums + i * vf::width), x[i] = from + distances[i];
  for (int64_t q = 0; q < n; q += vf::width) {
    const vf d = load(dy + q);
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) sum[i] = fma(d, load(x[i] + q), sum[i]);
  }
  for (int i = 0; i < N; ++i) store(sums + i * vf::width, sum[i]);
}
template <int N = 8>
void add_products_of(int64_t taps, const float* dy, const float* from, const int64_t* distances, int64_t n,
                     float* sums) {
  if (taps == N) return add_products<N>(dy, from, distances, n, sums);
  if constexpr (N > 1) add_products_of<N - 1>(taps, dy, from, distances, n, sums);
}

// Rows of dy at the pitch of the parts, zero between them and past the last; and their sum, lane by lane.
template <class T>
void spread_rows(const ConvSum& s, const Layout& l, const T* dy, int64_t rows, float* to, float* sums) {
  vf sum = load(sums);
  for (int64_t i = 0; i < rows; ++i, dy += s.x.result, to += l.pitch)
    for (int64_t j = 0; j < l.pitch; j += vf::width) {
      const int64_t left = s.x.result - j;
      const vf x = left >= vf::width ? load(dy + j)
                   : left > 0        ? load(dy + j, static_cast<int>(left))
                                     : zero();
      store(to + j, x);
      sum = sum + x;
    }
  store(to, zero());
  store(sums, sum);
}

}  // namespace

size_t depthwise_workspace(const ConvSum& s) { return Space(s, Layout(s)).cut.bytes; }

template <class T>
void depthwise_block(const DepthwiseBlock<T>& g) {
  const ConvSum& s = g.sum;
  const Layout l(s);
  const Space space(s, l, g.workspace);
  prepare(s, l, space);
  for (int64_t plane = g.channel; plane < g.channel + g.channels; ++plane) {
    const int64_t channel = plane % s.groups;
    const Affine affine(g.epilogue, channel);
    for (int64_t row = 0; row < s.y.positions; row += l.band) {
      const int64_t rows = smaller(l.band, s.y.positions - row);
      fill(s, l, space, g.source + plane * s.source_area(), row, rows);
      convolve_band(s, l, space, g.w + channel * s.weight_taps, affine, rows);
      finish_band(g, l, space, plane, row, rows);
    }
  }
}

template <class T>
void depthwise_dw_block(const DepthwiseDwBlock<T>& g) {
  const ConvSum& s = g.sum;
  const Layout l(s);
  const Space space(s, l, g.workspace);
  const int64_t taps = s.tap_count();
  float* const dy_sums = space.sums + taps * vf::width;
  prepare(s, l, space);
  for (int64_t c = g.channel; c < g.channel + g.channels; ++c) {
    for (int64_t t = 0; t <= taps; ++t) store(space.sums + t * vf::width, zero());
    for (int64_t b = 0; b < s.batch; ++b)
      for (int64_t row = 0; row < s.y.positions; row += l.band) {
        const int64_t plane = b * s.groups + c, rows = smaller(l.band, s.y.positions - row);
        fill(s, l, space, g.x + plane * s.source_area(), row, rows);
        spread_rows(s, l, g.dy + plane * s.result_area() + row * s.x.result, rows, space.flat, dy_sums);
        for (int64_t t = 0; t < taps; t += 8)
          add_products_of(smaller(8, taps - t), space.flat, space.parts, space.distances + t, rows * l.pitch,
                          space.sums + t * vf::width);
      }
    for (int64_t t = 0; t < taps; ++t) g.dw[c * taps + t] = reduce_add(load(space.sums + t * vf::width));
    if (g.db) g.db[c] = reduce_add(load(dy_sums));
  }
}

#define QFM_INSTANTIATE(T)                                 \
  template void depthwise_block(const DepthwiseBlock<T>&); \
  template void depthwise_dw_block(const DepthwiseDwBlock<T>&);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm::QFM_ISA
