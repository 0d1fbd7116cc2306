#include "train/matching.h"

#include <cmath>
#include <numeric>

#include "engine/base/rng.h"
#include "engine/base/threads.h"
#include "engine/dispatch.h"
#include "layers/noise.h"
#include "layers/similarity.h"
#include "layers/tokens.h"

namespace qfm {

MatchMode match_mode(std::string_view name) {
  if (name == "matched") return MatchMode::Matched;
  if (name == "random") return MatchMode::Random;
  if (name == "gaussian") return MatchMode::Gaussian;
  QFM_FAIL("'", name, "' is none of matched, random, gaussian");
}

MatchingMemory::MatchingMemory(const MatchOptions& options, int64_t batch, int64_t tokens, int64_t width,
                               DType compute, Device device)
    : options_(options),
      batch_(batch),
      pushes_(Tensor::zeros({1}, DType::I64)),
      sums_(Tensor::zeros({4}, DType::F64)) {
  const int64_t rows = options.mode == MatchMode::Gaussian ? 0 : options.batches * batch;
  z_ = Tensor::zeros({rows, width}, DType::F32, device);
  patches_ = Tensor::zeros({rows, tokens, width}, compute, device);
  score_ = Tensor::zeros({rows}), image_ = Tensor::zeros({rows}, DType::I64);
  reference_ = image_.clone(), age_ = image_.clone();
}

int64_t MatchingMemory::filled() const {
  return std::min(pushes_.span<int64_t>()[0], options_.batches) * batch_;
}

namespace {

// The descriptor of each image: mean token, length 1. F32, whatever the features are.
Tensor descriptors(const Tensor& patches) {
  return l2norm(Var(mean_tokens(patches).value.to(DType::F32))).value;
}

Tensor on_device(const std::vector<int32_t>& values, const Shape& shape, Device device) {
  return Tensor::from(values, shape).to(device);
}

}  // namespace

std::optional<SemanticNoise> MatchingMemory::exchange(const Tensor& patches, const MatchBatch& batch,
                                                      uint32_t epoch) {
  QFM_CHECK(patches.dim(0) == batch_ && static_cast<int64_t>(batch.image.size()) == batch_,
            "matching: ", patches.dim(0), " images, expected ", batch_);
  const NoGrad no_history;
  const bool remembers = options_.mode != MatchMode::Gaussian;
  const Tensor z = remembers ? descriptors(patches) : Tensor();
  std::optional<SemanticNoise> noise;
  if (epoch > 0) {
    const Tensor partner = find_partners(z, batch, epoch);
    noise.emplace();
    noise->tokens = remembers
                        ? gather_tokens(patches_, partner, draw_orders(batch, epoch).to(patches.device()))
                        : draw_normal(batch, epoch).to(patches.dtype()).to(patches.device());
    noise->weight = match_weights(partner, acc_of(patches.dtype()));
    noise->strengths = draw_strengths(batch, epoch);
    for (Tensor& a : noise->strengths) a = a.to(acc_of(patches.dtype())).to(patches.device());
    noise->size = image_norms(patches), noise->noise_size = image_norms(noise->tokens);
  }
  if (remembers) push(patches, z, batch);
  return noise;
}

// (B) I32 on the device: rows of the memory, negative where there is none. Counts what was found.
Tensor MatchingMemory::find_partners(const Tensor& z, const MatchBatch& batch, uint32_t epoch) {
  if (options_.mode == MatchMode::Gaussian) {
    sums_.span<double>()[0] += static_cast<double>(batch_),
        sums_.span<double>()[1] += static_cast<double>(batch_);
    return on_device(std::vector<int32_t>(batch.image.size(), 0), {batch_}, patches_.device());
  }
  const Tensor partner = options_.mode == MatchMode::Matched ? search(z, batch) : draw_partners(batch, epoch);
  count(z, partner, batch);
  return partner;
}

Tensor MatchingMemory::search(const Tensor& z, const MatchBatch& batch) const {
  const Device device = z.device();
  const auto there = [&](const Tensor& x) { return x.to(device); };
  const Tensor score = there(Tensor::from(batch.score, {batch_})),
               image = there(Tensor::from(batch.image, {batch_}));
  const Tensor reference = there(Tensor::from(batch.reference, {batch_}));
  const Tensor memory_score = there(score_), memory_image = there(image_),
               memory_reference = there(reference_), memory_age = there(age_);
  const Tensor partner({batch_}, DType::I32, device), cosine({batch_}, DType::F32, device);
  const MatchKeys queries{
      z.data<float>(), score.data<float>(), image.data<int64_t>(), reference.data<int64_t>(), nullptr,
      batch_};
  const MatchKeys memory{z_.data<float>(),
                         memory_score.data<float>(),
                         memory_image.data<int64_t>(),
                         memory_reference.data<int64_t>(),
                         memory_age.data<int64_t>(),
                         filled()};
  dispatch({"nearest_match"}, z, [&](auto dev, auto) {
    nearest_match(dev, ptr<int32_t>(partner), ptr<float>(cosine), queries, memory, z.dim(1), options_.rule);
  });
  return partner;
}

// Any remembered photo but the same one or one of the same known reference, each equally likely.
Tensor MatchingMemory::draw_partners(const MatchBatch& batch, uint32_t epoch) const {
  std::vector<int32_t> partner;
  const auto images = image_.span<int64_t>(), references = reference_.span<int64_t>();
  for (size_t i = 0; i < batch.image.size(); ++i) {
    std::vector<int32_t> candidates;
    for (int64_t at = 0; at < filled(); ++at) {
      const auto j = static_cast<size_t>(at);
      const bool same_scene = batch.reference[i] >= 0 && batch.reference[i] == references[j];
      if (images[j] != batch.image[i] && !same_scene) candidates.push_back(static_cast<int32_t>(at));
    }
    Rng rng(options_.seed, "match partner", epoch, batch.sample[i]);
    partner.push_back(candidates.empty() ? -1
                                         : candidates[rng.below(static_cast<uint32_t>(candidates.size()))]);
  }
  return on_device(partner, {batch_}, patches_.device());
}

// (B, N) I32: a permutation of the tokens for each row.
Tensor MatchingMemory::draw_orders(const MatchBatch& batch, uint32_t epoch) const {
  const int64_t tokens = patches_.dim(1);
  const Tensor order({batch_, tokens}, DType::I32);
  for (size_t i = 0; i < batch.sample.size(); ++i) {
    const auto row =
        order.span<int32_t>().subspan(i * static_cast<size_t>(tokens), static_cast<size_t>(tokens));
    std::iota(row.begin(), row.end(), 0);
    Rng rng(options_.seed, "match order", epoch, batch.sample[i]);
    for (size_t left = row.size(); left > 1; --left)
      std::swap(row[left - 1], row[rng.below(static_cast<uint32_t>(left))]);
  }
  return order;
}

Tensor MatchingMemory::draw_normal(const MatchBatch& batch, uint32_t epoch) const {
  const int64_t inner = patches_.dim(1) * patches_.dim(2);
  const Tensor noise({batch_, patches_.dim(1), patches_.dim(2)});
  parallel_for(batch_, [&](int64_t b) {
    Rng rng(options_.seed, "match normal", epoch, batch.sample[static_cast<size_t>(b)]);
    float* row = noise.data<float>() + b * inner;
    for (int64_t i = 0; i < inner; ++i) row[i] = rng.normal();
  });
  return noise;
}

std::vector<Tensor> MatchingMemory::draw_strengths(const MatchBatch& batch, uint32_t epoch) const {
  std::vector<Tensor> strengths;
  for (int64_t s = 0; s < std::max<int64_t>(1, options_.trials); ++s) strengths.emplace_back(Shape{batch_});
  for (size_t i = 0; i < batch.sample.size(); ++i) {
    Rng rng(options_.seed, "match strength", epoch, batch.sample[i]);
    for (const Tensor& trial : strengths) {
      const float a = static_cast<float>(options_.a_max) * rng.uniform();
      const bool negative = options_.trials > 0 && rng.below(2) == 1;
      trial.span<float>()[i] = negative ? -a : a;
    }
  }
  return strengths;
}

void MatchingMemory::count(const Tensor& z, const Tensor& partner, const MatchBatch& batch) {
  const Tensor first = Tensor::zeros({batch_, 1}, DType::I32, z.device());
  const Tensor partner_z = gather_tokens(z_.reshape({z_.dim(0), 1, z_.dim(1)}), partner, first);
  const Tensor cosines = cosine(z, partner_z.reshape(z.shape())).value.to(cpu_device);
  const Tensor found = partner.to(cpu_device);
  const auto sums = sums_.span<double>();
  for (size_t i = 0; i < batch.score.size(); ++i) {
    sums[0] += 1;
    const int32_t j = found.span<int32_t>()[i];
    if (j < 0) continue;
    sums[1] += 1;
    sums[2] += std::fabs(batch.score[i] - score_.span<float>()[static_cast<size_t>(j)]);
    sums[3] += cosines.span<float>()[i];
  }
}

void MatchingMemory::push(const Tensor& patches, const Tensor& z, const MatchBatch& batch) {
  int64_t& pushes = pushes_.span<int64_t>()[0];
  const int64_t begin = pushes % options_.batches * batch_;
  patches_.rows(begin, begin + batch_).copy_from(patches);
  z_.rows(begin, begin + batch_).copy_from(z);
  for (int64_t i = 0; i < batch_; ++i) {
    const auto from = static_cast<size_t>(i), to = static_cast<size_t>(begin + i);
    score_.span<float>()[to] = batch.score[from];
    image_.span<int64_t>()[to] = batch.image[from];
    reference_.span<int64_t>()[to] = batch.reference[from];
    age_.span<int64_t>()[to] = pushes * batch_ + i;
  }
  ++pushes;
}

std::optional<MatchStatistics> MatchingMemory::take_statistics() {
  const auto sums = sums_.span<double>();
  const double searched = sums[0], found = sums[1], pairs = std::max(1.0, found);
  const MatchStatistics result{found / std::max(1.0, searched), sums[2] / pairs, sums[3] / pairs};
  sums_.fill_zero();
  return searched > 0 ? std::optional(result) : std::nullopt;
}

NamedTensors MatchingMemory::state() const {
  if (options_.mode == MatchMode::Gaussian) return {{"match.sums", sums_}};
  return {{"match.z", z_},
          {"match.patches", patches_},
          {"match.score", score_},
          {"match.image", image_},
          {"match.reference", reference_},
          {"match.age", age_},
          {"match.pushes", pushes_},
          {"match.sums", sums_}};
}

}  // namespace qfm
