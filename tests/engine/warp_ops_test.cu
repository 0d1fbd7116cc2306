// The instructions of engine/cuda/warp_ops.h, on a GPU or in host-CUDA, against their contracts.
#include <cmath>
#include <vector>

#include "engine/base/rng.h"
#include "engine/cuda/cuda.h"
#include "engine/cuda/warp_ops.h"
#include "tests/guarded.h"
#include "tests/schedules.h"
#include "tests/support.h"

namespace qfm {
namespace {

using test::Guarded;

std::vector<bf16> random_bf16(const char* name, size_t n) {
  Rng rng(11, name);
  std::vector<bf16> v(n);
  for (bf16& x : v) x = bf16(rng.normal());
  return v;
}

__device__ uint32_t pair(bf16 low, bf16 high) { return low.bits | static_cast<uint32_t>(high.bits) << 16; }

// Fragments straight from memory, as the contract of mma_bf16 places them.
__global__ void mma_kernel(float* d, const bf16* a, const bf16* b) {
  const int g = lane_id() / 4, t = lane_id() % 4;
  uint32_t as[4], bs[2];
  for (int i = 0; i < 4; ++i) {
    const bf16* p = a + (g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8;
    as[i] = pair(p[0], p[1]);
  }
  for (int i = 0; i < 2; ++i) bs[i] = pair(b[(2 * t + 8 * i) * 8 + g], b[(2 * t + 8 * i + 1) * 8 + g]);
  float ds[4];
  for (int i = 0; i < 4; ++i) ds[i] = d[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
  mma_bf16(ds, as, bs);
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = ds[i];
}

// The same product with fragments that ldmatrix loads from shared memory. transposed: b is given as (8, 16).
template <bool transposed>
__global__ void tile_kernel(float* d, const bf16* a, const bf16* b) {
  using Row = Pack<bf16, 8>;
  SHARED(Row, as, [32]);  // a (16, 16)
  SHARED(Row, bs, [16]);
  cp_async16(&as[lane_id()], a + 8 * lane_id());
  if (lane_id() < 16) cp_async16(&bs[lane_id()], b + 8 * lane_id());
  cp_async_commit();
  cp_async_wait<0>();
  __syncwarp();
  const int lane = lane_id();
  uint32_t af[4], bf[4];  // the second half of bf repeats the first
  ldmatrix_x4(af, &as[lane % 16 * 2 + lane / 16]);
  if (transposed) ldmatrix_x4(bf, &bs[lane % 8 * 2 + lane % 16 / 8]);
  else ldmatrix_x4_trans(bf, &bs[lane % 16]);
  float ds[4] = {};
  mma_bf16(ds, af, {bf[0], bf[1]});
  for (int i = 0; i < 4; ++i) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = ds[i];
}

// Equal to the plain product within the rounding of its 17 sums.
void check_product(const std::vector<float>& got, const std::vector<float>& before,
                   const std::vector<bf16>& a, const std::vector<bf16>& b) {
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 8; ++j) {
      double sum = before[i * 8 + j], size = std::fabs(sum);
      for (int k = 0; k < 16; ++k) {
        const double term = double{static_cast<float>(a[i * 16 + k])} * static_cast<float>(b[k * 8 + j]);
        sum += term, size += std::fabs(term);
      }
      CHECK(std::fabs(got[i * 8 + j] - sum) <= 17 * 0x1p-23 * size);
    }
}

TEST_CASE("warp_ops: mma_bf16 is a (16, 16) by (16, 8) product") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const auto a = random_bf16("a", 256), b = random_bf16("b", 128);
  std::vector<float> before(128);
  for (int i = 0; i < 128; ++i) before[i] = 0.37f * i - 20;
  test::for_schedules([&] {
    Guarded<bf16> da(cuda_device, a), db(cuda_device, b);
    Guarded<float> d(cuda_device, before);
    launch<mma_kernel>(1, 32, 0, nullptr, d.data(), da.data(), db.data());
    check_product(d.values(), before, a, b);
  });
}

TEST_CASE("warp_ops: cp_async16, ldmatrix and mma_bf16 make a product together") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const auto a = random_bf16("a", 256), b = random_bf16("b", 128);
  std::vector<bf16> bt(128);
  for (int k = 0; k < 16; ++k)
    for (int j = 0; j < 8; ++j) bt[j * 16 + k] = b[k * 8 + j];
  const std::vector<float> zero(128, 0.0f);
  test::for_schedules([&] {
    Guarded<bf16> da(cuda_device, a), db(cuda_device, b), dbt(cuda_device, bt);
    Guarded<float> d(cuda_device, 128), dt(cuda_device, 128);
    launch<tile_kernel<false>>(1, 32, 0, nullptr, d.data(), da.data(), db.data());
    launch<tile_kernel<true>>(1, 32, 0, nullptr, dt.data(), da.data(), dbt.data());
    check_product(d.values(), zero, a, b);
    check_product(dt.values(), zero, a, b);
  });
}

// Element (row, column) of matrix m is 64 m + 8 row + column. out (2 kinds, 32 lanes, 4 registers)
__global__ void ldmatrix_kernel(uint32_t* out) {
  using Row = Pack<uint16_t, 8>;
  SHARED(Row, rows, [32]);
  const int lane = lane_id();
  for (int i = 0; i < 8; ++i) rows[lane].at[i] = static_cast<uint16_t>(8 * lane + i);
  __syncwarp();
  uint32_t r[2][4];
  ldmatrix_x4(r[0], &rows[lane]);
  ldmatrix_x4_trans(r[1], &rows[lane]);
  for (int kind = 0; kind < 2; ++kind)
    for (int m = 0; m < 4; ++m) out[(kind * 32 + lane) * 4 + m] = r[kind][m];
}

TEST_CASE("warp_ops: every lane gets the elements that the contract of ldmatrix gives it") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  test::for_schedules([] {
    Guarded<uint32_t> out(cuda_device, 2 * 32 * 4);
    launch<ldmatrix_kernel>(1, 32, 0, nullptr, out.data());
    const std::vector<uint32_t> r = out.values();
    for (int kind = 0; kind < 2; ++kind)
      for (int lane = 0; lane < 32; ++lane)
        for (int m = 0; m < 4; ++m) {
          const int g = lane / 4, t = lane % 4;
          const uint32_t low = 64 * m + (kind == 0 ? 8 * g + 2 * t : 8 * (2 * t) + g);
          const uint32_t high = 64 * m + (kind == 0 ? 8 * g + 2 * t + 1 : 8 * (2 * t + 1) + g);
          REQUIRE(r[(kind * 32 + lane) * 4 + m] == (low | high << 16));
        }
  });
}

