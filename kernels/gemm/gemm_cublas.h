// Matrix products by cuBLASLt, in builds that know it. F32 is true F32, unless QFM_TF32=on asks for TF32.
#pragma once
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_layout.h"
#include "kernels/vendor/vendor_case.h"

namespace qfm::cublas {

// Without a table products without GELU and its derivative go to cuBLASLt, which does not have the erf form.
inline bool by_rule(const GemmFusion& fusion) { return !fusion.gelu && !fusion.times_gelu_grad; }

#ifdef QFM_WITH_CUBLAS
// The product of gemm.h, if the policy table (kernels/vendor/kernel_policy.h) or, without one, the rule
// names cuBLASLt. False: our own kernel is to serve, also where the library is absent, has no algorithm or has
// failed (kernels/vendor/vendor_case.h). The same bits for the same arguments on the same device and library.
template <class T, class Out>
bool gemm(Cuda cuda, const GemmShape& shape, Out* c, const T* a, const T* b, const GemmEpilogue<T>& epilogue);

// The same whatever the table: by the suggestion of that number, 0 the best to cuBLASLt's knowledge. False: there
// is none, or it has failed.
template <class T, class Out>
bool gemm_by(Cuda cuda, int algorithm, const GemmShape& shape, Out* c, const T* a, const T* b,
             const GemmEpilogue<T>& epilogue);

// c = GELU(a b + bias) all in cuBLASLt's epilogue, whose GELU is the tanh form: up to 5e-4 from gemm's, so it
// is there to be measured, not to be used. False: it cannot.
bool gemm_bias_gelu_tanh(Cuda cuda, const GemmShape& shape, bf16* c, const bf16* a, const bf16* b,
                         const bf16* bias);

// Algorithms that are asked for.
inline constexpr int kMostAlgorithms = 8;
#else
template <class T, class Out>
bool gemm([[maybe_unused]] Cuda cuda, [[maybe_unused]] const GemmShape& s, [[maybe_unused]] Out* c,
          [[maybe_unused]] const T* a, [[maybe_unused]] const T* b,
          [[maybe_unused]] const GemmEpilogue<T>& e) {
#ifdef QFM_CUDA_HOST
  if (!vendor_stand_in()) return false;
  const GemmFusion fusion = fusion_of(e);
  const auto key = [&] { return gemm_key(s, dtype_of<T>, dtype_of<Out>, fusion); };
  if (!choose(key, by_rule(fusion)).vendor || !gemm_plan(s, dtype_of<T>, dtype_of<Out>, fusion)) return false;
  return served_by_vendor(key, [&] {
    const auto bytes = static_cast<size_t>(s.m * s.n) * sizeof(Out);
    vendor_stand_in()(key(), c, bytes, [&] { gemm_own<T, Out>(cuda, s, c, a, b, e); });
    return true;
  });
#else
  return false;
#endif
}
template <class T, class Out>
bool gemm_by(Cuda, int, const GemmShape&, Out*, const T*, const T*, const GemmEpilogue<T>&) {
  return false;
}
inline bool gemm_bias_gelu_tanh(Cuda, const GemmShape&, bf16*, const bf16*, const bf16*, const bf16*) {
  return false;
}
#endif

}  // namespace qfm::cublas
