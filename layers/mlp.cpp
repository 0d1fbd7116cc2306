#include "layers/mlp.h"

#include "engine/packed_weight.h"

namespace qfm {

Var mlp(const Var& x, const Var& w1, const Var& b1, const Var& w2, const Var& b2, const Var& residual) {
  std::vector<int64_t> hidden(x.shape().begin(), x.shape().end());
  hidden.back() = w1.dim(0);
  const bool keep = needs_graph({&x, &w1, &b1, &w2, &b2});
  const Tensor pre =
      keep ? like(x.value, Shape(hidden)) : Tensor();  // before GELU: what its derivative needs
  const bool in_int8 = !keep && reads_int8(w1.value) && reads_int8(w2.value);
  const Tensor a = linear_forward(x.value, w1.value, {b1.value, pre, {}, true, in_int8});
  const Tensor y = linear_forward(a, w2.value, {b2.value, {}, residual.value});
  return record("mlp", y, {x, w1, b1, w2, b2, residual},
                [pre, a, xv = x.value, w1v = w1.value, w2v = w2.value, x_needs = x.needs_grad(),
                 fc1_needs = w1.needs_grad() || b1.needs_grad(), fc2_needs = w2.needs_grad() || b2.needs_grad(),
                 r_needs = residual.needs_grad()](const Tensor& dy) -> Grads {
                  const bool through = x_needs || fc1_needs;
                  // (dy w2) * gelu'(pre)
                  const Tensor dpre = through ? linear_dx(dy, w2v, a.shape(), pre) : Tensor();
                  const LinearGrads d1 = fc1_needs ? linear_dw(dpre, xv, true) : LinearGrads{},
                                    d2 = fc2_needs ? linear_dw(dy, a, true) : LinearGrads{};
                  return {x_needs ? linear_dx(dpre, w1v, xv.shape()) : Tensor(), d1.weight, d1.bias, d2.weight, d2.bias,
                          r_needs ? dy : Tensor()};
                });
}

}  // namespace qfm
