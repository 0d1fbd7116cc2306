// A row-major matrix product in the words of cuBLASLt, which stores columns: pure functions, tested
// without a GPU.
//
// Row-major C (m, n) is, to a reader of columns, C^T (n, m), and C^T = op(B)^T op(A)^T. So cuBLASLt's
// first operand is our b and its second our a, m and n change places, and a matrix stored without
// transposing stays so.
#pragma once
#include <optional>
#include <string>

#include "kernels/gemm/gemm.h"

namespace qfm {

// Which members of a GemmEpilogue are set.
struct GemmFusion {
  bool bias = false, pre_gelu = false, gelu = false, times_gelu_grad = false, residual = false, sum_a = false;
  friend auto operator<=>(const GemmFusion&, const GemmFusion&) = default;
};
template <class T>
GemmFusion fusion_of(const GemmEpilogue<T>& e) {
  return {e.bias != nullptr,     e.pre_gelu != nullptr, e.gelu, e.times_gelu_grad_of != nullptr,
          e.residual != nullptr, e.sum_a != nullptr};
}

// D = epilogue(op(A) op(B) + beta C), sums in F32; C has D's layout.
struct GemmLayout {
  struct Matrix {  // element (i, j) at i + j ld
    DType type;
    int64_t rows, cols, ld;
  };
  enum class Epilogue : uint8_t {
    None,
    Bias,          // a vector of d.rows is added to each column
    BiasGeluTanh,  // and GELU of it, in the tanh form: no plan asks for it, see gemm_cublas.h
    BiasGradB      // a vector of d.cols is written: the sums of op(B)'s columns
  };
  Matrix a, b, d;           // a: our b; b: our a
  bool trans_a, trans_b;    // op(X) = X^T
  float beta;               // 1: C is the residual
  Epilogue epilogue;        // its vector has the type of d
  int64_t vector_size = 0;  // elements of that vector
};

// A product and what follows it. cuBLASLt's GELU is the tanh form and ours the erf form, so GELU and its
// derivative are one more pass by our own kernel.
struct GemmPlan {
  GemmLayout layout;
  bool into_pre_gelu = false;  // D is pre_gelu; else it is c
  enum class After : uint8_t { Nothing, Gelu, GeluGrad } after = After::Nothing;
};

// How cuBLASLt does it. Nothing where it does not: a residual behind a GELU, a bias or
// residual of another type than the output, an empty product.
std::optional<GemmPlan> gemm_plan(const GemmShape& shape, DType type, DType out, const GemmFusion& fusion);

// "gemm BF16>F32 384x384x50432 TN sum_a": its name in a policy table (m x n x k, A and B
// transposed or not).
std::string gemm_key(const GemmShape& shape, DType type, DType out, const GemmFusion& fusion);

}  // namespace qfm
