// The memory of `--method v2` (models/METHOD.md 9, our reconstruction): every photo of the training set, so that each
// finds the one of equal opinion that shows the least alike.
//
// What a photo shows is a descriptor of a frozen network, made once: training cannot move it. What the memory holds of
// a photo are its features, class token and patch tokens, as they were when it was last in a batch: those of the frozen
// network would be of a space that the head has never seen; passing the partner through the model too would double the
// batch; so only the copies into a row and out of it are paid. A row is at most an epoch old. In BF16 a set of 2,439
// photos takes 183 MB at ViT-Tiny, and state() has it, for what a row was cannot be computed again.
#pragma once
#include <vector>

#include "train/objectives/noise_source.h"

namespace qfm {

// Throws Error where so many photos with so many bytes each are more than memory has; it says how many are not.
void check_memory_fits(int64_t photos, int64_t bytes_each, int64_t memory);

// Candidates of photo i are the seen photos j with |y_i - y_j| <= tau_q, not i itself and not of its reference. Modes:
//   matched   those of the least cosines z_i . z_j; of equal ones the lower number
//   random    any of them
//   gaussian  none: one normal vector an image
// P' = P + a sg(N_j - P), c' = c + a sg(c_j - c); gaussian: a n, n the same for all tokens, for what is drawn for each
// of 196 averages out. One a for all. In the first epoch with noise it follows
//   a = min(limit, shift sum of a / sum of mean |f(P', c') - f(P, c)|)
// over its steps so far, so that the score moves by `shift` points in the mean; then it stays.
class PhotoMemory : public NoiseSource {
 public:
  // Throws Error: no photo has another of equal opinion; the memory is larger than the machine's.
  explicit PhotoMemory(const ObjectiveContext& context);
  void started() override;
  // Adds match.to (B) I64, rows of the memory to write, match.calibrates (1) F32, 1 in the first epoch with noise, else 0,
  // and match.found (B) F32, 1 or 0, match.partner (K, B) I32, -1 where there is none, match.number (K, B) F32, the same;
  // for gaussian match.streams (B, 5).
  void prepare(const Batch& batch, uint32_t epoch, HostInputs& inputs) const override;
  int64_t find(const Step& step, int64_t phase) override;
  Perturbation candidate(const Tensor& which) const override;
  void observe(const Step& step, const Tensor& which, const Tensor* moved) override;
  void forget() override { found_ = {}; }
  void finished(const Batch& batch) override;
  NamedTensors state() const override;
  // rate, cosine, score_distance: share of photos with a partner, and means over them. partners: photos that were one.
  // shift, shift_p90: of the score, in points, at each photo's last look. no_effect: a mean below kNoEffect.
  // descriptor_quality: correlation of z_i . z_j with |f_i - f_j| over drawn pairs; far below 0, it describes quality.
  nlohmann::ordered_json statistics() override;

  static constexpr double kNoEffect = 3;  // points

 private:
  enum class Mode { Matched, Random, Gaussian };
  // Of the step that find() saw last.
  struct Found {
    Tensor tokens, pooled;                     // its features
    std::vector<Tensor> of_tokens, of_pooled;  // each candidate's
    Tensor found, weight, share, number;
  };

  bool same_scene(int64_t i, int64_t j) const;
  double cosine(int64_t i, int64_t j) const;
  std::vector<int32_t> equals_of(int64_t photo, bool seen_only) const;
  std::vector<int32_t> partners_of(int64_t photo, uint32_t epoch, uint32_t sample) const;
  void add_partners(const Batch& batch, uint32_t epoch, HostInputs& inputs) const;
  Tensor gather(const Tensor& memory, const Tensor& partner, const Tensor& order) const;
  Tensor chosen(const std::vector<Tensor>& candidates, const Tensor& which) const;
  void write(const Step& step);
  void calibrate(const Tensor& shift, const Tensor& counts);
  void forget_looks();
  double descriptor_quality(const std::vector<float>& looks) const;

  const Mode mode_;
  const int64_t batch_, photos_, candidates_;
  const double shift_, limit_;
  const float tau_q_;
  const bool on_tokens_, on_pooled_;
  const uint64_t seed_;
  const DType compute_;
  const std::vector<float> scores_;
  const std::vector<int64_t> references_;
  const Semantics semantics_;
  std::vector<int32_t> by_score_;  // photos, least score first
  Tensor z_;                       // (photos, S) F32 on the CPU
  Tensor seen_;                    // (photos) I32 on the CPU: 1 where the memory has it
  Tensor tokens_, pooled_;         // (photos, N, D), (photos, D) BF16 on the device
  Tensor looks_;  // (photos, 3) F32 on the device: score, shift (-1: no noise), partner; NaN: not seen
  Tensor strength_, strengths_, shifts_;  // (1), accumulation type: a, and the sums that it follows
  Tensor token_order_, pooled_order_;     // (B, N), (B, 1) I32 on the device: tokens as they are
  Found found_;
};

}  // namespace qfm
