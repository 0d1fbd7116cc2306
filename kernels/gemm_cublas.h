// Matrix products by cuBLASLt, in builds that know it. F32 is true F32, unless QFM_TF32=on asks for TF32.
#pragma once
#include "kernels/gemm.h"

namespace qfm::cublas {

#ifdef QFM_WITH_CUBLAS
// The product of gemm.h, if the table of choices (kernels/choice.h) or, without one, this rule says cuBLASLt:
// no GELU and no derivative of it, which it does not have in the erf form. False: our own kernel is to serve,
// also where the library is absent or has no algorithm. The same bits for the same arguments on the same
// device and library.
template <class T, class Out>
bool gemm(Cuda cuda, const GemmShape& shape, Out* c, const T* a, const T* b, const GemmEpilogue<T>& epilogue);

// Whatever the table says: by the suggestion of that number, 0 the best to cuBLASLt's knowledge. False: there
// is none.
template <class T, class Out>
bool gemm_by(Cuda cuda, int algorithm, const GemmShape& shape, Out* c, const T* a, const T* b,
             const GemmEpilogue<T>& epilogue);

// c = GELU(a b + bias) all in cuBLASLt's epilogue, whose GELU is the tanh form: up to 5e-4 from gemm's, so it
// is there to be measured, not to be used. False: it cannot.
bool gemm_bias_gelu_tanh(Cuda cuda, const GemmShape& shape, bf16* c, const bf16* a, const bf16* b,
                         const bf16* bias);

// Suggestions that are asked for.
inline constexpr int kMostAlgorithms = 8;
#else
template <class T, class Out>
bool gemm(Cuda, const GemmShape&, Out*, const T*, const T*, const GemmEpilogue<T>&) {
  return false;
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
