// Attention on CUDA; the contract is in attention.h. This file chooses among three families of kernels:
//   attention_forward.cuh, attention_backward.cuh   bf16 on the tensor cores; maths and cost stand there
//   attention_fma.cuh                               F32, and bf16 that cp.async cannot copy
//   attention_generic.cuh                           few queries, and head sizes over 64
// All are deterministic: no sum is split between blocks, nothing is added by atomics.
#include <algorithm>

#include "engine/base/error.h"
#include "engine/cuda/cuda.h"
#include "engine/memory/memory.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/attention_backward.cuh"
#include "kernels/attention/attention_cudnn.h"
#include "kernels/attention/attention_fma.cuh"
#include "kernels/attention/attention_forward.cuh"
#include "kernels/attention/attention_generic.cuh"

namespace qfm {
namespace {

using namespace attention;

void check(const AttentionShape& s) {
  QFM_CHECK(s.batch >= 0 && s.queries >= 0 && s.heads > 0 && s.keys > 0 && s.head_dim > 0,
            "attention: batch ", s.batch, ", heads ", s.heads, ", queries ", s.queries, ", keys ", s.keys,
            ", head_dim ", s.head_dim);
  QFM_CHECK(s.head_dim <= 2048 && s.batch * s.heads * std::max(s.queries, s.keys) < int64_t{1} << 31,
            "attention on CUDA: head_dim ", s.head_dim, " is over 2048, or batch ", s.batch, " x heads ",
            s.heads, " x the longer of ", s.queries, " queries and ", s.keys, " keys is not below 2^31");
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Whether each row of each head starts at 16 bytes and is a whole number of them.
template <class T, class... Views>
bool rows_in_packs(const AttentionShape& s, const Views&... views) {
  return s.head_dim % kPack<T> == 0 &&
         ((views.ld % kPack<T> == 0 && reinterpret_cast<uintptr_t>(views.data) % 16 == 0) && ...);
}

// Which kernels serve: a warp for a row where tiles would be mostly padding or do not take the head
// size, tensor cores for bf16 that cp.async can copy, FMA tiles for the rest. The batch does not matter: a
// row keeps its bits.
enum class Variant { Rows, TensorCores, Fma };
template <class T, class... Views>
Variant select_variant(const AttentionShape& s, const Views&... views) {
  if (s.queries < 12 || s.head_dim > 64) return Variant::Rows;
  return std::is_same_v<T, bf16> && rows_in_packs<T>(s, views...) ? Variant::TensorCores : Variant::Fma;
}

// run(Lanes<D>{}) with the head size of a tile, 32 or 64.
template <class F>
void with_head_size(const AttentionShape& s, F&& run) {
  if (s.head_dim <= 32) run(Lanes<32>{});
  else run(Lanes<64>{});
}
// run(Lanes<V>{}) with the elements that a warp for a row reads at once.
template <class T, class F, class... Views>
void with_packs(const AttentionShape& s, F&& run, const Views&... views) {
  if (rows_in_packs<T>(s, views...)) run(Lanes<kPack<T>>{});
  else run(Lanes<1>{});
}
size_t generic_bytes(int floats) { return kGenericWarps * floats * sizeof(float); }

// One block for a whole head where the heads fill the GPU, more where they are few: the bits are the same.
template <int D>
void forward_on_tensor_cores(Cuda cuda, const AttentionShape& s, float scale, Heads<bf16> o, float* lse,
                             Heads<const bf16> q, Heads<const bf16> k, Heads<const bf16> v) {
  constexpr int64_t kFull = 3 * 132;  // blocks that an H100 runs at once
  const int64_t heads = s.batch * s.heads, query_blocks = ceil_div(s.queries, 16);
  const int64_t most_parts = ceil_div(query_blocks, kForwardWarps);
  if (!s.mask.any() && s.keys > 16 * (kWholeBlocks - kWholeMaskedBlocks) && s.keys <= 16 * kWholeBlocks) {
    const int64_t parts = std::min(most_parts, ceil_div(kFull, heads));
    launch<attention_forward_whole<D>>(heads * parts, 32 * kForwardWarps, forward_whole_bytes(D), cuda.stream,
                                       s, o, lse, q, k, v, scale, static_cast<int>(parts),
                                       static_cast<int>(16 * ceil_div(query_blocks, parts)));
  } else {
    launch<attention_forward_tiled<D>>(heads * most_parts, 32 * kForwardWarps, forward_tiled_bytes(D),
                                       cuda.stream, s, o, lse, q, k, v, scale, static_cast<int>(most_parts));
  }
}

template <int D>
void backward_on_tensor_cores(Cuda cuda, const AttentionShape& s, float scale, Heads<bf16> dq, Heads<bf16> dk,
                              Heads<bf16> dv, Heads<const bf16> d_o, Heads<const bf16> q, Heads<const bf16> k,
                              Heads<const bf16> v, Heads<const bf16> o, const float* lse) {
  const int64_t heads = s.batch * s.heads, longest = ceil_div(std::max(s.queries, s.keys), 16);
  const size_t whole_bytes = backward_whole_bytes(D, s.queries, s.keys);
  if (!s.mask.any() && longest <= kBackwardBlocks && whole_bytes <= cuda::shared_memory_limit()) {
    launch<attention_backward_whole<D>>(heads, 32 * longest, whole_bytes, cuda.stream, s, dq, dk, dv, d_o, q,
                                        k, v, o, lse, scale);
  } else {
    const int64_t key_parts = ceil_div(s.keys, 16 * kTiledWarps),
                  query_parts = ceil_div(s.queries, 16 * kTiledWarps);
    launch<attention_dkv_tiled<D>>(heads * key_parts, 32 * kTiledWarps, backward_tiled_bytes(D), cuda.stream,
                                   s, dk, dv, d_o, q, k, v, o, lse, scale, static_cast<int>(key_parts));
    launch<attention_dq_tiled<D>>(heads * query_parts, 32 * kTiledWarps, backward_tiled_bytes(D), cuda.stream,
                                  s, dq, d_o, q, k, v, o, lse, scale, static_cast<int>(query_parts));
  }
}

}  // namespace

template <class T>
void attention_forward_own(Cuda cuda, AttentionShape s, Heads<T> o, acc<T>* lse, Heads<const T> q,
                           Heads<const T> k, Heads<const T> v) {
  check(s);
  if (s.batch * s.queries == 0) return;
  const auto scale = static_cast<float>(s.scale());
  const int64_t heads = s.batch * s.heads;
  const Variant variant = select_variant<T>(s, o, q, k, v);
  if constexpr (std::is_same_v<T, bf16>)
    if (variant == Variant::TensorCores)
      return with_head_size(
          s, [&]<int D>(Lanes<D>) { forward_on_tensor_cores<D>(cuda, s, scale, o, lse, q, k, v); });
  if (variant == Variant::Fma) {
    with_head_size(s, [&]<int D>(Lanes<D>) {
      const int64_t parts = ceil_div(s.queries, kFmaRows);
      launch<attention_forward_fma<T, D>>(heads * parts, kFmaThreads, kFmaForwardBytes<D>, cuda.stream, s, o,
                                          lse, q, k, v, scale, static_cast<int>(parts));
    });
  } else {
    with_packs<T>(
        s,
        [&]<int V>(Lanes<V>) {
          launch<attention_forward_generic<T, V>>(
              ceil_div(heads * s.queries, kGenericWarps), 32 * kGenericWarps,
              generic_bytes(generic_forward_floats(static_cast<int>(s.head_dim))), cuda.stream, s, o, lse, q,
              k, v, scale);
        },
        k);
  }
}

template <class T>
void attention_backward_own(Cuda cuda, AttentionShape s, Heads<T> dq, Heads<T> dk, Heads<T> dv,
                            Heads<const T> d_o, Heads<const T> q, Heads<const T> k, Heads<const T> v,
                            Heads<const T> o, const acc<T>* lse) {
  check(s);
  if (s.batch == 0) return;
  const auto scale = static_cast<float>(s.scale());
  const int64_t heads = s.batch * s.heads;
  const Variant variant = select_variant<T>(s, dq, dk, dv, d_o, q, k, v, o);
  if constexpr (std::is_same_v<T, bf16>)
    if (variant == Variant::TensorCores)
      return with_head_size(s, [&]<int D>(Lanes<D>) {
        backward_on_tensor_cores<D>(cuda, s, scale, dq, dk, dv, d_o, q, k, v, o, lse);
      });
  if (variant == Variant::Fma) {
    with_head_size(s, [&]<int D>(Lanes<D>) {
      const int64_t key_parts = ceil_div(s.keys, kFmaRows), query_parts = ceil_div(s.queries, kFmaRows);
      launch<attention_dkv_fma<T, D>>(heads * key_parts, kFmaThreads, kFmaBackwardBytes<D>, cuda.stream, s,
                                      dk, dv, d_o, q, k, v, o, lse, scale, static_cast<int>(key_parts));
      launch<attention_dq_fma<T, D>>(heads * query_parts, kFmaThreads, kFmaBackwardBytes<D>, cuda.stream, s,
                                     dq, d_o, q, k, v, o, lse, scale, static_cast<int>(query_parts));
    });
    return;
  }
  const DeviceScratch scratch(heads * s.queries * sizeof(float));
  float* delta = scratch.as<float>();
  with_packs<T>(
      s,
      [&]<int V>(Lanes<V>) {
        if (s.queries > 0)
          launch<attention_dq_generic<T, V>>(ceil_div(heads * s.queries, kGenericWarps), 32 * kGenericWarps,
                                             generic_bytes(generic_dq_floats(static_cast<int>(s.head_dim))),
                                             cuda.stream, s, dq, delta, d_o, q, k, v, o, lse, scale);
        launch<attention_dkv_generic<T, V>>(ceil_div(heads * s.keys, kGenericWarps), 32 * kGenericWarps,
                                            generic_bytes(generic_dkv_floats(static_cast<int>(s.head_dim))),
                                            cuda.stream, s, dk, dv, delta, d_o, q, k, v, lse, scale);
      },
      q, k, v, d_o);
}

template <class T>
void attention_forward(Cuda cuda, AttentionShape s, Heads<T> o, acc<T>* lse, Heads<const T> q,
                       Heads<const T> k, Heads<const T> v) {
  if (!cudnn::attention_forward(cuda, s, o, lse, q, k, v)) attention_forward_own(cuda, s, o, lse, q, k, v);
}
template <class T>
void attention_backward(Cuda cuda, AttentionShape s, Heads<T> dq, Heads<T> dk, Heads<T> dv,
                        Heads<const T> d_o, Heads<const T> q, Heads<const T> k, Heads<const T> v,
                        Heads<const T> o, const acc<T>* lse) {
  if (!cudnn::attention_backward(cuda, s, dq, dk, dv, d_o, q, k, v, o, lse))
    attention_backward_own(cuda, s, dq, dk, dv, d_o, q, k, v, o, lse);
}

#define QFM_INSTANTIATE_AS(forward, backward, T)                                                             \
  template void forward(Cuda, AttentionShape, Heads<T>, acc<T>*, Heads<const T>, Heads<const T>,             \
                        Heads<const T>);                                                                     \
  template void backward(Cuda, AttentionShape, Heads<T>, Heads<T>, Heads<T>, Heads<const T>, Heads<const T>, \
                         Heads<const T>, Heads<const T>, Heads<const T>, const acc<T>*);
#define QFM_INSTANTIATE(T)                                     \
  QFM_INSTANTIATE_AS(attention_forward, attention_backward, T) \
  QFM_INSTANTIATE_AS(attention_forward_own, attention_backward_own, T)
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE
#undef QFM_INSTANTIATE_AS

}  // namespace qfm