// Thread t's 16 bytes of each of n stages of x, two copies in flight, summed; zeros for every third thread.
__global__ void pipeline_kernel(float* out, const float* x, int n) {
  using Pack4 = Pack<float, 4>;
  SHARED(Pack4, buffer, [2][64]);
  const int t = threadIdx.x;
  const auto start = [&](int stage) {
    if (stage < n) cp_async16(&buffer[stage % 2][t], x + (stage * 64 + t) * 4, t % 3 != 0);
    cp_async_commit();
  };
  float sum = 0;
  start(0);
  for (int stage = 0; stage < n; ++stage) {
    start(stage + 1);
    cp_async_wait<1>();
    __syncthreads();
    for (int i = 0; i < 4; ++i) sum += buffer[stage % 2][(t + 1) % 64].at[i];
    __syncthreads();
  }
  out[t] = sum;
}

TEST_CASE("warp_ops: cp_async16 copies or fills with zeros, group after group") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const int n : {1, 2, 5}) {
    std::vector<float> x(n * 64 * 4);
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 1000);
    test::for_schedules([&] {
      Guarded<float> dx(cuda_device, x), out(cuda_device, 64);
      launch<pipeline_kernel>(1, 64, 0, nullptr, out.data(), dx.data(), n);
      const std::vector<float> got = out.values();
      for (int t = 0; t < 64; ++t) {
        const int from = (t + 1) % 64;
        float sum = 0;
        for (int stage = 0; stage < n && from % 3 != 0; ++stage)
          for (int i = 0; i < 4; ++i) sum += x[(stage * 64 + from) * 4 + i];
        REQUIRE(got[t] == sum);
      }
    });
  }
}

// out: warp_max, warp_sum, then the halves of a packed pair
__global__ void words_kernel(float* out, const float* x) {
  const int lane = lane_id();
  const uint32_t pair = pack_bf16(x[lane], x[(lane + 1) % 32]);
  out[4 * lane] = warp_max(x[lane]), out[4 * lane + 1] = warp_sum(x[lane]);
  out[4 * lane + 2] = low_bf16(pair), out[4 * lane + 3] = high_bf16(pair);
}

TEST_CASE("warp_ops: warp_max, warp_sum and pairs of bf16") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  std::vector<float> x(32);
  for (int i = 0; i < 32; ++i) x[i] = (i * 7 % 32 - 11) * 1.00390625f;  // halfway between two bf16 at times
  Guarded<float> dx(cuda_device, x), out(cuda_device, 128);
  launch<words_kernel>(1, 32, 0, nullptr, out.data(), dx.data());
  const std::vector<float> got = out.values();
  double sum = 0;
  for (const float v : x) sum += v;
  for (int i = 0; i < 32; ++i) {
    CHECK(got[4 * i] == 20 * 1.00390625f);
    CHECK(got[4 * i + 1] == sum);
    CHECK(got[4 * i + 2] == static_cast<float>(bf16(x[i])));
    CHECK(got[4 * i + 3] == static_cast<float>(bf16(x[(i + 1) % 32])));
  }
}

}  // namespace
}  // namespace qfm
