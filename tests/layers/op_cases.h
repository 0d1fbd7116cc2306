// One table of operations for four kinds of test: gradients by finite differences, one path or device against
// another, one dtype against another. A new op adds one line here and is tested in all of them.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "engine/autograd.h"

namespace qfm::test {

struct OpInput {
  Shape shape;
  bool weight = false;  // a parameter: its gradient has the accumulation type
  bool needs_grad = true;
  double spread = 1.0, offset = 0.0;  // values are offset + spread * normal
};

using In = std::vector<Var>;
inline OpInput x(Shape s) { return {s}; }
inline OpInput w(Shape s) { return {s, true}; }
inline OpInput fixed(Shape s) { return {s, false, false}; }

struct OpCase {
  std::string name;
  std::vector<OpInput> inputs;
  std::function<Var(const std::vector<Var>&)> build;
  int64_t reduction;  // terms in the longest sum, forward or backward: the tolerance grows with its root
};

const std::vector<OpCase>& op_cases();
// Its parts that have a file of their own, op_cases_NAME.cpp.
void add_algebra_cases(std::vector<OpCase>& table);
void add_conv_cases(std::vector<OpCase>& table);
void add_norm_pool_cases(std::vector<OpCase>& table);
void add_sampling_cases(std::vector<OpCase>& table);

// The inputs of a case with values of a fixed seed, in `dtype` on `device`: leaves and parameters.
std::vector<Var> make_inputs(const OpCase& c, DType dtype, Device device);
// The output and all gradients of sum(y * dy), dy of a fixed seed; on the CPU as F64. Order: y, then one per input.
std::vector<Tensor> run(const OpCase& c, DType dtype, Device device = cpu_device);

}  // namespace qfm::test
