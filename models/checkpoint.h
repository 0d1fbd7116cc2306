// Checkpoints: parameters under their names, and what they mean (metadata key "qfm", JSON).
#pragma once
#include <array>
#include <map>
#include <memory>
#include <string>

#include "engine/safetensors.h"
#include "models/preprocessing.h"
#include "models/qfm_iqm.h"

namespace qfm {

// Everything beside the weights that scoring needs, and where they came from.
struct ModelInfo {
  ModelConfig config;
  int64_t crop = 224;  // side of the square crops, pixels
  Resize resize;       // of photos, before crops are cut
  std::array<double, 3> mean{0.485, 0.456, 0.406}, std{0.229, 0.224, 0.225};  // of RGB in 0..1
  bool labels_scaled = true;               // outputs on 0-100; false: in the labels' own unit
  double label_low = 0, label_high = 100;  // declared range of the labels
  bool higher_is_better = true;
  std::string name;  // of the folder that it was trained in
  std::string training_set, command, version;
  uint64_t seed = 0;
  bool truncated_schedule =
      false;  // trained with a warm-up longer than the first step of the learning rate's curve

  // An output of the model as a quality from 0 to 100, higher is better; or in the labels' own unit and
  // direction.
  double quality(double output) const;
  double raw(double output) const;
  // A spread (standard deviation) of outputs on the 0-100 scale, or in the labels' unit.
  double quality_spread(double spread) const;
  double raw_spread(double spread) const;
};

// Parameters of `model` under their checkpoint names ("vit.", "queries", "decoder.*", "head.weight",
// "select.*"). Written atomically. store: a shipped model is BF16 or F16.
void save_model(const std::string& path, const QfmIqm& model, const ModelInfo& info,
                StoreAs store = StoreAs::AsIs);

// Reads only the description. A file that gives the model no name names it. Throws Error "PATH: reason" (not
// a QFM checkpoint, unknown architecture, ...).
ModelInfo read_model_info(const SafeTensors& file);

struct LoadedModel {
  std::unique_ptr<QfmIqm> model;
  ModelInfo info;
};
// Strict: every missing, extra or misshapen tensor is named in one Error. Ready for inference when not
// training.
LoadedModel load_model(const std::string& path, Device device, DType compute, bool training);

// The architecture of a timm DeiT checkpoint, known by its width and LayerScale. Throws Error "PATH: reason".
ModelConfig timm_config(const SafeTensors& file);

// Fills the backbone from a timm checkpoint (names without prefix; its classification head `head.*` is left
// out), or the whole model from one of ours. Strict like load_model, but for a position embedding of another
// grid, which is interpolated, and a checkpoint without a feature selection head, which leaves the model's as
// it is.
void load_pretrained(QfmIqm& model, const std::string& path);

// (1, [1 +] gh*gw, D) -> the same for a grid of `rows` x `cols`: antialiased bicubic (a = -0.5), as timm's
// resample_abs_pos_embed does; a CLS row stays. F32 on the CPU. Throws Error when the old grid is not square.
Tensor interpolate_pos_embed(const Tensor& pos, int64_t rows, int64_t cols, bool has_cls);

// Copies tensors of `file` into the masters, `prefix` + file name = parameter name; strict: one Error names
// every missing, extra and misshapen tensor. `skip(name)` says what the file may have and the model not;
// `instead` replaces tensors of the file, or those that it lacks, by name.
void load_params(ParamSet& params, const SafeTensors& file, const std::string& prefix,
                 bool (*skip)(const std::string&), const std::map<std::string, Tensor>& instead = {});

}  // namespace qfm
