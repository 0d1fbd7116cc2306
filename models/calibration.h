// How wide an interval around a score must be to hold people's opinion with a given probability: split conformal
// prediction (Lei et al. 2018) over photos that no fit has used, with the head's own deviation as the unit.
#pragma once
#include <optional>
#include <string>
#include <vector>

namespace qfm {

class Calibration {
 public:
  // ratios: |label - score| / deviation of each photo. Throws Error unless all are finite and at least 0, and they differ.
  explicit Calibration(std::vector<double> ratios);

  // Half the width in deviations, so that with probability p (over photos like those) the label lies inside: the
  // ceil((n + 1) p)-th least ratio. nullopt where n photos are too few for p. p inside 0..1.
  std::optional<double> factor(double p) const;
  // The probability that the label of a photo with score a and deviation da is above that of one with b, db: both as
  // Gaussians of the deviations that the ratios confirm (68.3% within one).
  double probability_above(double a, double da, double b, double db) const;

  const std::vector<double>& ratios() const { return ratios_; }  // ascending

  // As kept in a checkpoint's metadata. from_json throws Error for what is damaged.
  std::string json() const;
  static Calibration from_json(const std::string& text);

 private:
  std::vector<double> ratios_;
};

}  // namespace qfm
