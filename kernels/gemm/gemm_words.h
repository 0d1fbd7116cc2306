// The depth of a product comes in words of 32 bits: a float, or two bf16 that vdpbf16ps multiplies at once. A word of A
// is broadcast, words of B lie side by side; registers of either count as floats (vf), whatever they hold.
#pragma once
#include "kernels/common/simd.h"

namespace qfm::QFM_ISA {

// sum + (word of A) (word of B).
struct FloatProduct {
  static vf add(vf sum, vf a, vf b) { return fma(a, b, sum); }
};

// A depth of T as words of Element. load: of `n` elements that follow each other, at most a register's. across: of n
// columns, each word from as many of `rows` rows, ld apart, as a word has elements. What is not there counts as zero.
// put: the other way, numbers become element `at` of a register's words; element 0 clears the others.
template <class T>
struct Words {  // numbers become floats
  using Product = FloatProduct;
  using Element = float;
  static constexpr int elements = 1;
  static constexpr bool in_place = sizeof(T) == sizeof(float);  // memory holds the words themselves
  static vf load(const T* p, int64_t n) {
    return n >= vf::width ? QFM_ISA::load(p) : QFM_ISA::load(p, static_cast<int>(n));
  }
  static vf across(const T* p, int64_t, int64_t, int n) { return n >= vf::width ? QFM_ISA::load(p) : QFM_ISA::load(p, n); }
  static void put(float* words, int64_t, vf x) { store(words, x); }
};

#ifdef __AVX512BF16__
struct Bf16Product {
  static vf add(vf sum, vf a, vf b) { return add_bf16_products(sum, a, b); }
};

template <>
struct Words<bf16> {
  using Product = Bf16Product;
  using Element = bf16;
  static constexpr int elements = 2;
  static constexpr bool in_place = true;
  static vf load(const bf16* p, int64_t n) {
    if (n >= 2 * vf::width) return QFM_ISA::load(reinterpret_cast<const float*>(p));
    return {_mm512_castsi512_ps(_mm512_maskz_loadu_epi16((1u << n) - 1u, p))};
  }
  static vf across(const bf16* p, int64_t ld, int64_t rows, int n) {
    const __mmask16 columns = first(n < vf::width ? n : vf::width);
    const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(columns, p));
    const __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(rows > 1 ? columns : 0, p + ld));
    return {_mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)))};
  }
  static void put(float* words, int64_t at, vf x) {
    const __m512i low = _mm512_cvtepu16_epi32(to_bf16(x));
    if (at == 0) _mm512_storeu_si512(words, low);
    else _mm512_storeu_si512(words, _mm512_or_si512(_mm512_loadu_si512(words), _mm512_slli_epi32(low, 16)));
  }
};
#endif

template <class T>
constexpr int64_t words_of(int64_t depth) {
  return (depth + Words<T>::elements - 1) / Words<T>::elements;
}

}  // namespace qfm::QFM_ISA
