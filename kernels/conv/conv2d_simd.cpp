#include "kernels/conv/conv_finish.h"

// A product: the weight's rows from where they lie, times panels of places that are gathered from the source.
namespace qfm::QFM_ISA {
namespace {

// Panels of a block stay in the second level of cache: where all channels do not, they come in steps of this depth.
constexpr int64_t kCachedFloats = 160 << 10, kPackedFloats = 96 << 10, kDepth = 384, kAhead = 6;

// A transposed weight is read in runs that are far from each other: short ones, and for many panels, it is packed first.
template <class T>
bool packs_weight(const ConvSum& s, int64_t panels) {
  return sizeof(T) != sizeof(float) || (s.transposed && (panels > 3 || s.weight_taps < 4));
}

template <class T>
int64_t channel_step(const ConvSum& s, int64_t rows, int64_t panels) {
  int64_t step = s.channels;
  if (step * s.tap_count() * panels * kPanel > kCachedFloats) step = kDepth / s.tap_count();
  if (packs_weight<T>(s, panels)) step = smaller(step, kPackedFloats / (rows * s.weight_taps));
  return smaller(s.channels, larger(1, step));
}

struct Panel {
  Run* runs;
  Piece** pieces;  // of each phase
  Piece* last_tap;
  int run_count, columns;
};

// Where each part of a block's workspace lies.
template <class T>
struct Space {
  Panel* panels;
  Run* runs;
  Piece *pieces, **phase_pieces;
  int64_t* deltas;
  float *source, *weight, *sums;
  WorkspaceParts parts;

