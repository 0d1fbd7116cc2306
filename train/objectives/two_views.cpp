// Two views of a photo are alike, those of different photos are not: NT-Xent of projected features (SimCLR, published).
#include <numeric>

#include "layers/pointwise.h"
#include "layers/linear.h"
#include "layers/qfm_losses.h"
#include "layers/similarity.h"
#include "train/objectives/objective.h"

namespace qfm {
namespace {

// h = fc2(gelu(fc1(pooled))); cross-entropy of the softmax over j != i of cos(h_i, h_j) / temperature to the row's
// other view. SimCLR's projector has ReLU, and batches in the thousands.
class TwoViews : public Objective {
 public:
  explicit TwoViews(const ObjectiveContext& context)
      : temperature_(context.options.number("two-views-temperature")),
        compute_(context.compute),
        device_(context.device) {
    weight = context.options.number("w-two-views");
    const Scope scope = (Scope(context.model.params) / "projector").training_only();
    const int64_t width = context.model.config.features().width;
    fc1_ = Linear(scope / "fc1", width, width), fc2_ = Linear(scope / "fc2", width, kProjected);
  }
  std::string name() const override { return "two_views"; }

  // Row i and row i + rows / 2 are of one photo. With these targets score_contrast is ntxent, whose targets are made on
  // the host at each call: no part of a captured graph.
  void plan(int64_t rows, int64_t, int64_t) override {
    std::vector<double> photo;
    for (int64_t i = 0; i < rows; ++i) photo.push_back(static_cast<double>(i % (rows / 2)));
    targets_ = contrast_targets(photo, 0.5).to(acc_of(compute_)).to(device_);
    last_ = Tensor::zeros({rows, kProjected}, compute_, device_);
    seen_ = false;
  }
  void prepare(const Batch& batch, uint32_t, HostInputs&) const override {
    QFM_CHECK(batch.views == 2, "two views: the batch has ", batch.views, " of each photo");
  }

  Var operator()(const Step& step) override {
    const Var h = fc2_(gelu(fc1_(step.out.features.pooled)));
    last_.copy_from(h.value);
    return score_contrast(h, targets_, temperature_);
  }

  void finished(const Batch&) override { seen_ = true; }

  // retrieved: the share of rows of the last step whose nearest other row, by cosine, is the other view.
  nlohmann::ordered_json statistics() override {
    if (!seen_) return nullptr;
    seen_ = false;
    const Var u = l2norm(Var(last_.to(cpu_device).to(DType::F64)));
    return {{"retrieved", retrieved(u.value)}};
  }

 private:
  static double retrieved(const Tensor& u);

  static constexpr int64_t kProjected = 128;
  const double temperature_;
  const DType compute_;
  const Device device_;
  Linear fc1_, fc2_;
  Tensor targets_;  // (rows, rows), accumulation type
  Tensor last_;     // (rows, 128): h of the last step
  bool seen_ = false;
};

// u (rows, D), of length 1.
double TwoViews::retrieved(const Tensor& u) {
  const int64_t rows = u.dim(0), d = u.dim(1);
  const double* x = u.data<double>();
  int64_t found = 0;
  for (int64_t i = 0; i < rows; ++i) {
    int64_t nearest = -1;
    double most = -2;
    for (int64_t j = 0; j < rows; ++j) {
      const double cosine = std::inner_product(x + i * d, x + (i + 1) * d, x + j * d, 0.0);
      if (j != i && cosine > most) most = cosine, nearest = j;
    }
    found += nearest == (i + rows / 2) % rows;
  }
  return static_cast<double>(found) / static_cast<double>(rows);
}

}  // namespace

ObjectiveKind two_views() {
  return {
      {{"w-two-views", 0.0, "weight of the contrast between two views of each photo (optional term)", {}, 0},
       {"two-views-temperature", 0.2, "of that contrast", {}, 0.01, 10}},
      [](const ObjectiveContext& context, const Objectives&) -> std::unique_ptr<Objective> {
        if (context.options.number("w-two-views") == 0) return nullptr;
        return std::make_unique<TwoViews>(context);
      }};
}

}  // namespace qfm
