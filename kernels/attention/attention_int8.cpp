#include "kernels/attention/attention_int8.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "engine/base/cpu.h"
#include "engine/base/threads.h"
#include "engine/memory/memory.h"
#include "kernels/attention/attention_blocks.h"
#include "kernels/pointwise/quantise.h"

namespace qfm {

#define QFM_ATTENTION_INT8                                       \
  int64_t attention_int8_workspace(const AttentionShape& shape); \
  void attention_int8_head(const AttentionForward<float>& head);
namespace avx2vnni {
QFM_ATTENTION_INT8
}
namespace avx512vnni {
QFM_ATTENTION_INT8
}

// The readable code: what every other path must agree with.
namespace plain {
namespace {

// n numbers, `step` apart, as whole numbers -127 .. 127 at `to`; their scale.
float rounded(int32_t* to, const float* x, int64_t n, int64_t step) {
  float top = 0;
  for (int64_t i = 0; i < n; ++i)
    top = std::isfinite(x[i * step]) ? std::max(top, std::fabs(x[i * step]))
                                     : std::numeric_limits<float>::quiet_NaN();
  const bool some = top >= kLeastQuantised;
  for (int64_t i = 0; i < n; ++i) to[i] = some ? static_cast<int32_t>(std::lrint(x[i * step] * (127.0f / top))) : 0;
  return some || std::isnan(top) ? top / 127.0f : 0.0f;
}

int32_t dot(const int32_t* x, const int32_t* y, int64_t n) {
  int32_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i] * y[i];
  return sum;
}

void attention_int8_head(const AttentionForward<float>& h) {
  const int64_t d = h.shape.head_dim, n = h.visible.keys;
  std::vector<int32_t> q(d), k(n * d), v(d * n), p(n);  // v: by columns
  std::vector<float> k_scale(n), v_scale(d), s(n);
  for (int64_t j = 0; j < n; ++j) k_scale[j] = rounded(&k[j * d], h.k[j], d, 1);
  for (int64_t c = 0; c < d; ++c) v_scale[c] = rounded(v.data() + c * n, h.v.data + c, n, h.v.ld);
  for (int64_t i = h.first; i < h.last; ++i) {
    const int64_t seen = h.visible.of(i);
    const float q_scale = static_cast<float>(h.shape.scale()) * rounded(q.data(), h.q[i], d, 1);
    float top = -std::numeric_limits<float>::infinity(), sum = seen > 0 ? 0 : 1;
    for (int64_t j = 0; j < seen; ++j) {
      s[j] = static_cast<float>(dot(q.data(), &k[j * d], d)) * k_scale[j] * q_scale;
      top = std::max(top, s[j]);
    }
    for (int64_t j = 0; j < seen; ++j) {
      const float steps = std::nearbyint(std::exp(s[j] - top) * 255.0f);
      sum += steps, p[j] = std::isnan(steps) ? 0 : static_cast<int32_t>(steps);
    }
    for (int64_t c = 0; c < d; ++c)
      h.o[i][c] = static_cast<float>(dot(p.data(), v.data() + c * n, seen)) * v_scale[c] * (1 / sum);
  }
}

}  // namespace
}  // namespace plain

namespace {

struct Code {
  void (*head)(const AttentionForward<float>&);
  int64_t (*workspace)(const AttentionShape&);
};
Code best_code() {
  if constexpr (has_vector_code) {
    if (cpu_path() == CpuIsa::Avx2) return {&avx2vnni::attention_int8_head, &avx2vnni::attention_int8_workspace};
    if (cpu_path() == CpuIsa::Avx512) return {&avx512vnni::attention_int8_head, &avx512vnni::attention_int8_workspace};
  }
  return {&plain::attention_int8_head, [](const AttentionShape&) { return int64_t{0}; }};
}

}  // namespace

void attention_forward_int8(Cpu cpu, AttentionShape s, Heads<float> o, Heads<const float> q, Heads<const float> k,
                            Heads<const float> v) {
  if (cpu_path() != CpuIsa::Plain && cpu_dot() == CpuDot::None)
    return attention_forward<float>(cpu, s, o, nullptr, q, k, v);
  const Code code = best_code();
  const auto bytes = static_cast<size_t>(code.workspace(s)) * sizeof(float);
  for_head_blocks(s, [&](int64_t head, int64_t first, int64_t last) {
    const Scratch workspace(bytes);
    const auto rows = [&](auto x, int64_t tokens) { return rows_of_head(x, s, tokens, head); };
    code.head({s, visible_keys<int64_t>(s, head / s.heads), rows(o, s.queries), nullptr, rows(q, s.queries),
               rows(k, s.keys), rows(v, s.keys), first, last, workspace.as<float>()});
  });
}

}  // namespace qfm
