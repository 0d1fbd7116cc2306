// The matching memory and the semantic noise that comes out of it (models/METHOD.md 4, our reconstruction):
// training only.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "engine/safetensors.h"
#include "kernels/matching/matching.h"

namespace qfm {

// Where the noise of a photo comes from: the partner of similar score and least similar semantics; a random
// partner; nowhere, it is drawn (normal).
enum class MatchMode { Matched, Random, Gaussian };
// "matched", "random" or "gaussian". Throws Error otherwise.
MatchMode match_mode(std::string_view name);

struct MatchOptions {
  MatchMode mode = MatchMode::Matched;
  int64_t batches = 4;  // K: how many batches are remembered
  MatchRule rule;
  double a_max = 0.5;          // strengths are drawn evenly from 0 to this
  int64_t num_candidates = 0;  // of the adversarial search (strength and sign); 0: one strength, not searched
  uint64_t seed = 0;
};

// What matching knows of the photos of a batch, beside their features.
struct MatchBatch {
  std::vector<float> score;               // 0-1
  std::vector<int64_t> image, reference;  // which photo; which reference, negative: unknown
  std::vector<uint32_t> sample;           // names the streams of the row's draws, with the epoch
};

// All that the exchange of one batch needs beside the features: the keys of its photos and of the remembered
// ones, and the draws. Made on the host before the step, packed by type so that it travels in three copies.
struct MatchInputs {
  Tensor reals;    // F32
  Tensor numbers;  // I64
  Tensor words;    // I32
};

// Noise for a batch of features, on their device; factor_b tokens_b is to be added.
struct SemanticNoise {
  Tensor tokens;            // (B, N, D), 0 where nothing was found
  Tensor size, noise_norm;  // (B) |P_b|, |tokens_b|: a strength a gives the factor a size / noise_norm
  Tensor weight;            // (B) 1 / found where something was found, else 0
  std::vector<Tensor>
      strengths;  // (B) each: the num_candidates of the adversarial search, or the one strength
};

struct MatchStatistics {
  double rate = 0;  // share of the photos searched for that found a partner
  // Means over the pairs, of the distance of scores (0-1) and of the cosine; nullopt where there was no pair,
  // as in mode Gaussian.
  std::optional<double> score_distance, cosine;
};

// The last K batches: pooled descriptor z = mean_n P_n / its length, gated features P, score, image,
// reference, age. Search first, then push. The first epoch only fills. Everything that must survive a kill is
// in state().
//
// A batch goes through in three calls: inputs(), match_and_enqueue() and enqueue(). Descriptors and features,
// and what was found, stay on the device; the rest is the host's and travels with the inputs, so that
// match_and_enqueue() waits for nothing. It always searches the whole memory, in which rows that were never
// filled have a NaN score.
//
// Draws: the order of tokens, the strength, the random partner and the normal noise of a row come from
// streams of their own, named (seed, purpose, epoch, sample).
class MatchingMemory {
 public:
  // batch, tokens, width: the shape of the features, always the same. compute: their dtype.
  MatchingMemory(const MatchOptions& options, int64_t batch, int64_t tokens, int64_t width, DType compute,
                 Device device);

  // For the batch that follows the one remembered last; on the CPU.
  MatchInputs inputs(const MatchBatch& batch, uint32_t epoch) const;
  // Noise for `patches` (B, N, D), gated, without history, then keeps them. nullopt where not `searching`: in
  // epoch 0. The inputs are on the device; shapes and addresses are those of every call, so that it can be
  // part of a captured graph.
  std::optional<SemanticNoise> match_and_enqueue(const Tensor& patches, const MatchInputs& inputs,
                                                 bool searching);
  // Notes whose features match_and_enqueue() kept.
  void enqueue(const MatchBatch& batch);

  // Of the epoch so far, then starts anew; nullopt where nothing was searched for. In mode Gaussian the rate
  // is 1.
  std::optional<MatchStatistics> take_statistics();

  // Tensors that are to be saved, and read back in place.
  NamedTensors state() const;

 private:
  // The pieces of MatchInputs, B rows of the batch and M of the memory. Pieces that the mode does not need
  // are empty.
  struct Views {
    Tensor score, memory_score, strengths;              // F32: (B), (M), (num_candidates, B)
    Tensor image, reference;                            // I64: (B)
    Tensor memory_image, memory_reference, memory_age;  // I64: (M)
    Tensor first;                                       // I64: (1), the row of the memory to push to
    Tensor partner, order, streams;  // I32: (B) of Random, (B, N), (B, 5) StreamNames of Gaussian
  };
  Views views(const MatchInputs& inputs) const;

  bool remembers() const { return options_.mode != MatchMode::Gaussian; }
  Tensor find_partners(const Tensor& z, const Views& in);
  Tensor search(const Tensor& z, const Views& in) const;
  Tensor normal_noise(const Views& in) const;
  void count(const Tensor& z, const Tensor& partner, const Views& in);
  void draw_partners(const Tensor& partner, const MatchBatch& batch, uint32_t epoch) const;
  void draw_orders(const Tensor& order, const MatchBatch& batch, uint32_t epoch) const;
  void draw_strengths(const Tensor& strengths, const MatchBatch& batch, uint32_t epoch) const;
  void name_streams(const Tensor& streams, const MatchBatch& batch, uint32_t epoch) const;
  int64_t filled() const;

  const MatchOptions options_;
  const int64_t batch_, tokens_, width_;
  const DType compute_;
  Tensor z_, patches_;  // (K B, D) F32, (K B, N, D); on the device
  Tensor sums_;         // (4) F64 on the device, of match_sums (kernels/matching/matching.h)
  Tensor self_;         // (B) I32 on the device, 0, 1, ...: partners of drawn noise
  Tensor score_, image_, reference_, age_;  // (K B), on the CPU
  Tensor pushes_;                           // (1) I64 on the CPU: batches remembered so far
};

}  // namespace qfm
