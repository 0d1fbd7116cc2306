// Functions of one tensor: GELU, sigmoid, softmax, another type; and the channel gate.
#pragma once
#include "engine/autograd.h"

namespace qfm {

Var gelu(const Var& x);     // erf form, any shape
Var sigmoid(const Var& x);  // any shape
Var softmax(const Var& x);  // over the last dimension

// The same numbers in another floating type, rounded to it; x itself where it has that type.
Var cast(const Var& x, DType dtype);

// Channel gate (models/METHOD.md 2.1): x (B, N, D) or (B, D) times g (B, D), the same for all tokens.
Var gate(const Var& x, const Var& g);

}  // namespace qfm
