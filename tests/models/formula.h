// Weights and inputs that a name and an index give, and sketches of tensors: tests/golden/make_networks.py has the same.
#pragma once
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/param.h"
#include "tests/tolerance.h"

namespace qfm::test {

// The numbers that belong to a name: SplitMix64 from its FNV-1a.
struct FormulaBits {
  uint64_t seed = 0xCBF29CE484222325u;
  explicit FormulaBits(std::string_view name) {
    for (const char ch : name) seed = (seed ^ static_cast<unsigned char>(ch)) * 0x100000001B3u;
  }
  uint64_t operator[](uint64_t index) const {
    uint64_t z = seed + (index + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
};

// Numbers in [-1, 1), by `change` to others, rounded to F32.
template <class Change>
Tensor formula_tensor(const std::string& name, const Shape& shape, DType dtype, Change&& change) {
  Tensor t(shape);
  const FormulaBits bits(name);
  uint64_t i = 0;
  for (float& x : t.span<float>()) x = static_cast<float>(change(static_cast<double>(bits[i++] >> 11) * 0x1p-52 - 1));
  return t.to(dtype);
}
inline Tensor formula_tensor(const std::string& name, const Shape& shape, DType dtype) {
  return formula_tensor(name, shape, dtype, [](double u) { return u; });
}

// Gains and variances near 1, biases and means near 0, the rest as He et al. 2015. prefix: what the name has in front of
// that in the other program.
inline void fill_by_formula(ParamSet& params, const std::string& prefix) {
  for (const Param& p : params.params()) {
    const std::string name = p.name().substr(prefix.size());
    const Shape& s = p.shape();
    const double fan_in = static_cast<double>(s.numel()) / static_cast<double>(s[0]);
    const double bound = std::sqrt(6 / fan_in);
    const bool matrix = s.rank() > 1, gain = name.ends_with("weight");
    p.master().copy_from(formula_tensor(name, s, p.master().dtype(), [&](double u) {
      return matrix ? u * bound : gain ? 1 + 0.25 * u : 0.1 * u;
    }));
  }
  for (const Buffer& b : params.buffers()) {
    const std::string name = b.name().substr(prefix.size());
    b.value().copy_from(formula_tensor(name, b.shape(), b.value().dtype(), [&](double u) {
      return name.ends_with("running_var") ? 1 + 0.5 * u : 0.1 * u;
    }));
  }
  params.sync();
}

// Norm, largest magnitude, entries at places by formula: n in all.
inline std::vector<double> sketch(const std::string& name, const Tensor& tensor, size_t n) {
  const Tensor exact = tensor.to(DType::F64);
  const auto values = exact.span<double>();
  double square = 0;
  for (const double v : values) square += v * v;
  std::vector<double> result{std::sqrt(square), largest(values)};
  const FormulaBits bits(name + " places");
  for (uint64_t i = 0; result.size() < n; ++i) result.push_back(values[bits[i] % values.size()]);
  return result;
}

}  // namespace qfm::test