  Space(const ConvSum& s, int64_t rows, int64_t count, void* workspace = nullptr) : parts{workspace} {
    const int64_t step = channel_step<T>(s, rows, count);
    parts.take(panels, count);
    parts.take(runs, count * most_runs(s));
    parts.take(pieces, count * s.tap_count() * most_pieces(s));
    parts.take(phase_pieces, count * s.phases());
    parts.take(deltas, step * s.tap_count());
    parts.take(source, count * step * s.tap_count() * kPanel);
    parts.take(weight, packs_weight<T>(s, count) ? rows * step * s.weight_taps + vf::width : 0);
    parts.take(sums, (step < s.channels ? rows * count : kTileRows) * s.phases() * kPanel);
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
    Piece** const phase_pieces = space.phase_pieces + i * s.phases();
    Piece* last_tap = pieces;
    for (int64_t f = 0; f < s.phases(); ++f) {
      const int64_t begin = s.phase_taps[f], end = s.phase_taps[f + 1];
      phase_pieces[f] = pieces;
      if (begin == end) continue;
      last_tap = pieces_of(s, begin, end - 1, runs, count, pieces);
      pieces = pieces_of(s, end - 1, end, runs, count, last_tap);
    }
    space.panels[i] = {runs, phase_pieces, last_tap, count, columns};
    runs += count;
  }
}

// Channel c of `channels` of a panel, from `source` on: of each phase [channel][tap][kPanel].
template <int64_t step, class T>
void gather_channel(const ConvSum& s, const Panel& panel, const T* source, int64_t c, int64_t channels, float* to) {
  for (int64_t f = 0; f < s.phases(); ++f) {
    const int64_t taps = s.phase_taps[f + 1] - s.phase_taps[f];
    const Piece* piece = panel.pieces[f];
    float* at = to + c * taps * kPanel;
    for (int64_t i = 0; i < taps * kVectors; ++i, at += vf::width)
      store(at, load_pieces(source, piece, step > 0 ? step : s.x.source_step));
    to += channels * taps * kPanel;
  }
}
// Asks for what the last tap sees, of which the taps before it have read the rest.
template <class T>
void prefetch_channel(const Panel& panel, const T* source) {
  const Piece* piece = panel.last_tap;
  for (int64_t i = 0; i < kVectors; ++i) {
    do __builtin_prefetch(source + piece->offset);
    while (!(piece++)->last);
  }
}
// Channel by channel, all panels of each: what lies side by side in memory is read in turn.
template <int64_t step, class T>
void gather(const ConvSum& s, const Panel* panels, int64_t count, const T* source, int64_t channels, float* to) {
  for (int64_t c = 0; c < channels; ++c, source += s.source_area())
    for (int64_t i = 0; i < count; ++i) {
      if (c + kAhead < channels) prefetch_channel(panels[i], source + kAhead * s.source_area());
      gather_channel<step>(s, panels[i], source, c, channels, to + i * channels * s.tap_count() * kPanel);
    }
}
template <class T>
void gather_panels(const ConvSum& s, const Panel* panels, int64_t count, const T* source, int64_t channels, float* to) {
  if (s.x.source_step == 1) gather<1>(s, panels, count, source, channels, to);
  else if (s.x.source_step == 2) gather<2>(s, panels, count, source, channels, to);
  else gather<0>(s, panels, count, source, channels, to);
}

template <class T>
const T* weight_at(const ConvBlock<T>& g, int64_t row, int64_t channel) {
  const ConvSum& s = g.sum;
  const int64_t r = g.row + row;
  return g.w + (s.transposed ? (g.group * s.channels + channel) * s.rows + r
                             : (g.group * s.rows + r) * s.channels + channel) *
                   s.weight_taps;
}

// Masked stores are slow: but for the last it writes over what follows, which is filled later.
template <class T>
void copy_floats(float* to, const T* from, int64_t n, bool last) {
  for_vectors(n, [&](int64_t j, auto lanes) {
    const vf x = load(from + j, lanes);
    if (last) store(to + j, x, lanes);
    else store(to + j, x);
  });
}

// The block's rows of the weight at channels [channel, channel + count) as floats, tile by tile: [height][count][taps],
// or of a transposed weight [count][height][taps].
template <class T>
void pack_weight(const ConvBlock<T>& g, const Tiles& tiles, int64_t channel, int64_t count, float* packed) {
  const int64_t taps = g.sum.weight_taps;
  if (!g.sum.transposed) {
    for (int64_t r = 0; r < g.rows; ++r)
      copy_floats(packed + r * count * taps, weight_at(g, r, channel), count * taps, r + 1 == g.rows);
    return;
  }
  for (int64_t c = 0; c < count; ++c)
    for (int64_t t = 0; t < tiles.count; ++t) {
      const int64_t begin = tiles.begin(t), size = tiles.height(t) * taps;
      const bool last = (count - c) * size < size + vf::width;
      copy_floats(packed + begin * count * taps + c * size, weight_at(g, begin, channel + c), size, last);
    }
}

// Steps from one depth to the next of a transposed weight, whose channels are `jump` apart; phase by phase.
void fill_deltas(const ConvSum& s, int64_t jump, int64_t channels, int64_t* deltas) {
  for (int64_t f = 0; f < s.phases(); ++f)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t t = s.phase_taps[f]; t < s.phase_taps[f + 1]; ++t)
        *deltas++ = t + 1 < s.phase_taps[f + 1] ? s.taps[t + 1].index - s.taps[t].index
                                                : jump + s.taps[s.phase_taps[f]].index - s.taps[t].index;
}

// Channels [first, first + count) of a block.
struct Step {
  int64_t first, count;
};

// One phase of a tile and a panel.
template <class T>
void multiply(const ConvBlock<T>& g, const Space<T>& space, const Step& step, int64_t row, int height,
              int64_t i, int64_t phase, float* sums) {
  const ConvSum& s = g.sum;
  const int64_t first = s.phase_taps[phase], depth = step.count * (s.phase_taps[phase + 1] - first);
  const bool packed = packs_weight<T>(s, g.panels), add = step.first > 0;
  const int columns = space.panels[i].columns;
  const Columns b{space.source + step.count * (i * s.tap_count() + first) * kPanel, kPanel};
  const float* a = space.weight + row * step.count * s.weight_taps;
  if constexpr (sizeof(T) == sizeof(float))
    if (!packed) a = weight_at(g, row, step.first);
  if (s.transposed) {
    const int64_t next = height * s.weight_taps * (packed ? step.count : 1);
    const int64_t at = depth > 0 ? s.taps[first].index : 0;
    multiply_rows(height, columns, depth,
                  Stepped{a + at, s.weight_taps, space.deltas + step.count * first, next}, b, sums, kPanel,
                  add);
  } else {
    const Strided rows{a, packed ? depth : s.channels * s.weight_taps, 1};
    multiply_rows(height, columns, depth, rows, b, sums, kPanel, add);
  }
}

// The tile's sums to where the panel's places lie in the result.
template <class T>
void finish(const ConvBlock<T>& g, int64_t row, int height, const Panel& panel, const float* sums) {
  const ConvSum& s = g.sum;
  for (int i = 0; i < panel.run_count; ++i) {
    const Run& run = panel.runs[i];
    int count = run.count;
    // Rows follow each other: runs of an image are one.
    while (i + 1 < panel.run_count && panel.runs[i + 1].image == run.image) count += panel.runs[++i].count;
    for (int r = 0; r < height; ++r) {
      const int64_t channel = g.group * s.rows + row + r;
      const int64_t at =
          (run.image * s.groups * s.rows + channel) * s.result_area() + run.y * s.x.result + run.x;
      finish_run(g.epilogue, channel, sums + r * kPanel + run.lane, g.result, at, count);
    }
  }
}

template <class T>
void finish_phases(const ConvBlock<T>& g, int64_t row, int height, const Panel& panel, const float* sums) {
  const ConvSum& s = g.sum;
  for (int i = 0; i < panel.run_count; ++i) {
    const Run& run = panel.runs[i];
    const int64_t x = run.x * s.x.phases, n = smaller(run.count * s.x.phases, s.x.result - x);
    for (int64_t f = 0; f < s.y.phases && run.y * s.y.phases + f < s.y.result; ++f)
      for (int r = 0; r < height; ++r) {
        const int64_t channel = g.group * s.rows + row + r;
        T* const to = g.result + (run.image * s.groups * s.rows + channel) * s.result_area() +
                      (run.y * s.y.phases + f) * s.x.result + x;
        merge_phases(to, n, sums + (f * s.x.phases * height + r) * kPanel + run.lane, s.x.phases,
                     height * kPanel);
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
  const int64_t step = channel_step<T>(s, g.rows, g.panels), phases = s.phases();
  const bool packed = packs_weight<T>(s, g.panels), one_step = step == s.channels;
  for (int64_t channel = 0; channel < s.channels; channel += step) {
    const Step now{channel, smaller(step, s.channels - channel)};
    const T* const source = g.source + (g.group * s.channels + channel) * s.source_area();
    gather_panels(s, space.panels, g.panels, source, now.count, space.source);
    if (packed) pack_weight(g, tiles, channel, now.count, space.weight);
    int64_t jump = 0;
    for (int64_t t = 0; t < tiles.count; ++t) {
      const int height = tiles.height(t);
      const int64_t row = tiles.begin(t), wanted = (packed ? height : s.rows) * s.weight_taps;
      if (s.transposed && jump != wanted) fill_deltas(s, jump = wanted, now.count, space.deltas);
      for (int64_t i = 0; i < g.panels; ++i) {
        float* const sums = space.sums + (one_step ? 0 : (row * g.panels + i * height) * phases * kPanel);
        for (int64_t f = 0; f < phases; ++f)
          multiply(g, space, now, row, height, i, f, sums + f * height * kPanel);
        if (channel + now.count < s.channels) continue;
        if (phases == 1) finish(g, g.row + row, height, space.panels[i], sums);
        else finish_phases(g, g.row + row, height, space.panels[i], sums);
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
