// How far a score may be from people's: log variance = base + mean over members of log_var.weight . token (reconstruction;
// Nix and Weigend 1994: a second output of the network). Learnt by the objective train/objectives/uncertainty.cpp.
#pragma once
#include <cmath>
#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "layers/linear.h"
#include "layers/pointwise.h"
#include "layers/reduce.h"

namespace qfm {

struct LogVariance {
  // base: the log variance that an untrained read-out gives, in the squared unit of the labels.
  LogVariance(const Scope& scope, double base, int64_t width)
      : read_out(scope / "log_var", width, 1, constant(0), false), base(base) {}
  // tokens (B, M, W) -> (B)
  Var operator()(const Var& tokens) const { return mean(read_out(tokens), {1, 2}) + base; }

  Linear read_out;
  double base;
};

// The base for labels of this standard deviation.
inline double log_variance_of(double deviation) { return 2 * std::log(deviation); }

// The member "log_variance" of a head's description. Throws Error where it is not finite.
std::optional<double> log_variance_from_json(const nlohmann::ordered_json& json);

}  // namespace qfm
