// The algebra: every function by itself, what broadcasts, what is reduced, what is moved. formula_test.cpp has formulas.
#include "layers/loss.h"
#include "layers/pointwise.h"
#include "layers/reduce.h"
#include "layers/shape.h"
#include "tests/layers/op_cases.h"

namespace qfm::test {
namespace {

// Away from where a function has a kink or an end.
OpInput near(double middle, double spread = 0.3) { return {{7, 13}, false, true, spread, middle}; }

void add_functions(std::vector<OpCase>& t) {
  t.push_back({"relu", {x({7, 13})}, [](const In& v) { return relu(v[0]); }, 1});
  t.push_back({"relu6", {near(3, 4)}, [](const In& v) { return relu6(v[0]); }, 1});
  t.push_back({"leaky_relu", {x({7, 13})}, [](const In& v) { return leaky_relu(v[0], 0.2); }, 1});
  t.push_back({"sigmoid", {near(0, 4)}, [](const In& v) { return sigmoid(v[0]); }, 1});
  t.push_back({"silu", {near(0, 4)}, [](const In& v) { return silu(v[0]); }, 1});
  t.push_back({"gelu", {near(0, 2)}, [](const In& v) { return gelu(v[0]); }, 1});
  t.push_back({"quick_gelu", {near(0, 2)}, [](const In& v) { return quick_gelu(v[0]); }, 1});
  t.push_back({"tanh", {near(0, 1)}, [](const In& v) { return tanh(v[0]); }, 1});
  t.push_back({"exp", {near(0, 1)}, [](const In& v) { return exp(v[0]); }, 1});
  t.push_back({"log", {near(2)}, [](const In& v) { return log(v[0]); }, 1});
  t.push_back({"sqrt", {near(2)}, [](const In& v) { return sqrt(v[0]); }, 1});
  t.push_back({"erf", {near(0, 1)}, [](const In& v) { return erf(v[0]); }, 1});
  t.push_back({"affine", {x({7, 13})}, [](const In& v) { return -(2.0 * v[0] / 7.0 + 1.0) - 3.0; }, 1});
  t.push_back({"cast to the accumulation type",
               {x({7, 13})},
               [](const In& v) { return cast(v[0], acc_of(v[0].value.dtype())); },
               1});
}

void add_arithmetic(std::vector<OpCase>& t) {
  const OpInput far{{13}, true, true, 0.2, 2};  // a divisor
  t.push_back({"a + b", {x({7, 13}), x({7, 13})}, [](const In& v) { return v[0] + v[1]; }, 1});
  t.push_back({"a + position", {x({3, 7, 13}), w({1, 7, 13})}, [](const In& v) { return v[0] + v[1]; }, 3});
  t.push_back({"queries + class", {w({1, 6, 13}), x({3, 1, 13})}, [](const In& v) { return v[0] + v[1]; }, 6});
  t.push_back({"a - b", {x({3, 1, 13}), x({7, 1})}, [](const In& v) { return v[0] - v[1]; }, 91});
  t.push_back({"a * a", {x({7, 13})}, [](const In& v) { return v[0] * v[0]; }, 1});
  t.push_back({"a * gate", {x({2, 7, 13}), x({2, 1, 13})}, [](const In& v) { return v[0] * v[1]; }, 7});
  t.push_back({"a * channel", {x({2, 5, 3, 4}), w({5, 1, 1})}, [](const In& v) { return v[0] * v[1]; }, 24});
  t.push_back({"outer product", {x({7, 1}), x({13})}, [](const In& v) { return v[0] * v[1]; }, 13});
  t.push_back({"a / b", {x({7, 13}), far}, [](const In& v) { return v[0] / v[1]; }, 7});
  t.push_back({"1 / b", {x({1}), far}, [](const In& v) { return v[0] / v[1]; }, 13});
}

void add_reductions(std::vector<OpCase>& t) {
  t.push_back({"sum of all", {x({3, 7, 13})}, [](const In& v) { return sum(v[0]); }, 273});
  t.push_back({"sum over the middle", {x({3, 7, 13})}, [](const In& v) { return sum(v[0], {1}); }, 7});
  t.push_back({"sum over the ends", {x({3, 7, 13})}, [](const In& v) { return sum(v[0], {0, -1}, true); }, 39});
  t.push_back({"sum of a parameter", {w({3, 7})}, [](const In& v) { return sum(v[0], {0}); }, 3});
  t.push_back({"mean over tokens", {x({3, 196, 7})}, [](const In& v) { return mean(v[0], {1}); }, 196});
  t.push_back({"mean over rows", {x({5, 197})}, [](const In& v) { return mean(v[0], {-1}); }, 197});
  t.push_back({"max over rows", {x({5, 197})}, [](const In& v) { return max(v[0], {-1}); }, 1});
  t.push_back({"max over the ends", {x({3, 7, 13})}, [](const In& v) { return max(v[0], {0, 2}, true); }, 1});
  for (auto [r, c] : {std::array<int64_t, 2>{5, 1}, {7, 13}, {3, 197}})
    t.push_back({concat("softmax ", r, "x", c), {{{r, c}, false, true, 2.0}}, [](const In& v) { return softmax(v[0]); }, c});
  t.push_back({"cross_entropy",
               {{{5, 13}, false, true, 2.0}},
               [](const In& v) { return cross_entropy(v[0], Tensor::from(std::vector<int32_t>{3, 0, 12, 3, 7}, {5})); },
               65});
}

void add_places(std::vector<OpCase>& t) {
  t.push_back({"slice", {x({3, 8, 13})}, [](const In& v) { return slice(v[0], 1, 1, 5); }, 1});
  t.push_back({"slice of the last axis", {x({3, 8, 13})}, [](const In& v) { return slice(v[0], -1, 3, 4); }, 1});
  t.push_back({"concat",
               {w({1, 1, 13}), x({3, 7, 13}), x({3, 2, 13})},
               [](const In& v) { return concat({expand(v[0], {3, 1, 13}), v[1], v[2]}, 1); },
               3});
  t.push_back({"permute", {x({2, 3, 5, 7})}, [](const In& v) { return permute(v[0], {0, 3, 1, 2}); }, 1});
  t.push_back({"reshape", {w({6, 7})}, [](const In& v) { return reshape(v[0], {2, 3, 7}); }, 1});
  t.push_back({"expand", {x({3, 1, 7})}, [](const In& v) { return expand(v[0], {2, 3, 5, 7}); }, 10});
  t.push_back({"embedding",
               {w({11, 13})},
               [](const In& v) { return embedding(v[0], Tensor::from(std::vector<int32_t>{3, 0, 10, 3, 3, 7}, {2, 3})); },
               3});
}

}  // namespace

void add_algebra_cases(std::vector<OpCase>& t) {
  add_functions(t), add_arithmetic(t), add_reductions(t), add_places(t);
}

}  // namespace qfm::test
