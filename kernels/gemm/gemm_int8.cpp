#include "kernels/gemm/gemm_int8.h"

#include <algorithm>
#include <cstring>

#include "engine/base/error.h"
#include "kernels/common/parallel_loops.h"
#include "kernels/gemm/gemm_finish.h"
#include "kernels/gemm/gemm_int8_block.h"

namespace qfm {

// avx2 multiplies without vpdpbusd.
namespace avx2 {
void gemm_int8_block(const GemmInt8Block& block);
}
namespace avx2vnni {
void gemm_int8_block(const GemmInt8Block& block);
}
namespace avx512vnni {
void gemm_int8_block(const GemmInt8Block& block);
}

// The readable code: what every other path must agree with.
namespace plain {
namespace {

float scale_of(const uint8_t* row, int64_t cols) {
  float scale;
  std::memcpy(&scale, row + int8_words_bytes(cols), sizeof scale);
  return scale;
}

void gemm_int8_block(const GemmInt8Block& g) {
  for (int64_t i = 0; i < g.rows; ++i)
    for (int64_t j = 0; j < g.n; ++j) {
      const uint8_t* a = g.a + i * int8_row_bytes(g.k);
      const float* panel = g.b + j / kInt8Panel * int8_panel_words(g.k) + j % kInt8Panel;
      int32_t sum = 0;
      for (int64_t p = 0; p < g.k; ++p)
        sum += (a[p] - 128) * reinterpret_cast<const int8_t*>(panel + p / 4 * kInt8Panel)[p % 4];
      const float scale = panel[int8_panel_words(g.k) - kInt8Panel];
      const float v = static_cast<float>(sum) * scale * scale_of(a, g.k);
      g.c[i * g.n + j] = finish(g.epilogue, v, i, j, g.n);
    }
}

}  // namespace
}  // namespace plain

namespace {

int64_t panels_of(int64_t n) { return (n + kInt8Panel - 1) / kInt8Panel; }

void check(int64_t m, int64_t n, int64_t k, const GemmEpilogue<float>& e = {}) {
  QFM_CHECK(m >= 0 && n >= 0 && k >= 0 && k <= kInt8MaxDepth, "gemm_int8: m ", m, ", n ", n, ", k ", k);
  QFM_CHECK(!e.pre_gelu && !e.times_gelu_grad_of && !e.sum_a, "gemm_int8: for inference only");
}

auto best_block() {
  if constexpr (has_vector_code) {
    if (cpu_dot() != CpuDot::None)
      return cpu_path() == CpuIsa::Avx2 ? &avx2vnni::gemm_int8_block : &avx512vnni::gemm_int8_block;
    if (cpu_path() != CpuIsa::Plain) return &avx2::gemm_int8_block;
  }
  return &plain::gemm_int8_block;
}

void pack_panel(float* to, const int8_t* w, const float* scale, int64_t columns, int64_t k) {
  std::memset(to, 0, static_cast<size_t>(int8_panel_words(k)) * sizeof *to);
  float* const ends = to + (k + 3) / 4 * kInt8Panel;
  for (int64_t j = 0; j < columns; ++j, w += k) {
    int32_t sum = 0;
    for (int64_t p = 0; p < k; ++p) sum += 128 * w[p];
    for (int64_t p = 0; p < k; p += 4)
      std::memcpy(to + p / 4 * kInt8Panel + j, w + p, static_cast<size_t>(std::min<int64_t>(4, k - p)));
    std::memcpy(ends + j, &sum, sizeof sum);
    ends[kInt8Panel + j] = scale[j];
  }
}

// f(block, its first row) for blocks of rows, whose c is left to f: two for each thread where there are enough.
template <class F>
void for_blocks(int64_t m, int64_t n, int64_t k, const uint8_t* a, const void* packed,
                const GemmEpilogue<float>& epilogue, F&& f) {
  constexpr int64_t least_rows = 14;
  check(m, n, k, epilogue);
  const int64_t most = (m + least_rows - 1) / least_rows, least = (m + kInt8BlockRows - 1) / kInt8BlockRows;
  const int64_t blocks = std::max(least, std::min<int64_t>(most, 2 * threads()));
  parallel_for(blocks, [&](int64_t i) {
    const int64_t row = m * i / blocks, rows = m * (i + 1) / blocks - row;
    GemmInt8Block block{rows, n, k, nullptr, a + row * int8_row_bytes(k), static_cast<const float*>(packed), epilogue};
    if (epilogue.residual) block.epilogue.residual += row * n;
    f(block, row);
  });
}

}  // namespace

size_t gemm_int8_packed_bytes(int64_t n, int64_t k) {
  check(0, n, k);
  return static_cast<size_t>(panels_of(n) * int8_panel_words(k)) * sizeof(float);
}

void gemm_int8_pack(Cpu, void* packed, const int8_t* w, const float* scale, int64_t n, int64_t k) {
  check(0, n, k);
  for_ranges(n, kInt8Panel, [&](int64_t begin, int64_t end) {
    pack_panel(static_cast<float*>(packed) + begin / kInt8Panel * int8_panel_words(k), w + begin * k, scale + begin,
               end - begin, k);
  });
}

void gemm_int8(Cpu, int64_t m, int64_t n, int64_t k, float* c, const uint8_t* a, const void* packed,
               const GemmEpilogue<float>& epilogue) {
  for_blocks(m, n, k, a, packed, epilogue, [&, run = best_block()](GemmInt8Block& block, int64_t row) {
    block.c = c + row * n;
    run(block);
  });
}

void gemm_int8(Cpu cpu, int64_t m, int64_t n, int64_t k, uint8_t* c, const uint8_t* a, const void* packed,
               const GemmEpilogue<float>& epilogue) {
  for_blocks(m, n, k, a, packed, epilogue, [&, run = best_block()](GemmInt8Block& block, int64_t row) {
    const Scratch floats(static_cast<size_t>(block.rows * n) * sizeof(float));  // stay in the second level of cache
    block.c = floats.as<float>();
    run(block);
    quantise_tokens(cpu, c + row * int8_row_bytes(n), block.c, block.rows, n);
  });
}

}  // namespace qfm
