// What the photos of a run show, as a network sees it that learns nothing there (models/METHOD.md 9.1).
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "train/objectives/objective.h"
#include "train/run/config.h"

namespace qfm {

// rows (n, D) F32: each less the mean of all, then brought to length 1.
Tensor centred_directions(const Tensor& rows);

// Class tokens of --semantics, without it of --init: one of each photo, its shorter side brought to the side of a crop,
// the middle of that. Where --match of `--method v2` is off: none. progress(done, photos) after each. Throws Error "PATH:
// reason": weights that cannot be read; a model of ours in --init, whose features measure quality; at last a photo.
Semantics semantics_of(const TrainConfig& config, const std::vector<std::string>& photos, Device device,
                       std::function<void(int64_t, int64_t)> progress);

}  // namespace qfm
