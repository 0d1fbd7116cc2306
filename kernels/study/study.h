// Study ladders: one function written several times, naive first, the shipped one last, one idea a step.
// Every step computes the same function in BF16 for every size; each is told in a paragraph above its kernel.
// Measure them with `qfm bench kernels`, which puts a vendor's library above the first step: the X_by_vendor
// of a ladder computes what its steps do, or returns false where the library is absent or refuses the sizes.
#pragma once
#include <cstdint>
#include <span>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"
#include "kernels/attention/attention.h"
#include "kernels/conv/conv2d.h"

namespace qfm {

template <class Run>
struct StudyStep {
  const char* name;
  const char* idea;  // what it changes, in one line
  Run* run;
};

// y (m, n) = x (m, k) w (n, k)^T
using GemmRun = void(Cuda, int64_t m, int64_t n, int64_t k, bf16* y, const bf16* x, const bf16* w);
std::span<const StudyStep<GemmRun>> gemm_steps();
bool gemm_by_vendor(Cuda, int64_t m, int64_t n, int64_t k, bf16* y, const bf16* x,
                    const bf16* w);  // cuBLASLt

// y (m, n) = GELU(x (m, k) w (n, k)^T + bias (n)). Steps may round the product to BF16 before the
// bias is added.
using BiasGeluRun = void(Cuda, int64_t m, int64_t n, int64_t k, bf16* y, const bf16* x, const bf16* w,
                         const bf16* bias);
std::span<const StudyStep<BiasGeluRun>> bias_gelu_steps();
// cuBLASLt with both in its epilogue. Its GELU is the tanh form, up to 5e-4 from the erf form of the steps.
bool bias_gelu_by_vendor(Cuda, int64_t m, int64_t n, int64_t k, bf16* y, const bf16* x, const bf16* w,
                         const bf16* bias);

// o = softmax(q k^T / sqrt(d)) v, as attention_forward (kernels/attention/attention.h) without lse.
using AttentionRun = void(Cuda, AttentionShape shape, Heads<bf16> o, Heads<const bf16> q, Heads<const bf16> k,
                          Heads<const bf16> v);
std::span<const StudyStep<AttentionRun>> attention_steps();
bool attention_by_vendor(Cuda, AttentionShape shape, Heads<bf16> o, Heads<const bf16> q, Heads<const bf16> k,
                         Heads<const bf16> v);  // cuDNN

// y (rows, cols) = layernorm(x (rows, cols)) with w, b (cols), eps 1e-6; mean, rstd (rows): see layernorm.h.
using LayernormRun = void(Cuda, int64_t rows, int64_t cols, bf16* y, float* mean, float* rstd, const bf16* x,
                          const bf16* w, const bf16* b);
std::span<const StudyStep<LayernormRun>> layernorm_steps();
bool layernorm_by_vendor(Cuda, int64_t rows, int64_t cols, bf16* y, float* mean, float* rstd, const bf16* x,
                         const bf16* w, const bf16* b);  // cuDNN

// y = x * w, as conv2d_forward (kernels/conv/conv2d.h) without an epilogue; one group.
using ConvRun = void(Cuda, const ConvShape& shape, bf16* y, const bf16* x, const bf16* w);
std::span<const StudyStep<ConvRun>> conv_steps();
bool conv_by_vendor(Cuda, const ConvShape& shape, bf16* y, const bf16* x, const bf16* w);  // cuDNN

}  // namespace qfm
