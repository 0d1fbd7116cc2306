#include "train/objectives/matching_memory.h"

#include <limits>
#include <numeric>
#include <utility>

#include "engine/base/rng.h"
#include "engine/dispatch.h"
#include "kernels/matching/noise.h"
#include "layers/noise.h"
#include "layers/pointwise.h"
#include "layers/reduce.h"
#include "layers/similarity.h"

namespace qfm {

MatchMode match_mode(std::string_view name) {
  if (name == "matched") return MatchMode::Matched;
  if (name == "random") return MatchMode::Random;
  if (name == "gaussian") return MatchMode::Gaussian;
  QFM_FAIL("'", name, "' is none of matched, random, gaussian");
}

MatchingMemory::MatchingMemory(const MatchOptions& options, int64_t batch, int64_t tokens, int64_t width,
                               DType compute, Device device, std::vector<int64_t> references)
    : options_(options),
      batch_(batch),
      tokens_(tokens),
      width_(width),
      compute_(compute),
      references_(std::move(references)),
      sums_(Tensor::zeros({4}, DType::F64, device)),
      num_enqueued_(Tensor::zeros({1}, DType::I64)) {
  const int64_t rows = remembers() ? options.batches * batch : 0;
  embeddings_ = Tensor::zeros({rows, width}, DType::F32, device);
  patches_ = Tensor::zeros({rows, tokens, width}, compute, device);
  score_ = Tensor::zeros({rows}), image_ = Tensor::zeros({rows}, DType::I64);
  reference_ = image_.clone(), age_ = image_.clone();
  if (remembers()) return;
  std::vector<int32_t> own(static_cast<size_t>(batch));
  std::iota(own.begin(), own.end(), 0);
  self_ = Tensor::from(own, {batch}).to(device);
}

int64_t MatchingMemory::filled() const {
  return std::min(num_enqueued_.span<int64_t>()[0], options_.batches) * batch_;
}

// ---- what the host knows and draws ----

namespace {

constexpr int64_t kStreamWords = sizeof(StreamName) / sizeof(int32_t);
static_assert(sizeof(StreamName) == kStreamWords * sizeof(int32_t));

template <class T>
void fill_from(const Tensor& to, const std::vector<T>& values) {
  std::copy(values.begin(), values.end(), to.data<T>());
}

}  // namespace

MatchBatch MatchingMemory::keys_of(const Batch& batch) const {
  MatchBatch keys;
  const auto labels = batch.labels.span<float>();
  for (size_t i = 0; i < batch.photos.size(); ++i) {
    const auto photo = static_cast<size_t>(batch.photos[i]);
    keys.score.push_back(labels[i] / 100);
    keys.image.push_back(batch.photos[i]);
    keys.reference.push_back(photo < references_.size() ? references_[photo] : -1);
    keys.sample.push_back(batch.samples[i]);
  }
  return keys;
}

void MatchingMemory::prepare(const Batch& batch, uint32_t epoch, HostInputs& inputs) const {
  prepare(keys_of(batch), epoch, inputs);
}

void MatchingMemory::prepare(const MatchBatch& batch, uint32_t epoch, HostInputs& inputs) const {
  QFM_CHECK(static_cast<int64_t>(batch.image.size()) == batch_, "matching: ", batch.image.size(),
            " images, expected ", batch_);
  inputs.add("match.score", Tensor::from(batch.score, {batch_}));
  inputs.add("match.strengths", draw_strengths(batch, epoch));
  if (!remembers()) return inputs.add("match.streams", name_streams(batch, epoch));
  inputs.add("match.image", Tensor::from(batch.image, {batch_}));
  inputs.add("match.reference", Tensor::from(batch.reference, {batch_}));
  const Tensor memory_score = score_.clone();
  for (float& unfilled : memory_score.span<float>().subspan(static_cast<size_t>(filled())))
    unfilled = std::numeric_limits<float>::quiet_NaN();
  inputs.add("match.memory_score", memory_score);
  inputs.add("match.memory_image", image_.clone());
  inputs.add("match.memory_reference", reference_.clone());
  inputs.add("match.memory_age", age_.clone());
  std::vector<int64_t> write_rows(static_cast<size_t>(batch_));
  std::iota(write_rows.begin(), write_rows.end(),
            num_enqueued_.span<int64_t>()[0] % options_.batches * batch_);
  inputs.add("match.write_rows", Tensor::from(write_rows, {batch_}));
  inputs.add("match.order", draw_orders(batch, epoch));
  if (options_.mode == MatchMode::Random) inputs.add("match.partner", draw_partners(batch, epoch));
}

// Any remembered photo but the same one or one of the same known reference, each equally likely; -1: none.
Tensor MatchingMemory::draw_partners(const MatchBatch& batch, uint32_t epoch) const {
  const Tensor partner({batch_}, DType::I32);
  const auto images = image_.span<int64_t>(), references = reference_.span<int64_t>();
  for (size_t i = 0; i < batch.image.size(); ++i) {
    std::vector<int32_t> candidates;
    for (int64_t at = 0; at < filled(); ++at) {
      const auto j = static_cast<size_t>(at);
      const bool same_scene = batch.reference[i] >= 0 && batch.reference[i] == references[j];
      if (images[j] != batch.image[i] && !same_scene) candidates.push_back(static_cast<int32_t>(at));
    }
    Rng rng(options_.seed, "match partner", epoch, batch.sample[i]);
    partner.span<int32_t>()[i] =
        candidates.empty() ? -1 : candidates[rng.below(static_cast<uint32_t>(candidates.size()))];
  }
  return partner;
}

// A permutation of the tokens for each row.
Tensor MatchingMemory::draw_orders(const MatchBatch& batch, uint32_t epoch) const {
  const Tensor order({batch_, tokens_}, DType::I32);
  const auto tokens = static_cast<size_t>(tokens_);
  for (size_t i = 0; i < batch.sample.size(); ++i) {
    const auto row = order.span<int32_t>().subspan(i * tokens, tokens);
    std::iota(row.begin(), row.end(), 0);
    Rng rng(options_.seed, "match order", epoch, batch.sample[i]);
    for (size_t left = row.size(); left > 1; --left)
      std::swap(row[left - 1], row[rng.below(static_cast<uint32_t>(left))]);
  }
  return order;
}

Tensor MatchingMemory::draw_strengths(const MatchBatch& batch, uint32_t epoch) const {
  const Tensor strengths({std::max<int64_t>(1, options_.num_candidates), batch_});
  for (size_t i = 0; i < batch.sample.size(); ++i) {
    Rng rng(options_.seed, "match strength", epoch, batch.sample[i]);
    for (int64_t trial = 0; trial < strengths.dim(0); ++trial) {
      const float a = static_cast<float>(options_.a_max) * rng.uniform();
      const bool negative = options_.num_candidates > 0 && rng.below(2) == 1;
      strengths.span<float>()[static_cast<size_t>(trial * batch_) + i] = negative ? -a : a;
    }
  }
  return strengths;
}

Tensor MatchingMemory::name_streams(const MatchBatch& batch, uint32_t epoch) const {
  const Tensor streams({batch_, kStreamWords}, DType::I32);
  auto* to = static_cast<StreamName*>(streams.raw());
  for (uint32_t sample : batch.sample) *to++ = Rng(options_.seed, "match normal", epoch, sample).name();
  return streams;
}

void MatchingMemory::enqueue(const MatchBatch& batch) {
  if (!remembers()) return;
  int64_t& num_enqueued = num_enqueued_.span<int64_t>()[0];
  const int64_t first = num_enqueued % options_.batches * batch_, end = first + batch_;
  fill_from(score_.rows(first, end), batch.score), fill_from(image_.rows(first, end), batch.image);
  fill_from(reference_.rows(first, end), batch.reference);
  const auto ages = age_.rows(first, end).span<int64_t>();
  std::iota(ages.begin(), ages.end(), num_enqueued * batch_);
  ++num_enqueued;
}

// ---- what the device does ----

namespace {

// The descriptor of each image: mean token, length 1. F32, whatever the features are.
Tensor descriptors(const Tensor& patches) {
  return l2norm(Var(mean(patches, {1}).value.to(DType::F32))).value;
}

}  // namespace

std::optional<SemanticNoise> MatchingMemory::match_and_enqueue(const Tensor& patches,
                                                               const HostInputs& in, bool searching) {
  QFM_CHECK((patches.shape() == Shape{batch_, tokens_, width_}), "matching: patches are ", patches.shape(),
            ", expected ", Shape{batch_, tokens_, width_});
  const NoGrad no_history;
  const Tensor embedding = remembers() ? descriptors(patches) : Tensor();
  std::optional<SemanticNoise> noise;
  if (searching) {
    const DType accumulation = acc_of(patches.dtype());
    const Tensor partner = find_partners(embedding, in);
    count(embedding, partner, in);
    noise.emplace();
    noise->tokens = remembers() ? gather_tokens(patches_, partner, in.at("match.order")) : normal_noise(in.at("match.streams"));
    noise->weight = match_weights(partner, accumulation);
    const Tensor& strengths = in.at("match.strengths");
    for (int64_t s = 0; s < strengths.dim(0); ++s)
      noise->strengths.push_back(strengths.rows(s, s + 1).reshape({batch_}).to(accumulation));
    noise->norm = image_norms(patches), noise->noise_norm = image_norms(noise->tokens);
  }
  if (remembers()) {
    put_rows(embeddings_, embedding, in.at("match.write_rows"));
    put_rows(patches_, patches, in.at("match.write_rows"));
  }
  return noise;
}

int64_t MatchingMemory::find(const Step& step, int64_t phase) {
  noise_ = match_and_enqueue(step.out.features.tokens.value, step.inputs, phase > 0);
  return noise_ ? static_cast<int64_t>(noise_->strengths.size()) : 0;
}

Perturbation MatchingMemory::candidate(const Tensor& which) const {
  Tensor strength = noise_->strengths[0];
  if (noise_->strengths.size() > 1) {
    strength = Tensor::zeros(strength.shape(), strength.dtype(), strength.device());
    for (size_t k = 0; k < noise_->strengths.size(); ++k)
      strength = map("strength", fn::Add{}, strength,
                     map("strength", fn::Multiply{}, noise_->strengths[k],
                         is_candidate(which, static_cast<int64_t>(k))));
  }
  return {noise_->tokens,
          {},
          noise_factor(strength, noise_->norm, noise_->noise_norm),
          noise_->weight,
          noise_->weight};
}

// (B) I32: rows of the memory, negative where there is none.
Tensor MatchingMemory::find_partners(const Tensor& embedding, const HostInputs& in) {
  switch (options_.mode) {
    case MatchMode::Matched:
      return search(embedding, in);
    case MatchMode::Random:
      return in.at("match.partner");
    case MatchMode::Gaussian:
      return self_;
  }
  QFM_FAIL("matching: no such mode");
}

Tensor MatchingMemory::search(const Tensor& embedding, const HostInputs& in) const {
  const Tensor partner({batch_}, DType::I32, embedding.device()), cosine({batch_}, DType::F32, embedding.device());
  const auto longs = [&](const char* name) { return in.at(name).data<int64_t>(); };
  const MatchKeys queries{embedding.data<float>(), in.at("match.score").data<float>(), longs("match.image"),
                          longs("match.reference"), nullptr, batch_};
  const MatchKeys memory{embeddings_.data<float>(),       in.at("match.memory_score").data<float>(),
                         longs("match.memory_image"),     longs("match.memory_reference"),
                         longs("match.memory_age"),       embeddings_.dim(0)};
  const auto pairs = static_cast<double>(embedding.dim(0) * embeddings_.dim(0));
  const Op cost{"nearest_match", 2 * pairs * static_cast<double>(width_),
                static_cast<double>(embedding.bytes() + embeddings_.bytes())};
  dispatch(cost, embedding, [&](auto dev, auto) {
    nearest_match(dev, ptr<int32_t>(partner), ptr<float>(cosine), queries, memory, width_, options_.rule);
  });
  return partner;
}

// (B, N, D)
Tensor MatchingMemory::normal_noise(const Tensor& streams) const {
  const Tensor noise({batch_, tokens_, width_}, compute_, streams.device());
  dispatch({"draw_normal", 0, static_cast<double>(noise.bytes())}, noise, [&](auto dev, auto t) {
    using T = decltype(t);
    draw_normal<T>(dev, ptr<T>(noise), static_cast<const StreamName*>(streams.raw()), batch_,
                   tokens_ * width_);
  });
  return noise;
}

// Drawn noise counts as found in the photo itself: no distance.
void MatchingMemory::count(const Tensor& embedding, const Tensor& partner, const HostInputs& in) {
  Tensor cosines;
  if (remembers()) {
    const Tensor first = Tensor::zeros({batch_, 1}, DType::I32, embedding.device());
    const Tensor of_partner = gather_tokens(embeddings_.reshape({embeddings_.dim(0), 1, width_}), partner, first);
    cosines = cosine(embedding, of_partner.reshape(embedding.shape())).value;
  } else {
    cosines = Tensor::zeros({batch_}, DType::F32, partner.device());
  }
  const Tensor& partner_score = in.at(remembers() ? "match.memory_score" : "match.score");
  dispatch({"match_sums"}, cosines, [&](auto dev, auto) {
    match_sums(dev, ptr<double>(sums_), ptr<const int32_t>(partner), ptr<const float>(cosines),
               ptr<const float>(in.at("match.score")), ptr<const float>(partner_score), batch_);
  });
}

std::optional<MatchStatistics> MatchingMemory::take_statistics() {
  const Tensor host = sums_.to(cpu_device);
  const auto sums = host.span<double>();
  const double searched = sums[0], found = sums[1];
  MatchStatistics result{found / std::max(1.0, searched), {}, {}};
  if (found > 0 && remembers()) result.score_distance = sums[2] / found, result.cosine = sums[3] / found;
  sums_.fill_zero();
  return searched > 0 ? std::optional(result) : std::nullopt;
}

nlohmann::ordered_json MatchingMemory::statistics() {
  const auto of_epoch = take_statistics();
  if (!of_epoch) return nullptr;
  const auto optional = [](const std::optional<double>& x) {
    return x ? nlohmann::ordered_json(*x) : nlohmann::ordered_json();
  };
  return {{"rate", of_epoch->rate},
          {"score_distance", optional(of_epoch->score_distance)},
          {"cosine", optional(of_epoch->cosine)}};
}

NamedTensors MatchingMemory::state() const {
  if (!remembers()) return {{"match.sums", sums_}};
  return {{"match.z", embeddings_},
          {"match.patches", patches_},
          {"match.score", score_},
          {"match.image", image_},
          {"match.reference", reference_},
          {"match.age", age_},
          {"match.pushes", num_enqueued_},
          {"match.sums", sums_}};
}

}  // namespace qfm
