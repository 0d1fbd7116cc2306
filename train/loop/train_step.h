// One update: forward, losses, backward, clipping, AdamW.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "engine/memory/graph.h"
#include "models/qfm_iqm.h"
#include "train/loop/batch_uploader.h"
#include "train/loop/loader.h"
#include "train/objectives/distil.h"
#include "train/objectives/matching.h"
#include "train/optim/optimizer.h"

namespace qfm {

// The baseline (DEIQT): SmoothL1 alone. images (B, 3, H, W) and labels (B), F32 on the CPU. Throws Error when
// the loss or the norm is not finite, OutOfMemory when memory ends: no parameter has then changed.
StepResult train_step(QfmIqm& model, Optimizer& optimizer, const Tensor& images, const Tensor& labels,
                      double lr);

// The method's switches; as they stand here, all off.
struct QfmOptions {
  std::optional<MatchOptions> match;
  double w_cons = 1, w_feat = 0.5, w_sel = 0.1;
  double w_contrast = 0, contrast_tau = 0.05, contrast_temperature = 0.1;
  double w_distil = 1;  // of what is learnt from teachers
  int64_t batch = 0;    // rows of every batch; needed for match
  std::vector<int64_t> references =
      {};  // of the photos that Batch::photos names; negative or absent: unknown
};

// What the gates of an epoch's photos were like; a channel counts as closed below kClosed in the mean over
// them.
struct GateStatistics {
  double mean = 0;
  int64_t closed = 0, channels = 0;
};

// The update with the losses of QFM-IQM (models/METHOD.md 5.4):
//   L = SmoothL1(f(P~), y) + w_cons L_cons + w_sel L_sel + w_distil L_distil
// with the first term over the labelled rows, and in L_distil the same over the pseudo-labelled ones and the
// feature term of Distillation. Each term only where its switch is on; with all off it computes what
// train_step does, bit for bit. L_sel needs the model's gate and noise.
class TrainStep {
 public:
  // Keeps references to model, optimizer and distillation (null: no teacher of features, no averaged
  // student).
  TrainStep(QfmIqm& model, Optimizer& optimizer, QfmOptions options, Distillation* distillation = nullptr);

  // epoch from 0. Labels must be on 0-100 where a switch is on. Throws as train_step; what the step remembers
  // may then have changed. On CUDA `meanwhile` is called while the GPU works: it may upload() the next batch.
  //
  // On CUDA the first step of a kind (shape, number of labelled rows, matching or not yet) runs by itself;
  // later ones replay a captured graph, with the same bits: forward passes, the teacher's and the perturbed
  // ones too, losses, backward, clipping, the updates and the averaging of the student. Beside it the
  // host starts the batch's copies and the kernel that makes images of its pixels.
  StepResult operator()(const Batch& batch, uint32_t epoch, double lr,
                        const std::function<void()>& meanwhile = {});
  // Starts the copies of what the next step will be called with. On the CPU there is nothing to do.
  void upload(const Batch& batch, uint32_t epoch);

  // Of the epoch so far, then start anew; nullopt where there is nothing to tell.
  std::optional<MatchStatistics> take_match();
  std::optional<GateStatistics> take_gates();

  // Tensors that are to be saved, and read back in place.
  NamedTensors state() const;

 private:
  using Losses = std::vector<std::pair<Var, double>>;
  // Steps of one kind compute the same terms over the same shapes.
  struct StepKey {
    Shape pixels;
    int64_t labelled = -1;
    bool matching = false;
    friend bool operator==(const StepKey&, const StepKey&) = default;
  };
  void ensure_plan(const StepKey& key);
  HostInputs inputs_of(const Batch& batch, uint32_t epoch) const;
  void forward_backward(const Tensor& images, const HostInputs& inputs);
  void compute_on_cuda();
  Var loss_of(const QfmIqm::Output& out, const Tensor& images, const HostInputs& inputs);
  void add_scores(Losses& losses, const Var& scores, const Tensor& labels) const;
  void add_consistency(Losses& losses, const QfmIqm::Output& out, const SemanticNoise& noise,
                       const Tensor& labels) const;
  Tensor strongest(const QfmIqm::Output& out, const SemanticNoise& noise) const;

  QfmIqm& model_;
  Optimizer& optimizer_;
  const QfmOptions options_;
  Distillation* const distillation_;
  std::optional<MatchingMemory> memory_;
  Tensor gate_sum_;                       // (D), accumulation type, on the device of the model
  Tensor gate_count_;                     // (1) I64 on the CPU
  Tensor one_;                            // (1): the gradient of the loss
  StepKey key_;                           // of the last step
  Tensor labelled_share_, pseudo_share_;  // (B): rows of the means over either sort; empty: all are labelled
  // On CUDA only.
  std::unique_ptr<BatchUploader> uploader_;
  uint32_t staged_epoch_ = 0;
  bool planned_ = false;  // a step of this kind has run by itself, so that libraries have made their plans
  Graph graph_;           // of a step of this kind
};

}  // namespace qfm
