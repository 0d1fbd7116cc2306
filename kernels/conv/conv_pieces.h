// What a panel of places sees of the source through each tap, for files compiled per instruction set: masked loads,
// found once and used for every channel.
#pragma once
#include "kernels/conv/conv_sum.h"
#include "kernels/gemm/gemm_tile.h"

namespace qfm::QFM_ISA {

inline constexpr int kVectors = kPanel / vf::width;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// Cuts a workspace into arrays on boundaries of 64 bytes; of a null one it only counts the bytes.
struct WorkspaceParts {
  void* begin;
  size_t bytes = 0;
  template <class E>
  void take(E*& array, int64_t size) {
    array = begin ? reinterpret_cast<E*>(static_cast<char*>(begin) + bytes) : nullptr;
    bytes += (static_cast<size_t>(size) * sizeof(E) + 63) / 64 * 64;
  }
};

// An even cut of rows into tiles of at most kTileRows.
struct Tiles {
  int64_t count, least, taller;
  explicit Tiles(int64_t rows)
      : count((rows + kTileRows - 1) / kTileRows), least(rows / count), taller(rows % count) {}
  int64_t begin(int64_t t) const { return t * least + smaller(t, taller); }
  int height(int64_t t) const { return static_cast<int>(least + (t < taller ? 1 : 0)); }
};

// Some lanes of a vector: lane l is source[offset + l * step].
struct Piece {
  int64_t offset;
  uint32_t lanes;
  uint32_t last;  // of its vector: the next one begins another
};

#ifdef __AVX512F__
inline vf masked(const float* p, uint32_t lanes) {
  return {_mm512_maskz_loadu_ps(static_cast<__mmask16>(lanes), p)};
}
inline vf masked(const bf16* p, uint32_t lanes) {
  return from_bf16(_mm256_maskz_loadu_epi16(static_cast<__mmask16>(lanes), p));
}
inline vf even(vf low, vf high) {
  const __m512i index = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  return {_mm512_permutex2var_ps(low.v, index, high.v)};
}
// Both have zeros where the other has not.
inline vf either(vf a, vf b) { return {_mm512_or_ps(a.v, b.v)}; }
// The first and the last half of a[0] b[0] a[1] b[1] ...
inline vf first_pairs(vf a, vf b) {
  const __m512i index = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  return {_mm512_permutex2var_ps(a.v, index, b.v)};
}
inline vf last_pairs(vf a, vf b) {
  const __m512i index = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  return {_mm512_permutex2var_ps(a.v, index, b.v)};
}
#else
inline vf masked(const float* p, uint32_t lanes) {
  const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i set = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(lanes)), bits);
  return {_mm256_maskload_ps(p, _mm256_cmpeq_epi32(set, bits))};
}
inline vf masked(const bf16* p, uint32_t lanes) {
  bf16 some[vf::width];
  for (int i = 0; i < vf::width; ++i) some[i].bits = lanes >> i & 1 ? p[i].bits : uint16_t{0};
  return load(some);
}
inline vf even(vf low, vf high) {
  const __m256 pairs = _mm256_shuffle_ps(low.v, high.v, 0x88);
  return {_mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(pairs), 0xd8))};
}
inline vf either(vf a, vf b) { return {_mm256_or_ps(a.v, b.v)}; }
inline vf first_pairs(vf a, vf b) { return even_lanes(pairs_low(a, b), pairs_high(a, b)); }
inline vf last_pairs(vf a, vf b) { return odd_lanes(pairs_low(a, b), pairs_high(a, b)); }
#endif

// Bits 0 .. 15 to the even ones of 32.
inline uint32_t spread(uint32_t x) {
  x = (x | x << 8) & 0x00ff00ffu;
  x = (x | x << 4) & 0x0f0f0f0fu;
  x = (x | x << 2) & 0x33333333u;
  return (x | x << 1) & 0x55555555u;
}

