// What a case of tests/golden/networks.safetensors holds, and how a network's tensors are compared with it.
#pragma once
#include <map>
#include <nlohmann/json.hpp>

#include "engine/safetensors.h"
#include "tests/models/formula.h"
#include "tests/support.h"

namespace qfm::test {

using Json = nlohmann::ordered_json;

// One case: a sketch of each tensor that is compared. In F64 the bound is 1e-9, scaled by the largest magnitude, of
// buffers, which are F32, 1e-6; in F32 ten times what PyTorch itself loses in F32.
struct Golden {
  explicit Golden(const std::string& name) {
    const TensorFile file = TensorFile::open(golden_path("networks.safetensors"));
    about = Json::parse(file.metadata().at("cases")).at(name);
    const Tensor all = file.tensor(name);
    const auto values = all.span<double>();
    size_t at = 0;
    for (const std::string tensor : about.at("names")) {
      const size_t n = 2 + (tensor.starts_with("out.") || tensor == "grad.images" ? 256 : 8);
      sketches[tensor].assign(values.begin() + static_cast<int64_t>(at), values.begin() + static_cast<int64_t>(at + n));
      at += n;
      if (tensor.starts_with("grad.")) largest_gradient = std::max(largest_gradient, sketches[tensor][1]);
    }
    REQUIRE(at == values.size());
  }

  void check(const std::string& name, const Tensor& found, DType dtype) {
    CAPTURE(name);
    REQUIRE(sketches.count(name) == 1);
    const auto& expected = sketches.at(name);
    const auto got = sketch(name, found, expected.size());
    // Some gradients are zero but for rounding: of a shift that the next normalisation takes away.
    const double scale = std::max(expected[1], name.starts_with("grad.") ? 1e-6 * largest_gradient : 0);
    const std::string kind = name.substr(0, name.find('.'));
    const double in_f64 = kind == "buffer" ? 1e-6 : 1e-9;
    const double bound =
        dtype == DType::F64 ? in_f64 : 10 * about.at("float32_run_scaled_error").at(kind).get<double>();
    CHECK(std::fabs(got[0] - expected[0]) <= bound * std::max(expected[0], scale));
    double error = 0;
    for (size_t i = 1; i < got.size(); ++i) error = std::max(error, std::fabs(got[i] - expected[i]));
    CHECK(error <= bound * scale);
    ++checked;
  }

  Json about;
  std::map<std::string, std::vector<double>> sketches;
  double largest_gradient = 0;
  size_t checked = 0;
};

// The root of one backward pass through all outputs, as of the sum of <y, dy>, dy by formula. Its value is of no use.
inline Var weighted(const std::vector<std::pair<std::string, Var>>& outputs) {
  std::vector<Var> inputs;
  std::vector<Tensor> weights;
  for (const auto& [name, y] : outputs) {
    inputs.push_back(y);
    weights.push_back(formula_tensor("d" + name, y.shape(), y.value.dtype()));
  }
  return record("weighted", Tensor::zeros({1}, weights[0].dtype()), inputs,
                [weights](const Tensor&) -> Grads { return weights; });
}

}  // namespace qfm::test
