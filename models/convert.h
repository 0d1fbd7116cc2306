// Checkpoints of ours and of others with other names, types, patches or grids.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace qfm {

// Int8: every matrix in eight bits (engine/int8_matrix.h), all else as IN holds it, F16 as F32: it scores as IN does in
// INT8, bit for bit.
enum class WeightsAs { F32, BF16, F16, Int8 };

struct Conversion {
  enum class Names { Ours, Timm };
  std::optional<Names> names = {};  // without: those of IN; others' become timm's
  std::optional<WeightsAs> weights = {};  // without: each tensor as IN holds it
  int64_t patch = 0, rows = 0, cols = 0;  // of a ViT; 0: as IN has them
};

// Writes `to`, safetensors, atomically. Under timm's names the backbone is as timm has it; of a model of ours the rest
// goes along with "qfm." before its names, and its description, so that nothing is lost and the way back gives the same
// bits. Classifiers of others are left out. Throws Error "PATH: reason".
void convert_model(const std::string& from, const std::string& to, const Conversion& conversion);

}  // namespace qfm
