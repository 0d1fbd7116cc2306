// Cases of what a training step runs beside the backbone: similarities, losses, the matching memory
// with its noise, and the optimiser.
#include "engine/base/rng.h"
#include "kernels/cases/case_maker.h"
#include "kernels/loss/loss.h"
#include "kernels/loss/qfm_losses.h"
#include "kernels/matching/matching.h"
#include "kernels/matching/noise.h"
#include "kernels/optim/adamw.h"
#include "kernels/reduce/reduce.h"

namespace qfm {
namespace {

constexpr auto kRounding = Equal::Rounding;
template <class Dev>
constexpr bool is_cpu = std::is_same_v<Dev, Cpu>;

// All patches: the descriptors of a batch alone are too few to tell more than what a launch costs.
void add_similarities(CaseMaker& make) {
  make.group = "reduce";
  const int64_t rows = make.s.batch * make.s.patches, d = make.s.width, area = rows * d;
  make.add({"l2norm", {rows, d}, d},
           {make.out("y", area, kRounding), make.acc_out("norm", rows), make.in("x", area)},
           QFM_KERNEL(l2norm_forward), rows, d, 1e-12);
  make.add(
      {"l2norm.backward", {rows, d}, d},
      {make.out("dx", area, kRounding), make.in("dy", area), make.in("y", area), make.acc_in("norm", rows)},
      QFM_KERNEL(l2norm_backward), rows, d, 1e-12);
  make.add({"cosine", {rows, d}, d}, {make.out("y", rows, kRounding), make.in("a", area), make.in("b", area)},
           QFM_KERNEL(cosine_forward), rows, d, 1e-8);
  make.add({"cosine.backward", {rows, d}, d},
           {make.out("da", area, kRounding), make.out("db", area, kRounding), make.in("dy", rows),
            make.in("a", area), make.in("b", area)},
           QFM_KERNEL(cosine_backward), rows, d, 1e-8);
}

// Scores and labels are of the accumulation type, whatever the model's is.
void add_losses(CaseMaker& make) {
  make.group = "loss";
  const int64_t b = make.s.batch, d = make.s.width, q = make.s.queries, members = b * q * d, gates = b * d;
  const CaseArray loss = make.acc_out("loss", 1), dp{"dprediction", ArrayRole::Out, loss.type, b, kRounding},
                  prediction = make.acc_in("prediction", b), target = make.acc_in("target", b),
                  weight = make.acc_in("weight", b);
  make.add({"smooth_l1", {b}, b}, {loss, dp, prediction, target}, QFM_KERNEL_AS(smooth_l1, acc<T>), 0.8, b);
  make.add({"weighted_smooth_l1", {b}, b}, {loss, dp, prediction, target, weight},
           QFM_KERNEL_AS(weighted_smooth_l1, acc<T>), 0.8, b);
  make.add({"cosine_distance", {b, q, d}, members, 0, make.bytes(3 * members)},
           {loss, make.out("da", members, kRounding), make.in("a", members), make.in("c", members), weight},
           QFM_KERNEL(cosine_distance), b, q, d, 1e-8);
  make.add({"selection_loss", {b, d}, gates, 0, make.bytes(2 * gates)},
           {loss, make.out("dg", gates, kRounding), make.in("g", gates), make.acc_in("variance", d)},
           QFM_KERNEL(selection_loss), b, d);
  make.add({"similarity_cross_entropy",
            {b, b, d},
            gates,
            4 * static_cast<double>(b * gates),
            make.bytes(2 * gates) + make.acc_bytes(b * b)},
           {loss, make.out("du", gates, kRounding), make.scratch(b * (b + 1)), make.in("u", gates),
            make.acc_in("targets", b * b)},
           QFM_KERNEL(similarity_cross_entropy), 0.1, b, d);
}

// Every entry of the memory is a candidate: the most that a search can cost.
void add_search(CaseMaker& make) {
  make.group = "matching";
  const int64_t b = make.s.batch, n = make.s.patches, d = make.s.width, entries = make.s.entries,
                patches = b * n * d;
  const auto photos = [&](const char* name, int64_t size, auto value) {
    return make.numbers<int64_t>(name, ArrayRole::In, size, value);
  };
  const auto floats = [](const char* name, int64_t size) {
    return CaseArray{name, ArrayRole::In, DType::F32, size};
  };
  const auto number = [](int64_t i) { return i; };
  const CaseArray partner = make.numbers<int32_t>("partner", ArrayRole::In, b,
                                                  [=](int64_t i) { return i * 3 % entries; }),
                  score = floats("score", b), memory_score = floats("memory score", entries);
  make.add({"nearest_match",
            {b, entries, d},
            d,
            2 * static_cast<double>(b * entries * d),
            make.acc_bytes((b + entries) * d)},
           {{"partner", ArrayRole::Out, DType::I32, b},
            {"cosine", ArrayRole::Out, DType::F32, b},
            floats("z", b * d),
            score,
            photos("image", b, [](int64_t i) { return -1 - i; }),
            floats("memory z", entries * d),
            memory_score,
            photos("age", entries, number),
            photos("reference", entries, [](int64_t) { return -1; })},
           "nearest_match",
           [=](auto dev, auto, auto to, auto cosine, auto z, auto scores, auto image, auto memory_z,
               auto memory_scores, auto age, auto reference) {
             const MatchKeys queries{z, scores, image, reference, nullptr, b};
             const MatchKeys memory{memory_z, memory_scores, age, reference, age, entries};
             nearest_match(dev, to, cosine, queries, memory, d, {1e9f, 1e9f});
           });
  make.add(
      {"match_sums", {b}, b, 0, 16 * static_cast<double>(b)},
      {make.numbers<double>("sums", ArrayRole::InOut, 4, [](int64_t) { return 0; }), partner,
       floats("cosine", b), score, memory_score},
      "match_sums", [](auto dev, auto, auto... a) { match_sums(dev, a...); }, b);
  CaseArray memory = make.in("memory", entries * n * d);
  memory.role = ArrayRole::InOut;
  make.add({"put_rows", {b, n * d}, 1, 0, make.bytes(2 * patches)},
           {memory, make.in("x", patches), photos("to", b, number)}, QFM_KERNEL(put_rows), b, n * d);
  make.add({"gather_tokens", {b, n, d}, 1, 0, make.bytes(2 * patches)},
           {make.out("y", patches), make.in("memory", entries * n * d), partner,
            make.numbers<int32_t>("order", ArrayRole::In, b * n,
                                  [=](int64_t i) { return (i % n * 89 + i / n) % n; })},
           QFM_KERNEL(gather_tokens), b, n, d);
  make.add({"noise_weights", {b}, 1, 0, 8 * static_cast<double>(b)},
           {make.acc_out("weight", b, Equal::Bits), partner}, QFM_KERNEL_AS(match_weights, acc<T>), b);
}

void add_noise(CaseMaker& make) {
  const int64_t b = make.s.batch, n = make.s.patches, d = make.s.width, inner = n * d, patches = b * inner;
  make.add({"noise_drawn", {b, inner}},
           {make.out("noise", patches, kRounding),
            make.numbers<int32_t>("streams", ArrayRole::In, b * int64_t{sizeof(StreamName) / 4},
                                  [](int64_t i) { return i % 251; })},
           QFM_KERNEL(draw_normal), b, inner);
  make.add({"keep_worst_case", {b}},
           {make.changed("strength", b), make.changed("change", b), make.acc_in("trial", b),
            make.acc_in("score", b), make.acc_in("clean", b)},
           QFM_KERNEL_AS(keep_worst_case, acc<T>), b);
}

CaseArray step_state() {
  StepState state{};
  state.lr = 1e-5, state.step = 1, state.squares = 1, state.finite = 1;
  std::vector<char> bytes(sizeof state);
  std::memcpy(bytes.data(), &state, sizeof state);
  return {"state",     ArrayRole::Scratch,
          DType::I64,  int64_t{sizeof state / 8},
          Equal::Bits, [bytes](void* const*) { return bytes; }};
}

void add_optimiser(CaseMaker& make) {
  make.group = "optim";
  const int64_t d = make.s.width, count = make.s.depth * 12 * d * d + 3 * make.s.patch * make.s.patch * d;
  const CaseArray gradient = make.acc_in("gradient", count), state = step_state();
  CaseArray v = make.changed("v", count);
  v.contents = [bytes = static_cast<size_t>(count) * size_of(v.type)](void* const*) {
    return std::vector<char>(bytes);
  };
  make.add({"gradient_norm", {count}, count}, {{"sum", ArrayRole::Out, DType::F64, 1, kRounding}, gradient},
           "sum_squares", [=]<class T>(auto dev, T, auto sum, auto x) {
             double* to = sum;
             if constexpr (is_cpu<decltype(dev)>) *to = sum_squares<acc<T>>(dev, x, count);
             else sum_squares<acc<T>>(dev, to, x, count);
           });
  // F32 models have no copy; a BF16 copy is 2 bytes more.
  const bool copied = gradient.type != make.in("", 1).type;
  make.add({"adamw", {count}},
           {make.changed("master", count), make.out("copy", copied ? count : 0, kRounding),
            make.changed("m", count), v, gradient, state, make.acc_in("loss", 1)},
           "adamw",
           [=]<class T>(auto dev, T, auto master, auto to, auto m, auto v, auto g, auto at, auto loss) {
             T* copy = copied ? to : static_cast<T*>(nullptr);
             if constexpr (is_cpu<decltype(dev)>)
               adamw<T>(dev, adamw_scalars<acc<T>>({}, 1e-5, 1, 1), master, copy, m, v, g, count);
             else adamw<T>(dev, AdamWRule{}, at, loss, master, copy, m, v, g, count, count);
           });
  make.add({"moving_average", {count}}, {make.changed("average", count), make.acc_in("master", count), state},
           "moving_average", [=]<class T>(auto dev, T, auto average, auto master, auto at) {
             if constexpr (is_cpu<decltype(dev)>) moving_average<acc<T>>(dev, average, master, 0.999, count);
             else moving_average(dev, at, average, master, 0.999, count);
           });
}

}  // namespace

void add_training_cases(CaseMaker& make) {
  add_similarities(make);
  add_losses(make);
  add_search(make);
  add_noise(make);
  add_optimiser(make);
}

}  // namespace qfm
