// Row-wise directions and angles.
#pragma once
#include "engine/autograd.h"

namespace qfm {

// Over the last dimension.
//   y = x / max(|x|, eps); dx = (dy - y sum(dy y)) / |x|
Var l2norm(const Var& x, double eps = 1e-12);
// Over the last dimension: (rows, C) x (rows, C) -> (rows). u = a / |a|, w = b / |b|, each length at least eps.
//   y = u . w; da = dy (w - y u) / |a|, db = dy (u - y w) / |b|
Var cosine(const Var& a, const Var& b, double eps = 1e-8);

}  // namespace qfm
