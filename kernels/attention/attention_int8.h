// Attention with both products in 8 bits, for inference on the CPU.
#pragma once
#include "kernels/attention/attention.h"

namespace qfm {

// As attention_forward, without lse. Of each head, the rows of q and k and the columns of v are rounded to 127 steps to
// either side of zero, each by its largest number (pointwise/quantise.h); a probability, exp(s - max s), to 255 steps.
// What is not finite makes NaN of all that it enters. On processors without vpdpbusd, in float.
void attention_forward_int8(Cpu, AttentionShape shape, Heads<float> o, Heads<const float> q, Heads<const float> k,
                            Heads<const float> v);

}  // namespace qfm
