#include "layers/mlp.h"

namespace qfm {

Var mlp(const Var& x, const Var& w1, const Var& b1, const Var& w2, const Var& b2, const Var& residual,
        const PackedWeight* packed1, const PackedWeight* packed2) {
  std::vector<int64_t> hidden(x.shape().begin(), x.shape().end());
  hidden.back() = w1.dim(0);
  const bool keep = needs_graph({&x, &w1, &b1, &w2, &b2});
  const Tensor pre =
      keep ? like(x.value, Shape(hidden)) : Tensor();  // before GELU: what its derivative needs
  const Tensor a = linear_forward(x.value, w1.value, {b1.value, pre, {}, true}, packed1);
  const Tensor y = linear_forward(a, w2.value, {b2.value, {}, residual.value}, packed2);
  return record("mlp", y, {x, w1, b1, w2, b2, residual},
                [pre, a, xv = x.value, w1v = w1.value, w2v = w2.value,
                 r_needs = residual.needs_grad()](const Tensor& dy) -> Grads {
                  const Tensor dpre = linear_dx(dy, w2v, a.shape(), pre);  // (dy w2) * gelu'(pre)
                  const AffineGrads d1 = linear_dw(dpre, xv, true), d2 = linear_dw(dy, a, true);
                  return {linear_dx(dpre, w1v, xv.shape()), d1.weight, d1.bias, d2.weight, d2.bias,
                          r_needs ? dy : Tensor()};
                });
}

}  // namespace qfm
