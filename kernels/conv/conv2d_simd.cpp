#include "kernels/conv/conv_pieces.h"

// A product: the weight's rows from where they lie, times panels of places that are gathered from the source.
namespace qfm::QFM_ISA {
namespace {

// Panels of a block stay in the second level of cache: where all channels do not, they come in steps of this depth.
constexpr int64_t kCachedFloats = 160 << 10, kDepth = 384;

int64_t channel_step(const ConvSum& s, int64_t panels) {
  if (s.channels * s.tap_count * panels * kPanel <= kCachedFloats) return s.channels;
  return smaller(s.channels, larger(1, kDepth / s.tap_count));
}

template <class T>
bool packs_weight(const ConvSum& s) {
  return s.transposed || sizeof(T) != sizeof(float);
}

struct Panel {
  Run* runs;
  Piece* pieces;
  int run_count, columns;
};

// Where each part of a block's workspace lies.
template <class T>
struct Space {
  Panel* panels;
  Run* runs;
  Piece* pieces;
  int64_t* deltas;
  float *source, *weight, *sums;
  WorkspaceParts parts;

  Space(const ConvSum& s, int64_t rows, int64_t count, void* workspace = nullptr) : parts{workspace} {
    const auto take = [this](auto*& array, int64_t size) { parts.take(array, size); };
    const int64_t step = channel_step(s, count);
    take(panels, count);
    take(runs, count * most_runs(s));
    take(pieces, count * s.tap_count * most_pieces(s));
    take(deltas, step * s.tap_count);
    take(source, count * step * s.tap_count * kPanel);
    take(weight, packs_weight<T>(s) ? rows * step * s.weight_taps + vf::width : 0);
    take(sums, (step < s.channels ? rows * count : kTileRows) * kPanel);
  }
};

template <class T>
void map_panels(const ConvBlock<T>& g, const Space<T>& space) {
  const ConvSum& s = g.sum;
  Run* runs = space.runs;
  Piece* pieces = space.pieces;
  for (int64_t i = 0; i < g.panels; ++i) {
    const int64_t place = (g.panel + i) * kPanel;
    const int columns = static_cast<int>(smaller(kPanel, s.batch * s.places() - place));
    const int count = runs_of(s, place, columns, runs);
    space.panels[i] = {runs, pieces, count, columns};
    pieces = pieces_of(s, s.groups * s.channels, runs, count, pieces);
    runs += count;
  }
}

// channels of a panel from `source` on: [channel][tap][kPanel].
template <int64_t step, class T>
void gather(const ConvSum& s, const Panel& panel, const T* source, int64_t channels, float* to) {
  for (int64_t c = 0; c < channels; ++c, source += s.source_area()) {
    const Piece* piece = panel.pieces;
    for (int64_t i = 0; i < s.tap_count * kVectors; ++i, to += vf::width)
      store(to, load_pieces(source, piece, step > 0 ? step : s.x.source_step));
  }
}
template <class T>
void gather_panel(const ConvSum& s, const Panel& panel, const T* source, int64_t channels, float* to) {
  if (s.x.source_step == 1) gather<1>(s, panel, source, channels, to);
  else if (s.x.source_step == 2) gather<2>(s, panel, source, channels, to);
  else gather<0>(s, panel, source, channels, to);
}

// The block's rows of the weight at channels [channel, channel + count) as floats, tile by tile: [height][count][taps],
// or of a transposed weight [count][height][taps].
template <class T>
void pack_weight(const ConvBlock<T>& g, const Tiles& tiles, int64_t channel, int64_t count, float* packed) {
  const ConvSum& s = g.sum;
  const int64_t taps = s.weight_taps, outer = s.transposed ? count : g.rows;
  const auto copy = [](float* to, const T* from, int64_t n) {
    for_vectors(n, [&](int64_t j, auto lanes) { store(to + j, load(from + j, lanes), lanes); });
  };
  for (int64_t i = 0; i < outer; ++i) {
    if (!s.transposed) {
      const T* from = g.w + ((g.group * s.rows + g.row + i) * s.channels + channel) * taps;
      copy(packed + i * count * taps, from, count * taps);
      continue;
    }
    const T* from = g.w + ((g.group * s.channels + channel + i) * s.rows + g.row) * taps;
    for (int64_t t = 0; t < tiles.count; ++t) {
      const int64_t begin = tiles.begin(t) * taps, size = tiles.height(t) * taps;
      copy(packed + begin * count + i * size, from + begin, size);
    }
  }
}

// Steps from one depth to the next in a packed tile of a transposed weight.
void fill_deltas(const ConvSum& s, int height, int64_t channels, int64_t* deltas) {
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t t = 0; t < s.tap_count; ++t)
      *deltas++ = t + 1 < s.tap_count ? s.taps[t + 1].index - s.taps[t].index
                                      : height * s.weight_taps + s.taps[0].index - s.taps[t].index;
}

template <class T>
void multiply(const ConvBlock<T>& g, const Tiles& tiles, int64_t t, const Space<T>& space, int64_t i,
              int64_t channel, int64_t count, float* sums) {
  const ConvSum& s = g.sum;
  const int64_t depth = count * s.tap_count, begin = tiles.begin(t);
  const int columns = space.panels[i].columns, height = tiles.height(t);
  const Columns b{space.source + i * depth * kPanel, kPanel};
  if (s.transposed) {
    const float* a = space.weight + begin * count * s.weight_taps + (s.tap_count > 0 ? s.taps[0].index : 0);
    multiply_rows(height, columns, depth, Stepped{a, s.weight_taps, space.deltas}, b, sums, kPanel,
                  channel > 0);
    return;
  }
  Strided a{space.weight + begin * depth, depth, 1};
  if constexpr (sizeof(T) == sizeof(float))
    a = {g.w + ((g.group * s.rows + g.row + begin) * s.channels + channel) * s.tap_count,
         s.channels * s.tap_count, 1};
  multiply_rows(height, columns, depth, a, b, sums, kPanel, channel > 0);
}

inline vf activate_vector(Activation f, vf v) {
  if (f == Activation::Silu) return v / (broadcast(1.0f) + exp(zero() - v));
  if (f != Activation::None) v = max(zero(), v);
  if (f == Activation::Relu6) v = min(broadcast(6.0f), v);
  return v;
}

// The epilogue is passed by value: a copy that stores cannot change stays in registers.
template <class T>
void finish_run(const ConvEpilogue<T> e, int64_t channel, const float* sums, T* y, int64_t at,
                int64_t count) {
  const vf scale = broadcast(e.scale ? e.scale[channel] : 1.0f),
           shift = broadcast(e.shift ? e.shift[channel] : 0.0f);
  for_vectors(count, [&](int64_t j, auto lanes) {
    vf v = load(sums + j, lanes);
    if (e.scale) v = v * scale;
    if (e.shift) v = v + shift;
    if (e.residual) v = v + load(e.residual + at + j, lanes);
    store(y + at + j, activate_vector(e.activation, v), lanes);
  });
}

// The tile's sums to where the panel's places lie in the result.
template <class T>
void finish(const ConvBlock<T>& g, int64_t row, int height, const Panel& panel, const float* sums) {
  const ConvSum& s = g.sum;
  const bool whole_rows = s.x.positions == s.x.result, dense = s.x.step == 1;
  for (int i = 0; i < panel.run_count; ++i) {
    const Run& run = panel.runs[i];
    int count = run.count;
    // Rows that follow each other in the result are one run.
    while (whole_rows && s.y.step == 1 && i + 1 < panel.run_count && panel.runs[i + 1].image == run.image)
      count += panel.runs[++i].count;
    for (int r = 0; r < height; ++r) {
      const int64_t channel = g.group * s.rows + row + r;
      const int64_t at = (run.image * s.groups * s.rows + channel) * s.result_area() +
                         (s.y.first + run.y * s.y.step) * s.x.result + s.x.first + run.x * s.x.step;
      const float* from = sums + r * kPanel + run.lane;
      if (dense) finish_run(g.epilogue, channel, from, g.result, at, count);
      else
        for (int j = 0; j < count; ++j) store(g.result + at + j * s.x.step, broadcast(from[j]), 1);
    }
  }
}

}  // namespace

