#include "kernels/conv/conv_pieces.h"

// The gradient of the weight is a product over places: rows of dy from where they lie, times panels of columns
// (channel, tap) that are gathered from the image and transposed.
namespace qfm::QFM_ISA {
namespace {

constexpr int64_t kDepth = 400;

// Places of one image, so many at a time.
int64_t depth_steps(const ConvSum& s) { return (s.places() + kDepth - 1) / kDepth; }
int64_t longest_step(const ConvSum& s) { return (s.places() + depth_steps(s) - 1) / depth_steps(s); }

template <class T>
constexpr bool packs_dy = sizeof(T) != sizeof(float);

template <class T>
struct Space {
  Run* runs;
  Piece* pieces;
  int32_t* starts;  // of the pieces of [chunk][tap][vector]
  float *source, *dy, *tail, *row_sums;
  WorkspaceParts parts;

  Space(const ConvSum& s, int64_t rows, int64_t panels, void* workspace = nullptr) : parts{workspace} {
    const int64_t depth = longest_step(s), chunks = (depth + kPanel - 1) / kPanel;
    parts.take(runs, most_runs(s));
    parts.take(pieces, chunks * s.tap_count() * most_pieces(s));
    parts.take(starts, chunks * s.tap_count() * kVectors);
    parts.take(source, panels * depth * kPanel);
    parts.take(dy, packs_dy<T> ? rows * depth : 0);
    parts.take(tail, rows * kPanel);
    parts.take(row_sums, rows * vf::width);
  }
};

// Places [place, place + count) of one image.
struct Step {
  int64_t image, place, count;
  bool first;
};

template <class T>
void map_places(const ConvSum& s, const Step& step, const Space<T>& space) {
  Piece* pieces = space.pieces;
  int32_t* starts = space.starts;
  for (int64_t at = 0; at < step.count; at += kPanel, starts += s.tap_count() * kVectors) {
    const int count = static_cast<int>(smaller(kPanel, step.count - at));
    const int runs = runs_of(s, step.image * s.places() + step.place + at, count, space.runs);
    Piece* const end = pieces_of(s, 0, s.tap_count(), space.runs, runs, pieces, starts);
    for (int64_t i = 0; i < s.tap_count() * kVectors; ++i)
      starts[i] += static_cast<int32_t>(pieces - space.pieces);
    pieces = end;
  }
}

// One panel of the step's places: [place][kPanel].
template <class T>
void gather_transposed(const ConvDwBlock<T>& g, const Space<T>& space, int64_t panel, int64_t places,
                       float* to) {
  const ConvSum& s = g.sum;
  const T* const source = g.x + g.group * s.channels * s.source_area();
  const int64_t columns = s.channels * s.tap_count();
  for (int h = 0; h < kPanel; h += vf::width) {
    const T* from[vf::width];
    int64_t vector[vf::width];  // of the tap, in a chunk
    int count = 0;
    for (int64_t j = panel * kPanel + h; count < vf::width && j < columns; ++j, ++count)
      from[count] = source + j / s.tap_count() * s.source_area(),
      vector[count] = j % s.tap_count() * kVectors;
    for (int64_t place = 0; place < places; place += vf::width) {
      const int32_t* starts =
          space.starts + place / kPanel * s.tap_count() * kVectors + place % kPanel / vf::width;
      vf r[vf::width];
      for (int i = 0; i < vf::width; ++i) {
        if (i >= count) {
          r[i] = zero();
          continue;
        }
        const Piece* piece = space.pieces + starts[vector[i]];
        r[i] = load_pieces(from[i], piece, s.x.source_step);
      }
      transpose(r);
      const int64_t some = smaller(vf::width, places - place);
      for (int i = 0; i < some; ++i) store(to + (place + i) * kPanel + h, r[i]);
    }
  }
}

template <class T>
const T* row_of_dy(const ConvDwBlock<T>& g, const Step& step, int64_t row) {
  const ConvSum& s = g.sum;
  return g.dy + ((step.image * s.groups + g.group) * s.rows + g.row + row) * s.places() + step.place;
}

template <class T>
void multiply(const ConvDwBlock<T>& g, const Space<T>& space, const Step& step, const Tiles& tiles, int64_t t,
              int64_t i) {
  const ConvSum& s = g.sum;
  const int64_t begin = tiles.begin(t), columns = s.channels * s.tap_count(), column = (g.panel + i) * kPanel;
  const Columns b{space.source + i * step.count * kPanel, kPanel};
  Strided a{space.dy + begin * step.count, step.count, 1};
  if constexpr (!packs_dy<T>) a = {row_of_dy(g, step, begin), s.places(), 1};
  const bool whole = column + kPanel <= columns;  // then dw itself holds the sums
  float* c =
      whole ? g.dw + (g.group * s.rows + g.row + begin) * columns + column : space.tail + begin * kPanel;
  multiply_rows(tiles.height(t), columns - column, step.count, a, b, c, whole ? columns : kPanel,
                !step.first);
}

// Adds the step's places of each row, lane by lane.
template <class T>
void add_row_sums(const ConvDwBlock<T>& g, const Step& step, float* sums) {
  for (int64_t r = 0; r < g.rows; ++r, sums += vf::width) {
    const T* dy = row_of_dy(g, step, r);
    vf sum = step.first ? zero() : load(sums);
    for_vectors(step.count, [&](int64_t j, auto lanes) { sum = sum + load(dy + j, lanes); });
    store(sums, sum);
  }
}

template <class T>
void run_step(const ConvDwBlock<T>& g, const Space<T>& space, const Step& step) {
  const Tiles tiles(g.rows);
  map_places(g.sum, step, space);
  for (int64_t i = 0; i < g.panels; ++i)
    gather_transposed(g, space, g.panel + i, step.count, space.source + i * step.count * kPanel);
  if constexpr (packs_dy<T>)
    for (int64_t r = 0; r < g.rows; ++r)
      for_vectors(step.count, [&](int64_t j, auto lanes) {
        store(space.dy + r * step.count + j, load(row_of_dy(g, step, r) + j, lanes), lanes);
      });
  for (int64_t t = 0; t < tiles.count; ++t)
    for (int64_t i = 0; i < g.panels; ++i) multiply(g, space, step, tiles, t, i);
  if (g.db && g.panel == 0) add_row_sums(g, step, space.row_sums);
}

}  // namespace

template <class T>
size_t conv_dw_workspace(const ConvSum& s, int64_t rows, int64_t panels) {
  return Space<T>(s, rows, panels).parts.bytes;
}

template <class T>
void conv_dw_block(const ConvDwBlock<T>& g) {
  const ConvSum& s = g.sum;
  const Space<T> space(s, g.rows, g.panels, g.workspace);
  const int64_t steps = depth_steps(s), columns = s.channels * s.tap_count(), tail = columns % kPanel,
                last = g.panel + g.panels - 1;
  for (int64_t i = 0; i < s.batch * steps; ++i) {
    const int64_t begin = s.places() * (i % steps) / steps, end = s.places() * (i % steps + 1) / steps;
    run_step(g, space, {i / steps, begin, end - begin, i == 0});
  }
  const int64_t row = g.group * s.rows + g.row;
  if (tail > 0 && last == columns / kPanel)
    for (int64_t r = 0; r < g.rows; ++r)
      for_vectors(tail, [&](int64_t j, auto lanes) {
        store(g.dw + (row + r) * columns + last * kPanel + j, load(space.tail + r * kPanel + j, lanes),
              lanes);
      });
  if (g.db && g.panel == 0)
    for (int64_t r = 0; r < g.rows; ++r) g.db[row + r] = reduce_add(load(space.row_sums + r * vf::width));
}

#define QFM_INSTANTIATE(T)                                                \
  template size_t conv_dw_workspace<T>(const ConvSum&, int64_t, int64_t); \
  template void conv_dw_block(const ConvDwBlock<T>&);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm::QFM_ISA
