// Scores photos: crops in, the mean and standard deviation over the model's queries out.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "models/checkpoint.h"
#include "train/image/transform.h"
#include "train/predict/captured_forward.h"

namespace qfm {

// What train/image/transform.h needs, from the description of a model.
Normalisation normalisation(const ModelInfo& info);

struct PredictOptions {
  Crops crops;
  std::optional<Resize> resize;  // absent: as in the checkpoint
  uint64_t seed = 0;             // names the random windows
};

struct Prediction {
  // Mean over the crops, in the model's own output unit (ModelInfo::to_0_100 and to_label_unit convert).
  double score = 0;
  double spread = 0;              // population standard deviation over all queries of all crops, same unit
  // What the head takes the standard deviation of the score's error to be, from its mean log variance over the crops, same
  // unit; absent where it gives none.
  std::optional<double> deviation = {};
  int64_t width = 0, height = 0;  // the photo as decoded (upright), pixels
  int64_t crops = 0;
};

// A pure function of model, options and photo: the same bits whatever was scored before or on another thread,
// and with our own kernels however many crops memory has room for at a time. A vendor's products depend on
// that number: where it was not enough for the usual one, a notice (engine/base/notice.h) is given.
// Random windows depend on the seed and the photo's size only. Keeps references to model and info.
class Predictor {
 public:
  // Throws Error unless the model takes square crops of info.crop pixels, for a resize below that, and for a head that
  // scores several views together.
  Predictor(const Model& model, const ModelInfo& info, PredictOptions options = {});

  // Runs the crops in batches of at most 16, of half as many and so on where memory ends. Throws OutOfMemory
  // when one crop is too many. On CUDA by one thread at a time.
  Prediction operator()(Image photo) const;

  // What the decoder is given before any gate: after the backbone's final LayerNorm, F32 on the CPU.
  struct Embedding {
    Tensor cls;                   // (crops, D)
    Tensor patches;               // (crops, N, D)
    std::vector<CropWindow> windows;  // in the photo after resizing
  };
  Embedding embed(Image photo) const;

  const PredictOptions& options() const { return options_; }

 private:
  template <class Run>
  std::vector<CropWindow> each_batch(Image photo, Run&& run) const;

  const Model& model_;
  const ModelInfo& info_;
  PredictOptions options_;
  Resize resize_;
  std::unique_ptr<CapturedForward<Model::Output>> forward_;  // null: the model is on the CPU
};

}  // namespace qfm
