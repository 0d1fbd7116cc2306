// Row-wise directions and angles.
#pragma once
#include "engine/autograd.h"

namespace qfm {

// x / max(|x|, eps) over the last dimension.
Var l2norm(const Var& x, double eps = 1e-12);
// a . b / (max(|a|, eps) max(|b|, eps)) over the last dimension: (rows, C) x (rows, C) -> (rows).
Var cosine(const Var& a, const Var& b, double eps = 1e-8);

}  // namespace qfm
