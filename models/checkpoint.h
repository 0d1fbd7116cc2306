// Checkpoints: parameters under their names, and what they mean (metadata key "qfm", JSON).
#pragma once
#include <array>
#include <memory>
#include <optional>
#include <string>

#include "engine/safetensors.h"
#include "models/calibration.h"
#include "models/model.h"
#include "models/preprocessing.h"

namespace qfm {

// Everything beside the weights that scoring needs, and where they came from.
struct ModelInfo {
  ModelInfo() = default;
  // Of a model that is new: crops and pixels as its backbone takes them.
  explicit ModelInfo(const ModelConfig& config);

  ModelConfig config;
  int64_t crop = 224;  // side of the square crops, pixels
  Resize resize;       // what images are brought to before crops are cut
  std::array<double, 3> mean = PixelScale().mean, std = PixelScale().std;  // RGB in 0..1
  bool labels_scaled = true;               // outputs on 0-100; false: in the labels' own unit
  double label_low = 0, label_high = 100;  // declared range of the labels
  bool higher_is_better = true;
  std::string name;  // the folder that it was trained in
  std::string training_set, command, version;
  uint64_t seed = 0;
  bool int8 = false;                // the file's weights are in eight bits
  std::optional<Calibration> calibration;  // of the head's variance; metadata key "interval"
  bool truncated_schedule = false;  // its warm-up was longer than the first step of the learning rate's curve

  // An output of the model as a quality from 0 to 100, higher is better; or in the labels' own unit and direction.
  double to_0_100(double output) const;
  double to_label_unit(double output) const;
  // A standard deviation of outputs on the 0-100 scale, or in the labels' unit.
  double std_to_0_100(double std) const;
  double std_to_label_unit(double std) const;
};

// Parameters of `model` under their checkpoint names ("vit.", "queries", "decoder.*", "head.weight",
// "select.*"). Written atomically. store: a shipped model is BF16 or F16.
void save_model(const std::string& path, const Model& model, const ModelInfo& info,
                StoreAs store = StoreAs::AsIs);

// The description as a file holds it. int8: its weights are in eight bits.
TensorFile::Metadata checkpoint_metadata(const ModelInfo& info, bool int8);
// Throws Error "PATH: reason" where sizes do not go together.
void check_description(const ModelInfo& info, const std::string& path);

// Reads only the description. A file that gives the model no name names it. Throws Error "PATH: reason" (not
// a QFM checkpoint, unknown architecture, ...).
ModelInfo read_model_info(const TensorFile& file);

// What is computed in where nobody says.
constexpr DType usual_dtype(Device device) { return device == cpu_device ? DType::F32 : DType::BF16; }

struct LoadedModel {
  std::unique_ptr<Model> model;
  ModelInfo info;
  DType dtype;  // of the arithmetic; I8: INT8 (ParamSet::allocate)
};
// Strict: every missing, extra or misshapen tensor is named in one Error. Ready for inference when not training.
// Without `compute`: INT8 for a file in eight bits and the CPU, else usual_dtype.
LoadedModel load_model(const std::string& path, Device device, std::optional<DType> compute, bool training);

}  // namespace qfm
