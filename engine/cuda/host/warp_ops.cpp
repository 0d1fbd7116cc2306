// Software bodies of the warp's matrix instructions. Lane l is in group g = l / 4 and the t = l % 4-th there.
#include "engine/cuda/warp_ops.h"

#include <cstring>

#include "engine/cuda/host/block.h"

namespace qfm::host_cuda {
namespace {

// What a lane brings to ldmatrix: its row of 8 16-bit numbers, as it was when the lane came.
struct MatrixRow {
  uint16_t row[8];
  uint32_t* r;
  bool transposed;
};

void load_matrices(void* const (&lanes)[32]) {
  const auto of = [&](int lane) { return static_cast<MatrixRow*>(lanes[lane]); };
  for (int lane = 0; lane < 32; ++lane)
    for (int m = 0; m < 4; ++m) {
      const int g = lane / 4, t = lane % 4;
      const auto element = [&](int row, int column) -> uint32_t { return of(8 * m + row)->row[column]; };
      of(lane)->r[m] = of(lane)->transposed ? element(2 * t, g) | element(2 * t + 1, g) << 16
                                            : element(g, 2 * t) | element(g, 2 * t + 1) << 16;
    }
}

struct Fragments {
  float* d;
  const uint32_t *a, *b;
};

using Row = float __attribute__((vector_size(32)));  // of 8 columns

// Products of two bf16 are exact in a float.
void multiply(void* const (&lanes)[32]) {
  float a[16][16];
  Row b[16], d[16];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& f = *static_cast<const Fragments*>(lanes[lane]);
    const int g = lane / 4, k = lane % 4 * 2;
    for (int i = 0; i < 4; ++i) {
      float* pair = &a[g + i % 2 * 8][k + i / 2 * 8];
      pair[0] = low_bf16(f.a[i]), pair[1] = high_bf16(f.a[i]);
      d[g + i / 2 * 8][k + i % 2] = f.d[i];
    }
    for (int i = 0; i < 2; ++i) b[k + 8 * i][g] = low_bf16(f.b[i]), b[k + 8 * i + 1][g] = high_bf16(f.b[i]);
  }
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < 16; ++k) d[row] += a[row][k] * b[k];
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i)
      static_cast<Fragments*>(lanes[lane])->d[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
}

}  // namespace

void ldmatrix(uint32_t* r, bool transposed, const void* row, Where where) {
  MatrixRow mine{{}, r, transposed};
  block.check_shared(row, 16, "ldmatrix from", where);
  if (kFindRaces) block.access(row, 16, false, site_of(where));
  std::memcpy(mine.row, row, 16);
  block.whole_warp(&load_matrices, &mine, where);
}

void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where) {
  Fragments mine{d, a, b};
  block.whole_warp(&multiply, &mine, where);
}

}  // namespace qfm::host_cuda
