// The algebra of places: what moves numbers and computes none. Axes count from the end where negative.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/autograd.h"

namespace qfm {

// No copy.
//   y = the elements of x under another shape; dx = dy under x's
Var reshape(const Var& x, const Shape& shape);
// Throws Error for places that are not there.
//   y = elements [begin, end) of an axis; dx = dy there, else 0
Var slice(const Var& x, int axis, int64_t begin, int64_t end);
// Throws Error where the other sizes do not agree.
//   y = the parts one after the other along an axis; d part = its slice of dy
Var concat(const std::vector<Var>& parts, int axis);
// Throws Error for what is no permutation.
//   y = x with axis order[i] as axis i; dx = dy permuted back
Var permute(const Var& x, const std::vector<int>& order);
Tensor permute(const Tensor& x, const std::vector<int>& order);  // without history, every axis counted from the start
//   y = x repeated to a shape that it broadcasts to; dx = dy summed over what was repeated
Var expand(const Var& x, const Shape& shape);
Tensor expand(const Tensor& x, const Shape& shape);  // without history; x itself where it has that shape

// table (V, D), ids I32 of any shape -> (..., D). Throws Error for an id outside [0, V); while a graph is captured, ids on a
// GPU are not looked at.
//   y = rows ids of a table; d table[v] = sum of dy where ids == v, in their order
Var embedding(const Var& table, const Tensor& ids);

}  // namespace qfm
