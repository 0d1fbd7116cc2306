// Where in a photo its score comes from (our own; no part of the method).
//
//   windows    the score that the model gives to each place's surroundings: windows of the model's size, a quarter of it
//              apart, blended by a tent; 0-100
//   gradient   what the detail of each place adds to the score or takes from it, in points: integrated gradients
//              (Sundararajan et al. 2017) from a mosaic, in which each place of the backbone's grid is its mean colour,
//              to the photo; over a window they sum to the difference of the two scores
//   attention  how much the head looks at each place, 1 where it looks everywhere alike
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "models/checkpoint.h"
#include "train/image/image.h"
#include "train/predict/predict.h"

namespace qfm {

enum class ExplainKind : uint8_t { Windows, Gradient, Attention };

struct QualityMap {
  int width = 0, height = 0;  // of the photo that was looked at, after resizing
  std::vector<float> values;  // (height, width)
  float at(int x, int y) const {
    return values[static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x)];
  }
};

struct Region {
  int x, y, width, height;  // pixels of the map
  double value;             // the map's mean there
};

// The map of one photo: a pure function of model and photo. Throws Error for a head that scores several views together,
// and for one without attention where that is asked for.
QualityMap explain(const Model& model, const ModelInfo& info, Image photo, ExplainKind kind,
                   const PredictOptions& options = {});

// At most `most` boxes around what lies furthest below the map's mean (above it for highest), furthest first.
std::vector<Region> extreme_regions(const QualityMap& map, int most, bool highest);

}  // namespace qfm
