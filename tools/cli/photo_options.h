// The options of commands that look at photos: which, how they are decoded, and where the model looks.
#pragma once
#include <CLI/App.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "train/image/decode.h"
#include "train/predict/predict.h"

namespace qfm {

struct PhotoOptions {
  std::vector<std::string> paths;
  bool recursive = false, nul = false, no_exif = false, no_icc = false;
  int64_t max_pixels = DecodeOptions{}.max_pixels;
  std::string crops = "grid", resize;  // resize: "" = as in the checkpoint

  DecodeOptions decode() const { return {.exif = !no_exif, .icc = !no_icc, .max_pixels = max_pixels}; }
  bool ignores_icc() const { return no_icc || !QFM_WITH_ICC; }
  // Throws UsageError.
  PredictOptions predict(uint64_t seed) const;
};
void add_photo_options(CLI::App& app, PhotoOptions& options);  // all
void add_view_options(CLI::App& app, PhotoOptions& options);   // without the paths
void add_decode_options(CLI::App& app, PhotoOptions& options);  // how they are decoded, alone

}  // namespace qfm
