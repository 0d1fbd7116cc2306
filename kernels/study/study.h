// Study ladders: one function written several times, naive first, the shipped one last, one idea a step.
// Every step computes the same function in BF16 for every size; each is told in a paragraph above its kernel.
// Measure them with `qfm bench kernels`.
#pragma once
#include <cstdint>
#include <span>

#include "engine/base/device.h"
#include "engine/base/dtype.h"
#include "kernels/attention.h"

namespace qfm {

template <class Run>
struct Step {
  const char* name;
  const char* idea;  // what it changes, in one line
  Run* run;
};

// y (m, n) = x (m, k) w (n, k)^T
using GemmRun = void(Cuda, int64_t m, int64_t n, int64_t k, bf16* y, const bf16* x, const bf16* w);
std::span<const Step<GemmRun>> gemm_steps();

// y (m, n) = GELU(x (m, k) w (n, k)^T + bias (n)). Steps may round the product to BF16 before the bias is
// added.
using BiasGeluRun = void(Cuda, int64_t m, int64_t n, int64_t k, bf16* y, const bf16* x, const bf16* w,
                         const bf16* bias);
std::span<const Step<BiasGeluRun>> bias_gelu_steps();

// o = softmax(q k^T / sqrt(d)) v, as attention_forward (kernels/attention.h) without lse.
using AttentionRun = void(Cuda, AttentionShape shape, Heads<bf16> o, Heads<const bf16> q, Heads<const bf16> k,
                          Heads<const bf16> v);
std::span<const Step<AttentionRun>> attention_steps();

// y (rows, cols) = layernorm(x (rows, cols)) with w, b (cols), eps 1e-6; mean, rstd (rows): see layernorm.h.
using LayernormRun = void(Cuda, int64_t rows, int64_t cols, bf16* y, float* mean, float* rstd, const bf16* x,
                          const bf16* w, const bf16* b);
std::span<const Step<LayernormRun>> layernorm_steps();

}  // namespace qfm
