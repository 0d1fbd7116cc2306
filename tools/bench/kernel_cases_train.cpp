// Cases of what a training step runs beside the backbone: gate, similarities, losses, the matching memory
// with its noise, and the optimiser.
#include "kernels/loss/loss.h"
#include "kernels/loss/qfm_losses.h"
#include "kernels/matching/matching.h"
#include "kernels/matching/noise.h"
#include "kernels/optim/adamw.h"
#include "kernels/pointwise/elementwise.h"
#include "kernels/reduce/reduce.h"
#include "tools/bench/case_maker.h"
#include "train/objectives/matching.h"

namespace qfm {
namespace {

template <class Dev>
constexpr bool is_cpu = std::is_same_v<Dev, Cpu>;

void add_gate(CaseMaker& make) {
  const int64_t b = make.b, n = make.n, d = make.d;
  const Array patches = make.of({b, n, d}), gates = make.of({b, d});
  const auto streams = [&](int count) { return count * make.bytes(b * n * d); };
  make.add(
      {"gate", "gate_forward", {b, n, d}, 0, streams(2)}, {patches, patches, gates},
      [=]<class T>(auto dev, T, const BufferSet& at) { gate_forward<T>(dev, at[0], at[1], at[2], b, n, d); });
  make.add({"gate.backward", "gate_backward", {b, n, d}, 0, streams(3)},
           {patches, gates, patches, patches, gates}, [=]<class T>(auto dev, T, const BufferSet& at) {
             gate_backward<T>(dev, at[0], at[1], at[2], at[3], at[4], b, n, d);
           });
  make.add(
      {"mean_tokens", "mean_tokens_forward", {b, n, d}, 0, streams(1)}, {gates, patches},
      [=]<class T>(auto dev, T, const BufferSet& at) { mean_tokens_forward<T>(dev, at[0], at[1], b, n, d); });
  make.add({"mean_tokens.backward", "mean_tokens_backward", {b, n, d}, 0, streams(1)}, {patches, gates},
           [=]<class T>(auto dev, T, const BufferSet& at) {
             mean_tokens_backward<T>(dev, at[0], at[1], b, n, d);
           });
}

// Of all patches: the descriptors of a batch alone are too few to tell more than what a launch costs.
void add_similarities(CaseMaker& make) {
  const int64_t rows = make.b * make.n, d = make.d;
  const Array area = make.of({rows, d}), each = make.of({rows}), norms = make.sums({rows});
  const auto streams = [&](int count) { return count * make.bytes(rows * d); };
  make.add({"l2norm", "l2norm_forward", {rows, d}, 0, streams(2)}, {area, norms, area},
           [=]<class T>(auto dev, T, const BufferSet& at) {
             l2norm_forward<T>(dev, at[0], at[1], at[2], rows, d, 1e-12);
           });
  make.add({"l2norm.backward", "l2norm_backward", {rows, d}, 0, streams(3)}, {area, area, area, norms},
           [=]<class T>(auto dev, T, const BufferSet& at) {
             l2norm_backward<T>(dev, at[0], at[1], at[2], at[3], rows, d, 1e-12);
           });
  make.add({"cosine", "cosine_forward", {rows, d}, 0, streams(2)}, {each, area, area},
           [=]<class T>(auto dev, T, const BufferSet& at) {
             cosine_forward<T>(dev, at[0], at[1], at[2], rows, d, 1e-8);
           });
  make.add({"cosine.backward", "cosine_backward", {rows, d}, 0, streams(4)}, {area, area, each, area, area},
           [=]<class T>(auto dev, T, const BufferSet& at) {
             cosine_backward<T>(dev, at[0], at[1], at[2], at[3], at[4], rows, d, 1e-8);
           });
}

// Scores and labels are of the accumulation type, whatever the model's is.
void add_losses(CaseMaker& make) {
  const int64_t b = make.b, d = make.d, q = make.q;
  const Array one = make.sums({1}), scores = make.sums({b}), gates = make.of({b, d}),
              judges = make.of({b, q, d});
  make.add({"smooth_l1", "smooth_l1", {b}, 0, make.sum_bytes(3 * b)}, {one, scores, scores, scores},
           [=]<class T>(auto dev, T, const BufferSet& at) {
             smooth_l1<acc<T>>(dev, at[0], at[1], at[2], at[3], 1.0, b);
           });
  make.add({"weighted_smooth_l1", "weighted_smooth_l1", {b}, 0, make.sum_bytes(4 * b)},
           {one, scores, scores, scores, scores}, [=]<class T>(auto dev, T, const BufferSet& at) {
             weighted_smooth_l1<acc<T>>(dev, at[0], at[1], at[2], at[3], at[4], 1.0, b);
           });
  make.add({"cosine_distance", "cosine_distance", {b, q, d}, 0, make.bytes(3 * b * q * d)},
           {one, judges, judges, judges, scores}, [=]<class T>(auto dev, T, const BufferSet& at) {
             cosine_distance<T>(dev, at[0], at[1], at[2], at[3], at[4], b, q, d, 1e-8);
           });
  make.add({"selection_loss", "selection_loss", {b, d}, 0, make.bytes(2 * b * d)},
           {one, gates, gates, make.sums({d})}, [=]<class T>(auto dev, T, const BufferSet& at) {
             selection_loss<T>(dev, at[0], at[1], at[2], at[3], b, d);
           });
  make.add({"similarity_cross_entropy",
            "similarity_cross_entropy",
            {b, b, d},
            4 * static_cast<double>(b * b * d),
            make.bytes(2 * b * d) + make.sum_bytes(b * b)},
           {one, gates, make.sums({b * (b + 1)}), gates, make.sums({b, b})},
           [=]<class T>(auto dev, T, const BufferSet& at) {
             similarity_cross_entropy<T>(dev, at[0], at[1], at[2], at[3], at[4], 0.1, b, d);
           });
}

// Every entry of the memory is a candidate: the most that a search can cost.
void add_search(CaseMaker& make) {
  const int64_t b = make.b, n = make.n, d = make.d, entries = MatchOptions{}.batches * b;
  const Array image = make.fixed<int64_t>({b}, [](int64_t i) { return -1 - i; }),
              number = make.fixed<int64_t>({entries}, [](int64_t i) { return i; }),
              unknown = make.fixed<int64_t>({entries}, [](int64_t) { return -1; }),
              first = make.fixed<int64_t>({1}, [](int64_t) { return 0; }),
              partner = make.fixed<int32_t>({b}, [=](int64_t i) { return i * 3 % entries; }),
              order = make.fixed<int32_t>({b, n}, [=](int64_t i) { return (i % n * 89 + i / n) % n; }),
              found = make.fixed<int32_t>({b}, [](int64_t) { return -1; });
  const Array z = make.sums({b, d}), memory_z = make.sums({entries, d}), score = make.sums({b}),
              memory_score = make.sums({entries}), patches = make.of({b, n, d}),
              memory_patches = make.of({entries, n, d});
  make.add({"nearest_match",
            "nearest_match",
            {b, entries, d},
            2 * static_cast<double>(b * entries * d),
            make.sum_bytes((b + entries) * d)},
           {found, score, z, score, image, memory_z, memory_score, number, unknown},
           [=]<class T>(auto dev, T, const BufferSet& at) {
             const MatchKeys queries{at[2], at[3], at[4], at[8], nullptr, b};
             const MatchKeys memory{at[5], at[6], at[7], at[8], at[7], entries};
             nearest_match(dev, at[0], at[1], queries, memory, d, {1e9f, 1e9f});
           });
  make.add(
      {"match_sums", "match_sums", {b}, 0, 16 * static_cast<double>(b)},
      {{{4}, DType::F64}, partner, score, score, memory_score},
      [=](auto dev, auto, const BufferSet& at) { match_sums(dev, at[0], at[1], at[2], at[3], at[4], b); });
  make.add(
      {"put_rows", "put_rows", {b, n * d}, 0, make.bytes(2 * b * n * d)}, {memory_patches, patches, first},
      [=]<class T>(auto dev, T, const BufferSet& at) { put_rows<T>(dev, at[0], at[1], at[2], b, n * d); });
  make.add({"gather_tokens", "gather_tokens", {b, n, d}, 0, make.bytes(2 * b * n * d)},
           {patches, memory_patches, partner, order}, [=]<class T>(auto dev, T, const BufferSet& at) {
             gather_tokens<T>(dev, at[0], at[1], at[2], at[3], b, n, d);
           });
  make.add({"match_weights", "match_weights", {b}, 0, 8 * static_cast<double>(b)}, {score, partner},
           [=]<class T>(auto dev, T, const BufferSet& at) { match_weights<acc<T>>(dev, at[0], at[1], b); });
}

void add_noise(CaseMaker& make) {
  const int64_t b = make.b, n = make.n, d = make.d, inner = n * d;
  const Array patches = make.of({b, n, d}), each = make.sums({b}),
              streams =
                  make.fixed<int32_t>({b, int64_t{sizeof(StreamName) / 4}}, [](int64_t i) { return i; });
  make.add({"draw_normal", "draw_normal", {b, inner}, 0, make.bytes(b * inner)}, {patches, streams},
           [=]<class T>(auto dev, T, const BufferSet& at) {
             const int32_t* words = at[1];
             draw_normal<T>(dev, at[0], reinterpret_cast<const StreamName*>(words), b, inner);
           });
  make.add({"image_norms", "frobenius", {b, inner}, 0, make.bytes(b * inner)}, {each, patches},
           [=]<class T>(auto dev, T, const BufferSet& at) { frobenius<T>(dev, at[0], at[1], b, inner); });
  make.add({"perturb", "add_scaled", {b, inner}, 0, make.bytes(3 * b * inner)},
           {patches, patches, patches, each}, [=]<class T>(auto dev, T, const BufferSet& at) {
             add_scaled<T>(dev, at[0], at[1], at[2], at[3], b, inner);
           });
  make.add(
      {"noise_variance", "noise_variance", {b, n, d}, 0, make.bytes(2 * b * inner), "reads the noise twice"},
      {make.sums({d}), patches, each, each}, [=]<class T>(auto dev, T, const BufferSet& at) {
        noise_variance<T>(dev, at[0], at[1], at[2], at[3], b, n, d);
      });
  make.add({"noise_factor", "noise_factor", {b}, 0, make.sum_bytes(4 * b)}, {each, each, each, each},
           [=]<class T>(auto dev, T, const BufferSet& at) {
             noise_factor<acc<T>>(dev, at[0], at[1], at[2], at[3], b);
           });
  make.add({"keep_worst_case", "keep_worst_case", {b}, 0, make.sum_bytes(7 * b)},
           {each, each, each, each, each}, [=]<class T>(auto dev, T, const BufferSet& at) {
             keep_worst_case<acc<T>>(dev, at[0], at[1], at[2], at[3], at[4], b);
           });
}

Array step_state(const CaseMaker& make) {
  StepState state{};
  state.lr = 1e-5, state.step = 1, state.squares = 1, state.finite = 1;
  int64_t words[(sizeof(StepState) + 7) / 8] = {};
  std::memcpy(words, &state, sizeof state);
  return make.fixed<int64_t>({int64_t{std::size(words)}}, [&](int64_t i) { return words[i]; });
}

// Over the weights of the backbone's products, all but a hundredth of what a model has.
void add_optimiser(CaseMaker& make) {
  const int64_t d = make.d, patch = make.vit.patch;
  const int64_t count = make.vit.depth * 12 * d * d + 3 * patch * patch * d;
  const Array flat = make.sums({count}), zeros{{count}, flat.dtype, true}, state = step_state(make);
  make.add({"gradient_norm", "sum_squares", {count}, 0, make.sum_bytes(count)}, {{{1}, DType::F64}, flat},
           [=]<class T>(auto dev, T, const BufferSet& at) {
             using A = acc<T>;
             if constexpr (is_cpu<decltype(dev)>) sum_squares<A>(dev, at[1], count);
             else sum_squares<A>(dev, at[0], at[1], count);
           });
  // F32 models have no copy; a BF16 copy is 2 bytes more.
  const bool copied = make.of({1}).dtype != flat.dtype;
  make.add({"adamw", "adamw", {count}, 0, make.sum_bytes(7 * count) + (copied ? make.bytes(count) : 0)},
           {flat, make.of({copied ? count : 1}), flat, zeros, flat, state, make.sums({1})},
           [=]<class T>(auto dev, T, const BufferSet& at) {
             using A = acc<T>;
             T* copy = copied ? at[1] : static_cast<T*>(nullptr);
             if constexpr (is_cpu<decltype(dev)>) {
               adamw<T>(dev, adamw_scalars<A>({}, 1e-5, 1, 1), at[0], copy, at[2], at[3], at[4], count);
             } else {
               int64_t* words = at[5];
               adamw<T>(dev, AdamWRule{}, reinterpret_cast<StepState*>(words), nullptr, at[6], at[0], copy,
                        at[2], at[3], at[4], count, count);
             }
           });
  make.add({"moving_average", "moving_average", {count}, 0, make.sum_bytes(3 * count)}, {flat, flat, state},
           [=]<class T>(auto dev, T, const BufferSet& at) {
             if constexpr (is_cpu<decltype(dev)>) {
               moving_average<acc<T>>(dev, at[0], at[1], 0.999, count);
             } else {
               const int64_t* words = at[2];
               moving_average(dev, reinterpret_cast<const StepState*>(words), at[0], at[1], 0.999, count);
             }
           });
}

}  // namespace

void add_training_cases(CaseMaker& make) {
  add_gate(make);
  add_similarities(make);
  add_losses(make);
  add_search(make);
  add_noise(make);
  add_optimiser(make);
}

}  // namespace qfm
