#include "kernels/gemm.h"

#include <algorithm>
#include <type_traits>

#include "engine/base/error.h"
#include "engine/base/memory.h"
#include "engine/base/threads.h"
#include "kernels/gelu.h"

namespace qfm {
namespace {

void check(const GemmShape& s) {
  QFM_CHECK(s.m >= 0 && s.n >= 0 && s.k >= 0, "gemm: m ", s.m, ", n ", s.n, ", k ", s.k);
}

template <class T>
acc<T> epilogue_of(const GemmEpilogue<T>& e, acc<T> v, int64_t row, int64_t column, int64_t n) {
  using A = acc<T>;
  const int64_t at = row * n + column;
  if (e.bias) v += static_cast<A>(e.bias[column]);
  if (e.pre_gelu) e.pre_gelu[at] = static_cast<T>(v);
  if (e.gelu) v = static_cast<A>(gelu(static_cast<double>(v)));
  if (e.times_gelu_grad_of)
    v *= static_cast<A>(gelu_grad(static_cast<double>(static_cast<A>(e.times_gelu_grad_of[at]))));
  if (e.scale) v *= static_cast<A>(e.scale[column]);
  if (e.residual) v += static_cast<A>(e.residual[at]);
  return v;
}

// The plain path's packed B: (k, n) in acc<T>, whatever the layout it came from.
template <class T>
void pack_plain(const GemmShape& s, acc<T>* packed, const T* b) {
  parallel_for(s.k, [&](int64_t p) {
    for (int64_t j = 0; j < s.n; ++j)
      packed[p * s.n + j] = static_cast<acc<T>>(s.trans_b ? b[j * s.k + p] : b[p * s.n + j]);
  });
}

template <class T, class Out>
void product_plain(const GemmShape& s, Out* c, const T* a, const acc<T>* b, const GemmEpilogue<T>& epilogue) {
  parallel_for(s.m, [&](int64_t i) {
    const Scratch memory(static_cast<size_t>(s.n) * sizeof(acc<T>));
    acc<T>* row = memory.as<acc<T>>();
    std::fill_n(row, s.n, acc<T>{0});
    for (int64_t p = 0; p < s.k; ++p) {
      const auto x = static_cast<acc<T>>(s.trans_a ? a[p * s.m + i] : a[i * s.k + p]);
      for (int64_t j = 0; j < s.n; ++j) row[j] += x * b[p * s.n + j];
    }
    for (int64_t j = 0; j < s.n; ++j)
      c[i * s.n + j] = static_cast<Out>(epilogue_of(epilogue, row[j], i, j, s.n));
  });
}

template <class T, class Out>
void product(const GemmShape& s, Out* c, const T* a, const void* packed, const GemmEpilogue<T>& epilogue) {
  product_plain(s, c, a, static_cast<const acc<T>*>(packed), epilogue);
}

}  // namespace

template <class T>
size_t gemm_packed_bytes(Cpu, GemmShape s) {
  check(s);
  return static_cast<size_t>(s.n * s.k) * sizeof(acc<T>);
}

template <class T>
void gemm_pack(Cpu, GemmShape s, void* packed, const T* b) {
  check(s);
  pack_plain(s, static_cast<acc<T>*>(packed), b);
}

template <class T>
void gemm_with_packed(Cpu, GemmShape s, T* c, const T* a, const void* packed,
                      const GemmEpilogue<T>& epilogue) {
  check(s);
  product(s, c, a, packed, epilogue);
}

template <class T, class Out>
void gemm(Cpu cpu, GemmShape s, Out* c, const T* a, const T* b, const GemmEpilogue<T>& epilogue) {
  const Scratch packed(gemm_packed_bytes<T>(cpu, s));
  gemm_pack(cpu, s, packed.as<void>(), b);
  product(s, c, a, packed.as<void>(), epilogue);
}

#define QFM_INSTANTIATE(T)                                                                           \
  template size_t gemm_packed_bytes<T>(Cpu, GemmShape);                                              \
  template void gemm_pack(Cpu, GemmShape, void*, const T*);                                          \
  template void gemm_with_packed(Cpu, GemmShape, T*, const T*, const void*, const GemmEpilogue<T>&); \
  template void gemm(Cpu, GemmShape, T*, const T*, const T*, const GemmEpilogue<T>&);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
template void gemm(Cpu, GemmShape, float*, const bf16*, const bf16*, const GemmEpilogue<bf16>&);
#undef QFM_INSTANTIATE

}  // namespace qfm
