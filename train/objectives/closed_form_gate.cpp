// The gate from variances (models/METHOD.md 9.7, our reconstruction): what opinion explains of a channel, against what
// still differs between photos of equal opinion.
#include "train/objectives/arithmetic.h"
#include "train/objectives/consistency.h"

namespace qfm {
namespace {

// x_i = mean_n P~_n of photo i, j its partner. Of channel d, all three running means over batches:
//   B_d = cov(x_d, y)^2 / var(y),   W_d = mean over the matched of (x_jd - x_id)^2 / 2
//   g_d = B_d / (B_d + W_d r / e),  r = sum B / sum W: a channel as the whole has sigmoid(1)
// It is the gate of every photo: fc2.weight 0, fc2.bias = log(B_d / W_d) - log r + 1, neither trained. Where noise is
// on the class token alone, x is that. There is no loss.
class ClosedFormGate : public Objective {
 public:
  ClosedFormGate(const ObjectiveContext& context, const Consistency& consistency)
      : consistency_(consistency), model_(context.model), width_(context.model.config.features().width) {
    model_.params.set_trainable("select.", false);
    const DType accumulation = acc_of(context.compute);
    covariance_ = Tensor::zeros({1, width_}, accumulation, context.device);
    within_ = Tensor::zeros({1, width_}, accumulation, context.device);
    variance_ = Tensor::zeros({1}, accumulation, context.device);
  }
  std::string name() const override { return "gate_form"; }
  void started() override {
    fill(model_.select->fc2.weight, constant(0)), fill(model_.select->fc2.bias, constant(1));
    model_.params.sync();
  }

  Var operator()(const Step& step) override {
    if (!consistency_.noise()) return {};
    const NoGrad no_history;
    const Perturbation& noise = *consistency_.noise();
    const bool class_token = noise.tokens.empty();
    const auto described = [&](const Tensor& x) {
      return (class_token ? Var(x) : mean(Var(x), {1})).value.to(covariance_.dtype());
    };
    follow(described(class_token ? step.out.features.pooled.value : step.out.features.tokens.value),
           step.labels, described(class_token ? noise.pooled : noise.tokens), noise.share);
    set_gate();
    return {};
  }

  NamedTensors state() const override {
    return {{"gate.covariance", covariance_}, {"gate.within", within_}, {"gate.variance", variance_}};
  }

 private:
  static constexpr double kDecay = 0.99;

  // x, apart (B, D): the photos' features, and their partners' less those; y, share (B).
  void follow(const Tensor& x, const Tensor& y, const Tensor& apart, const Tensor& share) {
    const int64_t rows = x.dim(0);
    const double each = 1 / static_cast<double>(rows);
    const auto centred = [&](const Tensor& t) { return minus(t, affine(sum_of(t, {1, t.dim(1)}), each)); };
    const Tensor y_apart = centred(y.reshape({rows, 1}));
    keep(covariance_, affine(sum_of(times(centred(x), y_apart), {1, width_}), each));
    keep(variance_, affine(sum_of(times(y_apart, y_apart), {1}), each));
    keep(within_, affine(sum_of(times(times(apart, apart), share.reshape({rows, 1})), {1, width_}), 0.5));
  }
  static void keep(const Tensor& mean, const Tensor& now) {
    mean.copy_from(plus(affine(mean, kDecay), affine(now, 1 - kDecay)));
  }

  void set_gate() {
    const auto above_0 = [](const Tensor& x) { return affine(x, 1, 1e-12); };
    const Tensor between = above_0(over(times(covariance_, covariance_), above_0(variance_))),
                 within = above_0(within_);
    const Tensor whole = over(sum_of(between, {1, 1}), sum_of(within, {1, 1}));
    const Tensor ratio = over(over(between, within), whole);
    const Tensor bias = affine(map("statistics", fn::Log{}, ratio), 1, 1).reshape({width_});
    const Param& to = model_.select->fc2.bias;
    to.master().copy_from(bias.to(to.master().dtype()));
    to.value().copy_from(bias.to(to.value().dtype()));
  }

  const Consistency& consistency_;
  Model& model_;
  const int64_t width_;
  Tensor covariance_, within_,
      variance_;  // (1, D), (1, D), (1): running means, accumulation type, on the device
};

}  // namespace

ObjectiveKind closed_form_gate() {
  return {{}, [](const ObjectiveContext& context, const Objectives& made) -> std::unique_ptr<Objective> {
            if (!context.model.select || context.options.text("gate") != "closed-form") return nullptr;
            const auto* consistency = find<Consistency>(made);
            const bool partners = consistency && context.options.text("method") == "v2" &&
                                  context.options.text("match") != "gaussian";
            QFM_CHECK(partners,
                      "--gate closed-form takes its variances from the partners of --method v2 --match "
                      "matched or random");
            return std::make_unique<ClosedFormGate>(context, *consistency);
          }};
}

}  // namespace qfm
