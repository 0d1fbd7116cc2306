// Attention by cuDNN, in builds that know it: BF16 only.
#pragma once
#include <string>

#include "kernels/attention/attention.h"

namespace qfm::cudnn {

// Other types, and builds without cuDNN: our own kernel is to serve.
template <class T>
bool attention_forward(Cuda, const AttentionShape&, Heads<T>, acc<T>*, Heads<const T>, Heads<const T>,
                       Heads<const T>) {
  return false;
}
template <class T>
bool attention_backward(Cuda, const AttentionShape&, Heads<T>, Heads<T>, Heads<T>, Heads<const T>,
                        Heads<const T>, Heads<const T>, Heads<const T>, Heads<const T>, const acc<T>*) {
  return false;
}

#ifdef QFM_WITH_CUDNN
// The functions of attention.h, if the policy table (kernels/vendor/kernel_policy.h) names cuDNN; without a table our
// own kernels serve, which need no plan (cuDNN builds one for each shape, about a second). False: our own
// kernel is to serve, also for masks, and where the library is absent, too old, or has no deterministic plan for the
// shape.
bool attention_forward(Cuda, const AttentionShape& shape, Heads<bf16> o, float* lse, Heads<const bf16> q,
                       Heads<const bf16> k, Heads<const bf16> v);
bool attention_backward(Cuda, const AttentionShape& shape, Heads<bf16> dq, Heads<bf16> dk, Heads<bf16> dv,
                        Heads<const bf16> d_o, Heads<const bf16> q, Heads<const bf16> k, Heads<const bf16> v,
                        Heads<const bf16> o, const float* lse);

// The same whatever the table.
bool attention_forward_by(Cuda, const AttentionShape& shape, Heads<bf16> o, float* lse, Heads<const bf16> q,
                          Heads<const bf16> k, Heads<const bf16> v);
bool attention_backward_by(Cuda, const AttentionShape& shape, Heads<bf16> dq, Heads<bf16> dk, Heads<bf16> dv,
                           Heads<const bf16> d_o, Heads<const bf16> q, Heads<const bf16> k,
                           Heads<const bf16> v, Heads<const bf16> o, const float* lse);

// Builds the graph and asks for cuDNN's suggestions for a device described by JSON; no GPU is needed. q, k, v
// (and their gradients) are columns of one packed tensor where there are as many queries as keys, else k and
// v of one. Throws Error where cuDNN refuses.
struct GraphReport {
  size_t operations, suggestions, deterministic;
};
GraphReport build_attention_forward(const AttentionShape& shape, bool with_lse,
                                    const std::string& device_json);
GraphReport build_attention_backward(const AttentionShape& shape, const std::string& device_json);
// "attention_forward BF16 256x6 197x197 d64", its name in a policy table: batch x heads, queries x keys,
// size of a head.
std::string attention_key(const char* direction, const AttentionShape& shape);
#else
inline bool attention_forward_by(Cuda, const AttentionShape&, Heads<bf16>, float*, Heads<const bf16>,
                                 Heads<const bf16>, Heads<const bf16>) {
  return false;
}
#endif

}  // namespace qfm::cudnn