int64_t conv_panel_columns() { return kPanel; }

template <class T>
size_t conv_workspace(const ConvSum& s, int64_t rows, int64_t panels) {
  return Space<T>(s, rows, panels).parts.bytes;
}

template <class T>
void conv_block(const ConvBlock<T>& g) {
  const ConvSum& s = g.sum;
  const Space<T> space(s, g.rows, g.panels, g.workspace);
  const Tiles tiles(g.rows);
  map_panels(g, space);
  const int64_t step = channel_step(s, g.panels), places_of_group = s.source_area() * s.channels;
  for (int64_t channel = 0; channel < s.channels; channel += step) {
    const int64_t count = smaller(step, s.channels - channel), depth = count * s.tap_count;
    const bool last = channel + count == s.channels;
    for (int64_t i = 0; i < g.panels; ++i)
      gather_panel(s, space.panels[i], g.source + g.group * places_of_group + channel * s.source_area(),
                   count, space.source + i * depth * kPanel);
    if (packs_weight<T>(s)) pack_weight(g, tiles, channel, count, space.weight);
    for (int64_t t = 0; t < tiles.count; ++t) {
      const int height = tiles.height(t);
      if (s.transposed) fill_deltas(s, height, count, space.deltas);
      for (int64_t i = 0; i < g.panels; ++i) {
        float* sums =
            step < s.channels ? space.sums + (tiles.begin(t) * g.panels + i * height) * kPanel : space.sums;
        multiply(g, tiles, t, space, i, channel, count, sums);
        if (last) finish(g, g.row + tiles.begin(t), height, space.panels[i], sums);
      }
    }
  }
}

#define QFM_INSTANTIATE(T)                                             \
  template size_t conv_workspace<T>(const ConvSum&, int64_t, int64_t); \
  template void conv_block(const ConvBlock<T>&);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm::QFM_ISA
