#include "train/objectives/photo_memory.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <utility>

#include "engine/base/rng.h"
#include "engine/base/threads.h"
#include "engine/dispatch.h"
#include "kernels/matching/noise.h"
#include "layers/noise.h"
#include "layers/shape.h"
#include "train/metrics/metrics.h"
#include "train/objectives/arithmetic.h"

namespace qfm {
namespace {

constexpr double kFirstStrength = 0.5;
constexpr float kNone = std::numeric_limits<float>::quiet_NaN();

Tensor number(double value, DType dtype, Device device) {
  return Tensor::from(std::vector<double>{value}, {1}).to(dtype).to(device);
}

int64_t bytes_of_machine() {
  return static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<int64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

void check_memory_fits(int64_t photos, int64_t bytes_each, int64_t memory) {
  const auto gib = [](double bytes) { return std::round(bytes / (1 << 30) * 10) / 10; };
  QFM_CHECK(photos <= memory / bytes_each, "--method v2: its memory of ", photos, " photos takes ",
            gib(static_cast<double>(photos) * static_cast<double>(bytes_each)), " GiB, the machine has ",
            gib(static_cast<double>(memory)), " GiB: ", memory / bytes_each, " photos would fit");
}

PhotoMemory::PhotoMemory(const ObjectiveContext& context)
    : mode_(context.options.text("match") == "matched"  ? Mode::Matched
            : context.options.text("match") == "random" ? Mode::Random
                                                        : Mode::Gaussian),
      batch_(context.batch),
      photos_(static_cast<int64_t>(context.scores.size())),
      candidates_(std::max<int64_t>(1, mode_ == Mode::Gaussian ? 1 : context.options.whole("adversarial"))),
      shift_(context.options.number("shift")),
      limit_(mode_ == Mode::Gaussian ? 100 : 1),
      tau_q_(static_cast<float>(context.options.number("tau-q"))),
      on_tokens_(context.options.text("noise-on") != "class"),
      on_pooled_(context.options.text("noise-on") != "tokens"),
      seed_(context.seed),
      compute_(context.compute),
      scores_(context.scores),
      references_(context.references),
      semantics_(context.semantics),
      by_score_(context.scores.size()) {
  const FeatureShape shape = context.model.config.features();
  const Device device = context.device;
  std::iota(by_score_.begin(), by_score_.end(), 0);
  std::stable_sort(by_score_.begin(), by_score_.end(), [&](int32_t a, int32_t b) {
    return scores_[static_cast<size_t>(a)] < scores_[static_cast<size_t>(b)];
  });
  const int64_t rows = mode_ == Mode::Gaussian ? 0 : photos_;
  if (rows > 0) {
    const bool any = std::any_of(by_score_.begin(), by_score_.end(),
                                 [&](int32_t i) { return !equals_of(i, false).empty(); });
    QFM_CHECK(any, "--match: no photo has another whose opinion is within ", 100 * tau_q_,
              " points of its own: a larger --tau-q finds partners");
    check_memory_fits(rows, (shape.tokens() + 1) * shape.width * static_cast<int64_t>(sizeof(bf16)),
                      bytes_of_machine());
  }
  z_ = Tensor::zeros({photos_, semantics_.width}), seen_ = Tensor::zeros({photos_}, DType::I32);
  tokens_ = Tensor::zeros({rows, shape.tokens(), shape.width}, DType::BF16, device);
  pooled_ = Tensor::zeros({rows, shape.width}, DType::BF16, device);
  looks_ = Tensor::zeros({photos_, 3}, DType::F32, device);
  forget_looks();
  // As if one step, of little weight, had shown that the first strength does what is wanted.
  const DType accumulation = acc_of(compute_);
  strength_ = number(kFirstStrength, accumulation, device);
  strengths_ = number(1e-3 * kFirstStrength, accumulation, device),
  shifts_ = number(1e-3 * shift_, accumulation, device);
  std::vector<int32_t> order;
  for (int64_t i = 0; i < batch_ * shape.tokens(); ++i)
    order.push_back(static_cast<int32_t>(i % shape.tokens()));
  token_order_ = Tensor::from(order, {batch_, shape.tokens()}).to(device);
  pooled_order_ = Tensor::zeros({batch_, 1}, DType::I32, device);
}

void PhotoMemory::started() {
  const Tensor made = semantics_.descriptors();
  QFM_CHECK(made.shape() == z_.shape(), "matching: descriptors are ", made.shape(), ", expected ",
            z_.shape());
  z_.copy_from(made);
}

// ---- what the host knows and draws ----

bool PhotoMemory::same_scene(int64_t i, int64_t j) const {
  const auto reference = [&](int64_t photo) {
    return photo < static_cast<int64_t>(references_.size()) ? references_[static_cast<size_t>(photo)] : -1;
  };
  return i == j || (reference(i) >= 0 && reference(i) == reference(j));
}

double PhotoMemory::cosine(int64_t i, int64_t j) const {
  const float *a = z_.data<float>() + i * z_.dim(1), *b = z_.data<float>() + j * z_.dim(1);
  return std::inner_product(a, a + z_.dim(1), b, 0.0);
}

// Photos of equal opinion and another scene.
std::vector<int32_t> PhotoMemory::equals_of(int64_t photo, bool seen_only) const {
  const float score = scores_[static_cast<size_t>(photo)];
  const auto seen = seen_.empty() ? std::span<int32_t>() : seen_.span<int32_t>();
  const auto below = [&](int32_t i, float limit) { return scores_[static_cast<size_t>(i)] < limit; };
  std::vector<int32_t> all;
  for (auto at = std::lower_bound(by_score_.begin(), by_score_.end(), score - tau_q_, below);
       at != by_score_.end(); ++at) {
    if (scores_[static_cast<size_t>(*at)] > score + tau_q_) break;
    if (!same_scene(photo, *at) && (!seen_only || seen[static_cast<size_t>(*at)])) all.push_back(*at);
  }
  return all;
}

// The candidates that are tried, fewer than wanted where there are no more.
std::vector<int32_t> PhotoMemory::partners_of(int64_t photo, uint32_t epoch, uint32_t sample) const {
  std::vector<int32_t> equals = equals_of(photo, true);
  const auto wanted = std::min(static_cast<size_t>(candidates_), equals.size());
  if (mode_ == Mode::Random) {
    Rng rng(seed_, "match partner", epoch, sample);
    for (size_t k = 0; k < wanted; ++k)
      std::swap(equals[k], equals[k + rng.below(static_cast<uint32_t>(equals.size() - k))]);
  } else {
    std::vector<std::pair<double, int32_t>> ranked;
    for (int32_t j : equals) ranked.emplace_back(cosine(photo, j), j);
    std::partial_sort(ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(wanted), ranked.end());
    for (size_t k = 0; k < wanted; ++k) equals[k] = ranked[k].second;
  }
  equals.resize(wanted);
  return equals;
}

void PhotoMemory::add_partners(const Batch& batch, uint32_t epoch, HostInputs& inputs) const {
  const Tensor partner({candidates_, batch_}, DType::I32), number({candidates_, batch_}), found({batch_});
  parallel_for(batch_, [&](int64_t i) {
    const auto row = static_cast<size_t>(i);
    const auto partners = partners_of(batch.photos[row], epoch, batch.samples[row]);
    found.data<float>()[i] = !partners.empty();
    for (int64_t k = 0; k < candidates_; ++k) {
      const int32_t j = partners.empty() ? -1 : partners[static_cast<size_t>(k) % partners.size()];
      partner.data<int32_t>()[k * batch_ + i] = j,
                                           number.data<float>()[k * batch_ + i] = static_cast<float>(j);
    }
  });
  inputs.add("match.partner", partner), inputs.add("match.number", number), inputs.add("match.found", found);
}

void PhotoMemory::prepare(const Batch& batch, uint32_t epoch, HostInputs& inputs) const {
  QFM_CHECK(static_cast<int64_t>(batch.photos.size()) == batch_, "matching: ", batch.photos.size(),
            " images, expected ", batch_);
  const Tensor to({batch_}, DType::I64);
  std::set<int64_t> taken;  // of two crops of a photo the later one is kept
  for (int64_t i = batch_ - 1; i >= 0; --i) {
    const int64_t photo = batch.photos[static_cast<size_t>(i)];
    QFM_CHECK(photo < photos_, "matching: photo ", photo, " of ", photos_);
    to.span<int64_t>()[static_cast<size_t>(i)] = taken.insert(photo).second ? photo : -1;
  }
  inputs.add("match.to", to);
  inputs.add("match.calibrates", Tensor::from(std::vector<float>{epoch == 1 ? 1.0f : 0.0f}, {1}));
  if (mode_ != Mode::Gaussian) return add_partners(batch, epoch, inputs);
  const Tensor streams({batch_, sizeof(StreamName) / sizeof(int32_t)}, DType::I32);
  auto* name = static_cast<StreamName*>(streams.raw());
  for (uint32_t sample : batch.samples) *name++ = Rng(seed_, "match normal", epoch, sample).name();
  inputs.add("match.streams", streams);
}

void PhotoMemory::finished(const Batch& batch) {
  for (int64_t photo : batch.photos) seen_.span<int32_t>()[static_cast<size_t>(photo)] = 1;
}

// ---- what the device does ----

// Rows `partner` (B) of a memory (photos, R, D), zeros where there is none, in the compute type.
Tensor PhotoMemory::gather(const Tensor& memory, const Tensor& partner, const Tensor& order) const {
  return gather_tokens(memory, partner, order).to(compute_);
}

int64_t PhotoMemory::find(const Step& step, int64_t phase) {
  const NoGrad no_history;
  const Tensor tokens = step.out.features.tokens.value, pooled = step.out.features.pooled.value;
  const Device device = tokens.device();
  const DType accumulation = acc_of(compute_);
  found_ = {tokens, pooled, {}, {}, {}, {}, {}, {}};
  if (phase == 0) return write(step), 0;
  if (mode_ == Mode::Gaussian) {
    const Tensor drawn({batch_, pooled.dim(1)}, compute_, device), &streams = step.inputs.at("match.streams");
    dispatch({"draw_normal", 0, static_cast<double>(drawn.bytes())}, drawn, [&](auto dev, auto t) {
      using T = decltype(t);
      draw_normal<T>(dev, ptr<T>(drawn), static_cast<const StreamName*>(streams.raw()), batch_, drawn.dim(1));
    });
    found_.of_tokens = {expand(drawn.reshape({batch_, 1, drawn.dim(1)}), tokens.shape())},
    found_.of_pooled = {drawn};
    found_.found = constant_like(step.score.value, {batch_}, 1);
    found_.number = constant_like(step.score.value, {1, batch_}, -1);
    found_.share = affine(found_.found, 1 / static_cast<double>(batch_));
  } else {
    const Tensor& partner = step.inputs.at("match.partner");
    for (int64_t k = 0; k < candidates_; ++k) {
      const Tensor from = partner.rows(k, k + 1).reshape({batch_});
      found_.of_tokens.push_back(minus(gather(tokens_, from, token_order_), tokens));
      const Tensor rows = gather(pooled_.reshape({photos_, 1, pooled.dim(1)}), from, pooled_order_);
      found_.of_pooled.push_back(minus(rows.reshape(pooled.shape()), pooled));
    }
    found_.found = step.inputs.at("match.found").to(accumulation);
    found_.number = step.inputs.at("match.number").to(accumulation);
    found_.share = match_weights(partner.rows(0, 1).reshape({batch_}), accumulation);
  }
  found_.weight = affine(found_.found, 1 / static_cast<double>(batch_));
  write(step);
  return candidates_;
}

// Of candidates (B, ...) that which each image takes.
Tensor PhotoMemory::chosen(const std::vector<Tensor>& candidates, const Tensor& which) const {
  if (candidates.size() == 1) return candidates[0];
  Tensor sum;
  for (size_t k = 0; k < candidates.size(); ++k) {
    std::vector<int64_t> dims(static_cast<size_t>(candidates[k].rank()), 1);
    dims[0] = batch_;
    const Tensor taken =
        is_candidate(which, static_cast<int64_t>(k)).to(candidates[k].dtype()).reshape(Shape(dims));
    const Tensor part = times(candidates[k], taken);
    sum = sum.empty() ? part : plus(sum, part);
  }
  return sum;
}

Perturbation PhotoMemory::candidate(const Tensor& which) const {
  const NoGrad no_history;
  return {on_tokens_ ? chosen(found_.of_tokens, which) : Tensor(),
          on_pooled_ ? chosen(found_.of_pooled, which) : Tensor(), times(found_.found, strength_),
          found_.weight, found_.share};
}

void PhotoMemory::write(const Step& step) {
  if (mode_ == Mode::Gaussian) return;
  put_rows(tokens_, found_.tokens.to(DType::BF16), step.inputs.at("match.to"));
  put_rows(pooled_, found_.pooled.to(DType::BF16), step.inputs.at("match.to"));
}

void PhotoMemory::observe(const Step& step, const Tensor& which, const Tensor* moved) {
  const NoGrad no_history;
  const Tensor& score = step.score.value;
  const auto all = [&](double value) { return constant_like(score, score.shape(), value); };
  Tensor shift = all(-1), partner = all(-1);
  if (moved) {
    const Tensor change = minus(*moved, score),
                 distance = map("statistics", fn::Sqrt{}, times(change, change));
    calibrate(distance, step.inputs.at("match.calibrates").to(score.dtype()));
    shift = affine(times(affine(distance, 1, 1), found_.found), 1, -1);
    std::vector<Tensor> numbers;
    for (int64_t k = 0; k < candidates_; ++k)
      numbers.push_back(found_.number.rows(k, k + 1).reshape({batch_}));
    partner = chosen(numbers, which);
  }
  const auto column = [&](const Tensor& x) { return Var(x.to(DType::F32).reshape({batch_, 1})); };
  put_rows(looks_, concat({column(score), column(shift), column(partner)}, 1).value,
           step.inputs.at("match.to"));
}

// counts (1): 1, or 0 where the strength is to stay.
void PhotoMemory::calibrate(const Tensor& shift, const Tensor& counts) {
  const auto add = [&](const Tensor& sum, const Tensor& x) { sum.copy_from(plus(sum, times(x, counts))); };
  add(strengths_, times(strength_, sum_of(found_.share, {1})));
  add(shifts_, sum_of(times(shift, found_.share), {1}));
  const Tensor wanted = over(affine(strengths_, shift_), shifts_);
  const Tensor below = map("statistics", fn::Relu{}, affine(wanted, -1, limit_));
  strength_.copy_from(affine(below, -1, limit_));
}

// ---- what became of it ----

void PhotoMemory::forget_looks() {
  looks_.copy_from(Tensor::from(std::vector<float>(static_cast<size_t>(3 * photos_), kNone), {photos_, 3}));
}

nlohmann::ordered_json PhotoMemory::statistics() {
  const Tensor host = looks_.to(cpu_device);
  const std::vector<float> looks(host.span<float>().begin(), host.span<float>().end());
  int64_t seen = 0;
  double cosines = 0, distances = 0;
  std::set<int64_t> partners;
  std::vector<double> shifts;
  for (int64_t i = 0; i < photos_; ++i) {
    const float* look = looks.data() + 3 * i;
    if (std::isnan(look[0])) continue;
    ++seen;
    if (look[1] < 0) continue;
    shifts.push_back(look[1]);
    const auto j = static_cast<int64_t>(look[2]);
    if (j < 0) continue;
    partners.insert(j);
    cosines += cosine(i, j),
        distances += std::fabs(scores_[static_cast<size_t>(i)] - scores_[static_cast<size_t>(j)]);
  }
  if (seen == 0) return nullptr;
  forget_looks();
  nlohmann::ordered_json all{{"descriptor_quality", descriptor_quality(looks)}};
  if (shifts.empty()) return all;
  const auto found = static_cast<double>(shifts.size());
  const double mean = std::accumulate(shifts.begin(), shifts.end(), 0.0) / found;
  std::sort(shifts.begin(), shifts.end());
  all["rate"] = found / static_cast<double>(seen);
  all["shift"] = mean, all["shift_p90"] = shifts[static_cast<size_t>(0.9 * (found - 1))];
  all["strength"] = strength_.to(cpu_device).to(DType::F64).span<double>()[0];
  all["no_effect"] = mean < kNoEffect;
  if (partners.empty()) return all;
  all["partners"] = partners.size(), all["cosine"] = cosines / found,
  all["score_distance"] = distances / found;
  return all;
}

double PhotoMemory::descriptor_quality(const std::vector<float>& looks) const {
  constexpr int kPairs = 20000;
  std::vector<double> cosines, differences;
  Rng rng(seed_, "match pairs");
  for (int pair = 0; pair < kPairs; ++pair) {
    const auto i = rng.below(static_cast<uint32_t>(photos_)), j = rng.below(static_cast<uint32_t>(photos_));
    const float difference = std::fabs(looks[3 * i] - looks[3 * j]);
    if (i == j || std::isnan(difference)) continue;
    cosines.push_back(cosine(i, j)), differences.push_back(difference);
  }
  return cosines.size() < 2 ? 0 : plcc(cosines, differences).value_or(0);
}

NamedTensors PhotoMemory::state() const {
  NamedTensors all{{"match.z", z_},
                   {"match.looks", looks_},
                   {"match.strength", strength_},
                   {"match.strengths", strengths_},
                   {"match.shifts", shifts_}};
  if (mode_ == Mode::Gaussian) return all;
  all.insert(all.end(), {{"match.seen", seen_}, {"match.tokens", tokens_}, {"match.pooled", pooled_}});
  return all;
}

}  // namespace qfm
