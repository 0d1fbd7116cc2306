#include "models/heads/log_variance.h"

#include <nlohmann/json.hpp>

#include "engine/base/error.h"

namespace qfm {

std::optional<double> log_variance_from_json(const nlohmann::ordered_json& json) {
  const auto found = json.find("log_variance");
  if (found == json.end()) return std::nullopt;
  const double base = *found;
  QFM_CHECK(std::isfinite(base), "head: its log variance is ", base);
  return base;
}

}  // namespace qfm
