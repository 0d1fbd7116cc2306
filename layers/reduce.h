// The algebra over axes: sums, means, maxima, softmax.
#pragma once
#include <vector>

#include "engine/autograd.h"

namespace qfm {

// Axes count from the end where negative; none: all of them. keep: they stay, with size 1; else they go (of a tensor that is
// reduced whole a shape (1) stays). Throw Error for an axis that is not there or named twice.
using Axes = std::vector<int>;
//   y = sum of x over the axes; dx = dy repeated
Var sum(const Var& x, const Axes& axes = {}, bool keep = false);
//   y = sum of x over the axes / n; dx = dy / n repeated
Var mean(const Var& x, const Axes& axes = {}, bool keep = false);
// As torch.amax: equal maxima share the gradient evenly.
//   y = the largest x over the axes; dx = dy (x == y) / how many are
Var max(const Var& x, const Axes& axes = {}, bool keep = false);

// Over the last dimension.
//   y = exp(x - max x) / sum exp(x - max x); dx = y (dy - sum(dy y))
Var softmax(const Var& x);

// Without history: x summed to a shape that broadcasts to x's; `factor`, like x or empty: x factor summed. dtype: x's, or what
// that accumulates in.
Tensor sum_to(const Tensor& x, const Shape& shape, DType dtype, const Tensor& factor = {});

}  // namespace qfm
