// Joining, cutting and averaging token sequences.
#pragma once
#include <cstdint>

#include "engine/autograd.h"

namespace qfm {

// cls (1, 1, D) in front of every image's patches (B, N, D) -> (B, N + 1, D).
Var concat_cls(const Var& cls, const Var& patches);
// Tokens [begin, end) of x (B, T, D) -> (B, end - begin, D).
Var slice_tokens(const Var& x, int64_t begin, int64_t end);
// x (B, ...) + p (1, ...): a position embedding.
Var add_position(const Var& x, const Var& p);
// queries (1, J, D), cls (B, D): t[b, j] = queries[j] + cls[b] -> (B, J, D).
Var add_queries(const Var& queries, const Var& cls);
// Mean over the tokens of x (B, T, D) -> (B, D).
Var mean_tokens(const Var& x);
// The same elements under another shape.
Var reshape(const Var& x, const Shape& shape);

}  // namespace qfm
