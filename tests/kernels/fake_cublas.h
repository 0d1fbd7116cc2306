// A cuBLASLt that refuses and fails to order and multiplies nothing: a library of the real one's name.
#pragma once
#include <cublasLt.h>

#include <vector>

struct FakeCublas {
  int suggestions = 2;                                 // of each product
  cublasStatus_t suggesting = CUBLAS_STATUS_SUCCESS;   // what the heuristic answers
  cublasStatus_t multiplying = CUBLAS_STATUS_SUCCESS;  // what a product answers
  std::vector<cublasLtEpilogue_t> multiplied = {};     // epilogues of the products asked for
};
// The symbol that a test looks up in it.
using FakeCublasSymbol = FakeCublas*();
inline constexpr const char* kFakeCublasSymbol = "qfm_fake_cublas";
