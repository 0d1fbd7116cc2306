// A matrix product on tensor cores fed by cp.async, with a place for each bug.
#pragma once
#include <utility>

#include "engine/cuda/warp_ops.h"
#include "tests/engine/planted_bugs.h"

namespace qfm::test {

// c (m, n) = a (m, k) b (k, n) in tiles of 32 x 16, two warps of 16 rows; n and k are multiples of 8. A step
// multiplies 16 columns of a while the next ones come.
template <Bug bug>
__global__ void product_kernel(float* c, const bf16* a, const bf16* b, int m, int n, int k) {
  using Row = Pack<bf16, 8>;
  SHARED(Row, as, [2][32][2]);
  SHARED(Row, bs, [2][16][2]);
  const int t = threadIdx.x, lane = lane_id(), warp = warp_id(), column0 = blockIdx.x * 16;
  const int steps = (k + 15) / 16 - (bug == Bug::LastStepForgotten);
  float d[2][4] = {};
  for (int row0 = blockIdx.y * 32; row0 < m; row0 += gridDim.y * 32) {
    const auto copy = [&](Row* to, const bf16* from, int64_t offset, bool inside) {
      const bool valid = inside || bug == Bug::MissingZeroFill;
      cp_async16(to, from + (valid ? offset : 0), valid);
    };
    const auto start = [&](int step) {
      if (step < steps + (bug == Bug::PrefetchPastEnd)) {
        const int i = t / 2, half = t % 2, buffer = step % 2;
        const int row = row0 + i, column = step * 16 + half * 8;
        copy(&as[buffer][i + (bug == Bug::CopyOutsideShared)][half], a, int64_t{row} * k + column,
             row < m && column < k);
        const int b_row = step * 16 + i, b_column = column0 + half * 8;
        if (i < 16) copy(&bs[buffer][i][half], b, int64_t{b_row} * n + b_column, b_row < k && b_column < n);
      }
      if (bug != Bug::Uncommitted) cp_async_commit();
    };
    if (bug != Bug::StaleAccumulator)
      for (auto& tile : d)
        for (float& v : tile) v = 0;
    start(0);
    for (int step = 0; step < steps; ++step) {
      start(step + 1);
      if (bug == Bug::ShortWait) cp_async_wait<2>();
      else if (bug != Bug::UnwaitedRead) cp_async_wait<1>();
      if (bug != Bug::NoBarrierAfterWait) __syncthreads();
      const int buffer = (step + (bug == Bug::BuffersSwapped)) % 2;
      uint32_t af[4], bf[4];
      const auto* a_row = as[buffer][16 * warp + lane % (bug == Bug::WrongMatrixRow ? 8 : 16)][lane / 16].at;
      ldmatrix_x4(af, a_row + (bug == Bug::MisalignedMatrixRow));
      if (bug == Bug::WrongFragment) std::swap(af[1], af[2]);
      const Row* b_row = &bs[buffer][lane % 16][lane / 16];
      if (bug == Bug::MissingTranspose) ldmatrix_x4(bf, b_row);
      else ldmatrix_x4_trans(bf, b_row);
      for (int j = 0; j < 2; ++j) mma_bf16(d[j], af, {bf[2 * j], bf[2 * j + 1]});
      if (bug != Bug::NoBarrierBeforeRefill) __syncthreads();
    }
    if (bug == Bug::UnwaitedRead || bug == Bug::ShortWait) cp_async_wait<0>();
    for (int j = 0; j < 2; ++j)
      for (int i = 0; i < 4; ++i) {
        const int place = bug == Bug::WrongOutputFragment ? i / 2 + i % 2 * 2 : i;
        const int row = row0 + 16 * warp + lane / 4 + place / 2 * 8;
        const int column = column0 + 8 * j + lane % 4 * 2 + place % 2;
        if (row < m + (bug == Bug::RowGuard) && column < n) c[int64_t{row} * n + column] = d[j][i];
      }
  }
}

// Small whole numbers: every order of addition is exact.
template <Bug bug>
Hunt hunt_in_product() {
  struct Size {
    int m, n, k;
  };
  Hunt hunt;
  for (const Size& s : {Size{1, 8, 8}, Size{70, 24, 40}, Size{197, 16, 72}}) {
    const auto whole = [](size_t i) { return static_cast<float>(i * 37 % 9) - 4; };
    const auto a = with_margin<bf16>(s.m * s.k, 40 * s.k, whole),
               b = with_margin<bf16>(s.k * s.n, 20 * s.n, whole);
    // 16-byte rows need an aligned start, which a vector's memory has.
    std::vector<float> c;
    const auto launch_it = [&] {
      c.assign((s.m + 1) * s.n, kNan);
      launch<product_kernel<bug>>(dim3((s.n + 15) / 16, 2), 64, 0, nullptr, c.data(), a.data(), b.data(), s.m,
                                  s.n, s.k);
    };
    hunt.run(launch_it, [&] {
      bool sound = all_nan(c, s.m * s.n);
      for (int i = 0; i < s.m; ++i)
        for (int j = 0; j < s.n; ++j) {
          float sum = 0;
          for (int p = 0; p < s.k; ++p)
            sum += static_cast<float>(a[i * s.k + p]) * static_cast<float>(b[p * s.n + j]);
          sound = sound && c[i * s.n + j] == sum;
        }
      return sound;
    });
  }
  return hunt;
}

}  // namespace qfm::test
