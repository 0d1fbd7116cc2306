// The algebra of places: what moves numbers and computes none. Axes count from the end where negative.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/autograd.h"

namespace qfm {

// The same elements under another shape: no copy.
Var reshape(const Var& x, const Shape& shape);
// Elements [begin, end) of an axis. dx = dy there, else 0. Throws Error for places that are not there.
Var slice(const Var& x, int axis, int64_t begin, int64_t end);
// Joined along an axis; the other sizes agree. Each gradient is its slice of dy.
Var concat(const std::vector<Var>& parts, int axis);
// Axis order[i] becomes axis i. dx = dy permuted back. Throws Error for what is no permutation.
Var permute(const Var& x, const std::vector<int>& order);
// Repeated to a shape that x broadcasts to. dx = dy summed over what was repeated.
Var expand(const Var& x, const Shape& shape);
Tensor expand(const Tensor& x, const Shape& shape);  // without history; x itself where it has that shape

// Rows of a table: table (V, D), ids I32 of any shape -> (..., D). dtable[v] = sum of dy where ids == v, in their order.
// Throws Error for an id outside [0, V); while a graph is captured, ids on a GPU are not looked at.
Var embedding(const Var& table, const Tensor& ids);

}  // namespace qfm
