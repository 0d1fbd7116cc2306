// The matching memory of `--method v1` and the semantic noise that comes out of it (models/METHOD.md 4, our
// reconstruction): training only.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "kernels/matching/matching.h"
#include "train/objectives/noise_source.h"

namespace qfm {

// Where the noise of an image comes from: the partner of similar score and least similar semantics; a random
// partner; nowhere, it is drawn (normal).
enum class MatchMode { Matched, Random, Gaussian };
// "matched", "random" or "gaussian". Throws Error otherwise.
MatchMode match_mode(std::string_view name);

struct MatchOptions {
  MatchMode mode = MatchMode::Matched;
  int64_t batches = 4;  // K: how many batches are remembered
  MatchRule rule;
  double a_max = 0.5;          // strengths are drawn evenly from 0 to this
  int64_t num_candidates = 0;  // that the adversarial search tries (strength, sign); 0: no search
  uint64_t seed = 0;
};

// What matching knows of the images of a batch, beside their features.
struct MatchBatch {
  std::vector<float> score;               // 0-1
  std::vector<int64_t> image, reference;  // which photo; which reference, negative: unknown
  std::vector<uint32_t> sample;           // names the streams of the row's draws, with the epoch
};

// Noise for a batch of features, on their device; factor_b tokens_b is to be added.
struct SemanticNoise {
  Tensor tokens;            // (B, N, D), 0 where nothing was found
  Tensor norm, noise_norm;  // (B) |P_b|, |tokens_b|: a strength a gives the factor a norm / noise_norm
  Tensor weight;            // (B) 1 / found where something was found, else 0
  // (B) each: the num_candidates of the adversarial search, or the one strength
  std::vector<Tensor> strengths;
};

struct MatchStatistics {
  double rate = 0;  // share of the images searched for that found a partner
  // Means over the pairs, of the distance of scores (0-1) and of the cosine; nullopt where there was no pair,
  // as in mode Gaussian.
  std::optional<double> score_distance, cosine;
};

// The last K batches: pooled descriptor z = mean_n P_n / |mean_n P_n|, gated features P, score, image,
// reference, age. Search first, then push. The first epoch only fills. Everything that must survive a kill is
// in state().
//
// A batch goes through in three calls: prepare(), match_and_enqueue() and enqueue(). Descriptors and features,
// and what was found, stay on the device; the rest is the host's and travels with the inputs, so that
// match_and_enqueue() waits for nothing. It always searches the whole memory, in which rows that were never
// filled have a NaN score. The candidates are strengths of the one partner's tokens.
//
// Draws: the order of tokens, the strength, the random partner and the normal noise of a row come from
// streams of their own, named (seed, purpose, epoch, sample).
class MatchingMemory : public NoiseSource {
 public:
  // batch, tokens, width: the shape of the features, always the same. compute: their dtype. references: as of
  // ObjectiveContext.
  MatchingMemory(const MatchOptions& options, int64_t batch, int64_t tokens, int64_t width, DType compute,
                 Device device, std::vector<int64_t> references = {});

  void prepare(const Batch& batch, uint32_t epoch, HostInputs& inputs) const override;
  int64_t find(const Step& step, int64_t phase) override;
  Perturbation candidate(const Tensor& which) const override;
  void forget() override { noise_.reset(); }
  void finished(const Batch& batch) override { enqueue(keys_of(batch)); }
  nlohmann::ordered_json statistics() override;

  // The keys of the photos of the batch that follows the one remembered last, of the remembered ones, and the draws:
  // adds match.score (B), match.strengths (max(1, num_candidates), B), and for the mode Gaussian match.streams (B, 5),
  // StreamNames as I32, else, with M rows of memory, match.image, match.reference (B) I64, match.memory_score (M) F32,
  // NaN where never filled, match.memory_image, match.memory_reference, match.memory_age (M) I64, match.write_rows (B)
  // I64, match.order (B, N) I32 and, for Random, match.partner (B) I32.
  void prepare(const MatchBatch& batch, uint32_t epoch, HostInputs& inputs) const;
  // Noise for `patches` (B, N, D), gated, without history, then keeps them. nullopt where not `searching`: in
  // epoch 0. The inputs are on the device; shapes and addresses are those of every call, so that it can be
  // part of a captured graph.
  std::optional<SemanticNoise> match_and_enqueue(const Tensor& patches, const HostInputs& inputs,
                                                 bool searching);
  // Notes whose features match_and_enqueue() kept.
  void enqueue(const MatchBatch& batch);

  // Statistics since the last call; resets them. nullopt where nothing was searched for. The rate of mode Gaussian
  // is 1.
  std::optional<MatchStatistics> take_statistics();

  // Tensors that are to be saved, and read back in place.
  NamedTensors state() const override;

 private:
  MatchBatch keys_of(const Batch& batch) const;
  bool remembers() const { return options_.mode != MatchMode::Gaussian; }
  Tensor find_partners(const Tensor& embedding, const HostInputs& in);
  Tensor search(const Tensor& embedding, const HostInputs& in) const;
  Tensor normal_noise(const Tensor& streams) const;
  void count(const Tensor& embedding, const Tensor& partner, const HostInputs& in);
  Tensor draw_partners(const MatchBatch& batch, uint32_t epoch) const;
  Tensor draw_orders(const MatchBatch& batch, uint32_t epoch) const;
  Tensor draw_strengths(const MatchBatch& batch, uint32_t epoch) const;
  Tensor name_streams(const MatchBatch& batch, uint32_t epoch) const;
  int64_t filled() const;

  const MatchOptions options_;
  const int64_t batch_, tokens_, width_;
  const DType compute_;
  const std::vector<int64_t> references_;
  std::optional<SemanticNoise> noise_;
  Tensor embeddings_, patches_;  // (K B, D) F32, (K B, N, D); on the device
  Tensor sums_;                  // (4) F64 on the device, of match_sums (kernels/matching/matching.h)
  Tensor self_;                  // (B) I32 on the device, 0, 1, ...: partners of drawn noise
  Tensor score_, image_, reference_, age_;  // (K B), on the CPU
  Tensor num_enqueued_;                     // (1) I64 on the CPU: batches remembered so far
};

}  // namespace qfm