template <class T>
inline vf load_piece(const T* p, uint32_t lanes, int64_t step) {
  if (step == 1) return masked(p, lanes);
  if (step == 2) {
    const uint32_t wide = spread(lanes);
    constexpr uint32_t all = (1ull << vf::width) - 1;
    return even(masked(p, wide & all), masked(p + vf::width, wide >> vf::width & all));
  }
  float some[vf::width];
  for (int i = 0; i < vf::width; ++i) some[i] = lanes >> i & 1 ? static_cast<float>(p[i * step]) : 0.0f;
  return load(some);
}
// The vector whose first piece this is; `piece` moves on to the next vector's.
template <class T>
inline vf load_pieces(const T* source, const Piece*& piece, int64_t step) {
  vf x = load_piece(source + piece->offset, piece->lanes, step);
  while (!(piece++)->last) x = either(x, load_piece(source + piece->offset, piece->lanes, step));
  return x;
}

// Lanes l = 0 .. count - 1 for which 0 <= first + l * step < size, as bits.
inline uint32_t lanes_inside(int64_t first, int64_t count, int64_t step, int64_t size) {
  int64_t begin = 0, end = count;
  if (step == 1) {
    if (first < 0) begin = -first;
    if (first + end > size) end = size - first;
  } else {
    while (begin < end && first + begin * step < 0) ++begin;
    while (end > begin && first + (end - 1) * step >= size) --end;
  }
  return begin < end ? static_cast<uint32_t>(((1ull << (end - begin)) - 1) << begin) : 0;
}

// Consecutive lanes of a panel whose places lie in one row of one image.
struct Run {
  int64_t image, y, x;  // of the first
  int lane, count;
};
// The runs of the `count` places from `place` on, of all images; how many.
inline int runs_of(const ConvSum& s, int64_t place, int count, Run* runs) {
  int n = 0;
  int64_t image = place / s.places(), y = place % s.places() / s.x.positions, x = place % s.x.positions;
  for (int lane = 0; lane < count; ++n) {
    const int64_t left = s.x.positions - x;
    const int some = left < count - lane ? static_cast<int>(left) : count - lane;
    runs[n] = {image, y, x, lane, some};
    lane += some, x = 0;
    if (++y == s.y.positions) y = 0, ++image;
  }
  return n;
}
// No more runs than this in a panel, pieces in it for one tap.
inline int64_t most_runs(const ConvSum& s) {
  const int64_t rows = kPanel / s.x.positions + 2;
  return rows < kPanel ? rows : kPanel;
}
inline int64_t most_pieces(const ConvSum& s) { return most_runs(s) + 2 * kVectors; }

// The pieces of taps [begin, end) and each vector of a panel, in this order, from the images' first channels of a group
// on. starts, unless null: where those of each vector begin. Returns their end.
inline Piece* pieces_of(const ConvSum& s, int64_t first, int64_t end, const Run* runs, int run_count,
                        Piece* to, int32_t* starts = nullptr) {
  const Piece* const first_piece = to;
  const int64_t image = s.groups * s.channels * s.source_area();
  constexpr uint32_t all = (1ull << vf::width) - 1;
  for (int64_t t = first; t < end; ++t)
    for (int v = 0; v < kVectors; ++v) {
      Piece* const begin = to;
      for (int i = 0; i < run_count; ++i) {
        const Run& run = runs[i];
        if (run.lane + run.count <= v * vf::width || run.lane >= (v + 1) * vf::width) continue;
        const int64_t row = run.y * s.y.source_step + s.taps[t].row;
        const int64_t column = run.x * s.x.source_step + s.taps[t].column;
        if (row < 0 || row >= s.y.source) continue;
        const uint32_t inside = lanes_inside(column, run.count, s.x.source_step, s.x.source);
        const uint32_t lanes = inside << run.lane >> (v * vf::width) & all;
        if (lanes == 0) continue;
        *to++ = {run.image * image + row * s.x.source + column + (v * vf::width - run.lane) * s.x.source_step,
                 lanes, 0};
      }
      if (to == begin) *to++ = {0, 0, 0};
      to[-1].last = 1;
      if (starts) *starts++ = static_cast<int32_t>(begin - first_piece);
    }
  return to;
}

}  // namespace qfm::QFM_ISA
