// The parts of a product whose k was cut, added up in order. Included by products and convolutions.
#pragma once
#include "kernels/gemm/gemm_epilogue.cuh"

namespace qfm {

constexpr int kPartsInFlight = 8;  // that a thread asks the memory for together

// C = epilogue(the sum of `count` parts, in their order); sum_a (m) likewise, if not null.
template <bool in_packs, class T>
__global__ void __launch_bounds__(256)
    gemm_add_parts_kernel(GemmOutput<T> to, const float* parts, float* sum_a, const float* parts_of_a,
                          int64_t count) {
  const int64_t packs = (to.n + kEpiloguePack - 1) / kEpiloguePack;
  const int64_t at = int64_t{blockIdx.x} * 256 + threadIdx.x, i = at - to.m * packs;
  if (i < 0) {
    const int64_t row = at / packs, column = at % packs * kEpiloguePack;
    const int width = to.n - column < kEpiloguePack ? static_cast<int>(to.n - column) : kEpiloguePack;
    float v[1][kEpiloguePack] = {};
    for (int64_t part = 0; part < count; part += kPartsInFlight) {
      Pack<float, kEpiloguePack> some[kPartsInFlight];  // zeros past the last part
#pragma unroll
      for (int p = 0; p < kPartsInFlight; ++p)
        some[p] = read_pack<in_packs>(parts + ((part + p) * to.m + row) * to.n + column,
                                      part + p < count ? width : 0);
#pragma unroll
      for (int p = 0; p < kPartsInFlight; ++p)
        for (int x = 0; x < kEpiloguePack; ++x) v[0][x] += some[p].at[x];
    }
    finish_rows<in_packs>(to, v, row, 1, 1, column, width);
  } else if (sum_a && i < to.m) {
    float sum = 0;
    for (int64_t part = 0; part < count; ++part) sum += parts_of_a[part * to.m + i];
    sum_a[i] = sum;
  }
}

template <class T>
void gemm_add_parts(Cuda cuda, const GemmOutput<T>& to, const float* parts, float* sum_a,
                    const float* parts_of_a, int64_t count) {
  const int64_t threads = to.m * ((to.n + kEpiloguePack - 1) / kEpiloguePack) + to.m;
  const auto add = [&]<bool in_packs>(std::bool_constant<in_packs>) {
    launch<gemm_add_parts_kernel<in_packs, T>>((threads + 255) / 256, 256, 0, cuda.stream, to, parts, sum_a,
                                               parts_of_a, count);
  };
  to.in_packs ? add(std::true_type{}) : add(std::false_type{});
}

}  // namespace qfm
