#include "models/calibration.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/base/error.h"

namespace qfm {

Calibration::Calibration(std::vector<double> ratios) : ratios_(std::move(ratios)) {
  QFM_CHECK(!ratios_.empty(), "calibration: no photos");
  for (const double r : ratios_) QFM_CHECK(std::isfinite(r) && r >= 0, "calibration: an error of ", r, " deviations");
  std::sort(ratios_.begin(), ratios_.end());
  QFM_CHECK(ratios_.front() < ratios_.back(), "calibration: every error is ", ratios_.front(), " deviations");
}

std::optional<double> Calibration::factor(double p) const {
  QFM_CHECK(p > 0 && p < 1, "interval of probability ", p, ": expected inside 0..1");
  const auto n = static_cast<double>(ratios_.size());
  const double rank = std::ceil((n + 1) * p - 1e-9);  // 0.9 * 110 is 99, not 99.00000000000001
  if (rank > n) return std::nullopt;
  return ratios_[static_cast<size_t>(std::max(rank, 1.0)) - 1];
}

double Calibration::probability_above(double a, double da, double b, double db) const {
  const double unit = factor(0.6826894921370859).value_or(ratios_.back());
  const double deviation = unit * std::sqrt(da * da + db * db);
  return deviation > 0 ? 0.5 * std::erfc((b - a) / (deviation * std::sqrt(2.0))) : a > b ? 1 : a < b ? 0 : 0.5;
}

std::string Calibration::json() const {
  nlohmann::ordered_json j{{"photos", ratios_.size()}, {"ratios", nlohmann::json::array()}};
  for (const double r : ratios_) j["ratios"].push_back(std::ceil(r * 1e5) / 1e5);  // short, and never less
  return j.dump();
}

Calibration Calibration::from_json(const std::string& text) {
  try {
    const auto j = nlohmann::ordered_json::parse(text);
    Calibration c(j.at("ratios").get<std::vector<double>>());
    QFM_CHECK(j.at("photos") == c.ratios_.size(), "calibration: of ", j.at("photos").dump(), " photos, ",
              c.ratios_.size(), " are there");
    return c;
  } catch (const nlohmann::json::exception& e) {
    QFM_FAIL("calibration is damaged: ", e.what());
  }
}

}  // namespace qfm
