// Head: features in, scores out. A new one is a file in heads/ and a line in registry.cpp.
#pragma once
#include <memory>
#include <string>

#include "engine/base/error.h"
#include "models/backbone.h"

namespace qfm {

struct Scores {
  Var score;    // (B), in the unit of the labels: mean of the members
  Var members;  // (B, M): one of each query, or the score itself
  Var tokens;   // (B, M, W): what each member was read from
  Var log_variance = {};  // (B), of the score's error in the unit of the labels; without a value where the head has none
};

class Head {
 public:
  virtual ~Head() = default;
  virtual Scores operator()(const Features& features) const = 0;
  // (B, N): how much the head looks at each token, rows summing to 1. Throws Error for a head that takes all alike.
  virtual Var attention(const Features& /*features*/) const {
    QFM_FAIL("the model's head takes all places alike: it has no attention");
  }
};

// How a head is made; immutable once it is part of a ModelConfig.
struct HeadConfig {
  virtual ~HeadConfig() = default;
  virtual std::string json() const = 0;                                        // {"type": "query_decoder", ...}
  virtual int64_t views() const { return 1; }  // rows of features that give one score; Batch::views
  virtual int64_t members() const = 0;                                         // M
  // The head of a new model that will learn labels of this mean and standard deviation (above 0); null: this one.
  virtual std::shared_ptr<const HeadConfig> for_labels(double /*mean*/, double /*deviation*/) const { return nullptr; }
  virtual double forward_flops(const FeatureShape& features) const = 0;        // FLOPs an image
  // Whether Scores::log_variance is given, and this head with it, for labels of this standard deviation: null where this
  // kind of head cannot.
  virtual bool gives_variance() const { return false; }
  virtual std::shared_ptr<const HeadConfig> with_variance(double /*deviation*/) const { return nullptr; }
  // scope: the model's outermost. Throws Error where the features do not fit.
  virtual std::unique_ptr<Head> make(const Scope& scope, const FeatureShape& features) const = 0;
};

}  // namespace qfm
