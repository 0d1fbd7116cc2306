// Element types of tensors, and the type each one accumulates in.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

// Marks what kernels call too.
#ifdef __CUDACC__
#define QFM_HD __host__ __device__
#else
#define QFM_HD
#endif

namespace qfm {

// Upper 16 bits of an IEEE float: storage only, arithmetic happens in float.
struct bf16 {
  uint16_t bits;
  bf16() = default;
  // Round to nearest even; NaN stays NaN (its payload is cut, the quiet bit set; on a GPU all NaNs are one).
  QFM_HD explicit bf16(float f) {
#ifdef __CUDA_ARCH__
    // The form with two operands runs at the full rate, that with one at a quarter of it.
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, 0f00000000, %1;" : "=r"(pair) : "f"(f));
    bits = static_cast<uint16_t>(pair);
#else
    uint32_t u;
    std::memcpy(&u, &f, 4);
    if ((u & 0x7fffffffu) > 0x7f800000u) bits = static_cast<uint16_t>((u >> 16) | 0x40u);
    else bits = static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
#endif
  }
  QFM_HD explicit operator float() const {
    const uint32_t u = static_cast<uint32_t>(bits) << 16;
    float f;
    std::memcpy(&f, &u, 4);
    return f;
  }
};

// U8: pixels on their way to a device; I8: weights rounded to eight bits. No arithmetic of their own.
enum class DType : uint8_t { F32, BF16, F64, I32, I64, U8, I8 };

constexpr size_t size_of(DType t) {
  return t == DType::U8 || t == DType::I8 ? 1 : t == DType::BF16 ? 2 : t == DType::F64 || t == DType::I64 ? 8 : 4;
}
constexpr bool is_floating(DType t) { return t == DType::F32 || t == DType::BF16 || t == DType::F64; }
constexpr const char* name_of(DType t) {
  return t == DType::F32    ? "F32"
         : t == DType::BF16 ? "BF16"
         : t == DType::F64  ? "F64"
         : t == DType::I32  ? "I32"
         : t == DType::I64  ? "I64"
         : t == DType::I8   ? "I8"
                            : "U8";
}

template <class T>
struct dtype_traits;
template <>
struct dtype_traits<float> {
  static constexpr DType dtype = DType::F32;
  using acc = float;
};
template <>
struct dtype_traits<bf16> {
  static constexpr DType dtype = DType::BF16;
  using acc = float;
};
template <>
struct dtype_traits<double> {
  static constexpr DType dtype = DType::F64;
  using acc = double;
};
template <>
struct dtype_traits<int32_t> {
  static constexpr DType dtype = DType::I32;
  using acc = int32_t;
};
template <>
struct dtype_traits<int64_t> {
  static constexpr DType dtype = DType::I64;
  using acc = int64_t;
};
template <>
struct dtype_traits<uint8_t> {
  static constexpr DType dtype = DType::U8;
};
template <>
struct dtype_traits<int8_t> {
  static constexpr DType dtype = DType::I8;
};

// acc<T>: statistics, softmax, losses, reductions, matrix products and parameter gradients of T live in it.
template <class T>
using acc = typename dtype_traits<T>::acc;
template <class T>
constexpr DType dtype_of = dtype_traits<T>::dtype;
constexpr DType acc_of(DType t) { return t == DType::BF16 ? DType::F32 : t; }

}  // namespace qfm
