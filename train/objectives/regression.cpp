// The labels themselves: mean SmoothL1(f(x), y) over the rows that people scored (DEIQT, published), and over those
// that a teacher did (models/METHOD.md 6, our reconstruction), times --w-distil.
#include <algorithm>

#include "layers/loss.h"
#include "layers/qfm_losses.h"
#include "train/objectives/objective.h"

namespace qfm {
namespace {

constexpr double tiny = std::numeric_limits<double>::min();  // the least normal number: "above 0"

// Over the labelled rows, which come first, or over the rest.
class Regression : public Objective {
 public:
  Regression(const ObjectiveContext& context, bool pseudo)
      : pseudo_(pseudo), accumulation_(acc_of(context.compute)), device_(context.device) {
    if (pseudo) weight = context.options.number("w-distil");
  }
  std::string name() const override { return pseudo_ ? "pseudo_labels" : "labels"; }

  void plan(int64_t rows, int64_t labelled, int64_t) override {
    const int64_t begin = pseudo_ ? labelled : 0, end = pseudo_ ? rows : labelled;
    all_ = begin == 0 && end == rows, none_ = begin == end;
    if (all_ || none_) return;
    std::vector<float> share(static_cast<size_t>(rows));
    std::fill(share.begin() + begin, share.begin() + end, 1.0f / static_cast<float>(end - begin));
    share_ = Tensor::from(share, {rows}).to(accumulation_).to(device_);
  }

  Var operator()(const Step& step) override {
    if (none_) return {};
    return all_ ? smooth_l1(step.score, step.labels) : weighted_smooth_l1(step.score, step.labels, share_);
  }

 private:
  const bool pseudo_;
  const DType accumulation_;
  const Device device_;
  bool all_ = true, none_ = false;
  Tensor share_;  // (B): weights of the rows
};

}  // namespace

ObjectiveKind regression() {
  return {{}, [](const ObjectiveContext& context, const Objectives&) -> std::unique_ptr<Objective> {
            return std::make_unique<Regression>(context, false);
          }};
}

ObjectiveKind pseudo_regression() {
  return {{{"teacher", std::string(), "checkpoint (ours) that labels --unlabelled"},
           {"unlabelled", std::string(), "folder of photos without scores"},
           {"label-cache", std::string(), "file that keeps the teacher's labels (default: in --out)"},
           {"pseudo-ratio", 0.5, "share of a batch that has pseudo-labels", {}, tiny, 0.99},
           {"spread-quantile", 0.8, "unlabelled photos with a spread above this quantile are dropped", {}, 0, 1},
           {"w-distil", 1.0, "weight of the distillation loss", {}, 0}},
          [](const ObjectiveContext& context, const Objectives&) -> std::unique_ptr<Objective> {
            if (context.options.text("unlabelled").empty()) return nullptr;
            return std::make_unique<Regression>(context, true);
          }};
}

}  // namespace qfm
