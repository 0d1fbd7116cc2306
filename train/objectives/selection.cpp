// L_sel (models/METHOD.md 5, our reconstruction): gates close on the channels that semantic noise moves; and what the
// gates of an epoch were like.
#include <cmath>
#include <numeric>
#include <span>

#include "layers/noise.h"
#include "layers/pointwise.h"
#include "layers/qfm_losses.h"
#include "layers/reduce.h"
#include "train/objectives/consistency.h"

namespace qfm {
namespace {

// sum_d mean_i(h_id^2) v_d / sum_d v_d, h the gates over their mean, v the variance of the noise (layers/qfm_losses.h).
// --gate live (models/METHOD.md 9.6): a gate that begins where it moves, and max(0, mean of all gates - 1/2) more.
class Selection : public Objective {
 public:
  Selection(const ObjectiveContext& context, const Consistency* consistency)
      : model_(context.model),
        consistency_(consistency),
        live_(context.options.text("gate") == "live"),
        learnt_(context.options.text("gate") != "closed-form"),
        sum_(Tensor::zeros({context.model.config.features().width}, acc_of(context.compute), context.device)),
        count_(Tensor::zeros({1}, DType::I64)) {
    weight = context.options.number("w-sel");
  }
  std::string name() const override { return "gate"; }
  // Ten times the input of fc2 is ten times what an update of its weight does: the gate's own rate.
  void started() override {
    if (!live_) return;
    FeatureSelection& gate = *model_.select;
    fill(gate.norm.weight, constant(10)), fill(gate.fc2.weight, constant(0)),
        fill(gate.fc2.bias, constant(1));
    model_.params.sync();
  }
  void plan(int64_t rows, int64_t, int64_t) override { rows_ = rows; }
  void finished(const Batch&) override { count_.span<int64_t>()[0] += rows_; }

  Var operator()(const Step& step) override {
    add_to_sum(step.out.gate.value);
    if (!learnt_ || !consistency_ || !consistency_->noise()) return {};
    const Perturbation& noise = *consistency_->noise();
    const Tensor added =
        noise.tokens.empty() ? noise.pooled.reshape({rows_, 1, noise.pooled.dim(1)}) : noise.tokens;
    const Var loss = selection_loss(step.out.gate, noise_variance(added, noise.factor, noise.share));
    if (!live_) return loss;
    const Var open = mean(cast(step.out.gate, loss.value.dtype()));
    return weighted_sum({{loss, 1}, {relu(open - kBudget), 1}});
  }

  NamedTensors state() const override { return {{"gate.sum", sum_}, {"gate.count", count_}}; }

  // A channel counts as closed below kClosedGate in the mean over the epoch's photos.
  nlohmann::ordered_json statistics() override {
    int64_t& count = count_.span<int64_t>()[0];
    if (count == 0) return nullptr;
    const Tensor sum = sum_.to(cpu_device).to(DType::F64);
    double mean = 0;
    int64_t closed = 0;
    for (double s : sum.span<double>()) {
      const double of_channel = s / static_cast<double>(count);
      mean += of_channel / static_cast<double>(sum.numel());
      closed += of_channel < kClosedGate;
    }
    const double entropy = entropy_of(sum.span<double>());
    sum_.fill_zero(), count = 0;
    return {{"mean", mean},
            {"entropy", entropy},
            {"closed", closed},
            {"channels", sum.numel()},
            {"collapsed", mean < kClosedGate}};
  }

 private:
  // Of the channels' shares of the whole, over the logarithm of their number: 1 where they are equal, nothing selected.
  static double entropy_of(std::span<const double> gates) {
    const double whole = std::accumulate(gates.begin(), gates.end(), 0.0);
    double sum = 0;
    for (double g : gates)
      if (g > 0) sum -= g / whole * std::log(g / whole);
    return sum / std::log(static_cast<double>(gates.size()));
  }
  void add_to_sum(const Tensor& gates) {
    sum_.copy_from(map("gate sum", fn::Add{}, sum_, sum_to(gates, sum_.shape(), sum_.dtype())));
  }

  static constexpr double kBudget = 0.5;

  Model& model_;
  const Consistency* const consistency_;  // null: no noise, only statistics
  const bool live_, learnt_;
  Tensor sum_;                            // (D), accumulation type, on the model's device
  Tensor count_;                          // (1) I64 on the CPU: photos in it
  int64_t rows_ = 0;
};

}  // namespace

ObjectiveKind selection() {
  return {{{"w-sel", 0.1, "weight of the selection loss", {}, 0},
           {"gate",
            std::string("open"),
            "with --select on: begins open, begins live, or follows the variances of matched photos",
            {"open", "live", "closed-form"}}},
          [](const ObjectiveContext& context, const Objectives& made) -> std::unique_ptr<Objective> {
            if (!context.model.select) return nullptr;
            return std::make_unique<Selection>(context, find<Consistency>(made));
          }};
}

}  // namespace qfm
