#include "train/objectives/matching.h"

#include <limits>
#include <numeric>
#include <utility>

#include "engine/base/rng.h"
#include "engine/dispatch.h"
#include "kernels/matching/noise.h"
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
      tokens_(tokens),
      width_(width),
      compute_(compute),
      sums_(Tensor::zeros({4}, DType::F64, device)),
      pushes_(Tensor::zeros({1}, DType::I64)) {
  const int64_t rows = remembers() ? options.batches * batch : 0;
  z_ = Tensor::zeros({rows, width}, DType::F32, device);
  patches_ = Tensor::zeros({rows, tokens, width}, compute, device);
  score_ = Tensor::zeros({rows}), image_ = Tensor::zeros({rows}, DType::I64);
  reference_ = image_.clone(), age_ = image_.clone();
  if (remembers()) return;
  std::vector<int32_t> own(static_cast<size_t>(batch));
  std::iota(own.begin(), own.end(), 0);
  self_ = Tensor::from(own, {batch}).to(device);
}

int64_t MatchingMemory::filled() const {
  return std::min(pushes_.span<int64_t>()[0], options_.batches) * batch_;
}

// ---- what the host knows and draws
// ------------------------------------------------------------------------------------------------------

namespace {

constexpr int64_t kStreamWords = sizeof(StreamName) / sizeof(int32_t);
static_assert(sizeof(StreamName) == kStreamWords * sizeof(int32_t));

// Consecutive pieces of a flat tensor.
class Pieces {
 public:
  explicit Pieces(const Tensor& flat) : flat_(flat) {}
  Tensor next(const Shape& shape) {
    const int64_t begin = std::exchange(at_, at_ + shape.numel());
    return flat_.rows(begin, at_).reshape(shape);
  }

 private:
  const Tensor& flat_;
  int64_t at_ = 0;
};

template <class T>
void fill_from(const Tensor& to, const std::vector<T>& values) {
  std::copy(values.begin(), values.end(), to.data<T>());
}

}  // namespace

MatchingMemory::Views MatchingMemory::views(const MatchInputs& inputs) const {
  const int64_t b = batch_, m = score_.numel();
  Pieces reals(inputs.reals), numbers(inputs.numbers), words(inputs.words);
  Views v;
  v.score = reals.next({b}), v.memory_score = reals.next({m});
  v.strengths = reals.next({std::max<int64_t>(1, options_.num_candidates), b});
  v.image = numbers.next({b}), v.reference = numbers.next({b});
  v.memory_image = numbers.next({m}), v.memory_reference = numbers.next({m}),
  v.memory_age = numbers.next({m});
  v.first = numbers.next({1});
  v.partner = words.next({options_.mode == MatchMode::Random ? b : 0});
  v.order = words.next({remembers() ? b : 0, tokens_});
  v.streams = words.next({remembers() ? 0 : b, kStreamWords});
  return v;
}

MatchInputs MatchingMemory::inputs(const MatchBatch& batch, uint32_t epoch) const {
  QFM_CHECK(static_cast<int64_t>(batch.image.size()) == batch_, "matching: ", batch.image.size(),
            " images, expected ", batch_);
  const int64_t b = batch_, m = score_.numel(),
                num_candidates = std::max<int64_t>(1, options_.num_candidates);
  const int64_t partners = options_.mode == MatchMode::Random ? b : 0;
  const MatchInputs made{Tensor({b + m + num_candidates * b}), Tensor({2 * b + 3 * m + 1}, DType::I64),
                         Tensor({remembers() ? partners + b * tokens_ : b * kStreamWords}, DType::I32)};
  const Views to = views(made);
  fill_from(to.score, batch.score), fill_from(to.image, batch.image),
      fill_from(to.reference, batch.reference);
  to.memory_score.copy_from(score_), to.memory_image.copy_from(image_);
  to.memory_reference.copy_from(reference_), to.memory_age.copy_from(age_);
  for (float& unfilled :
       to.memory_score.span<float>().subspan(static_cast<size_t>(remembers() ? filled() : 0)))
    unfilled = std::numeric_limits<float>::quiet_NaN();
  to.first.span<int64_t>()[0] = pushes_.span<int64_t>()[0] % options_.batches * batch_;
  draw_strengths(to.strengths, batch, epoch);
  if (options_.mode == MatchMode::Random) draw_partners(to.partner, batch, epoch);
  if (remembers()) draw_orders(to.order, batch, epoch);
  else name_streams(to.streams, batch, epoch);
  return made;
}

// Any remembered photo but the same one or one of the same known reference, each equally likely; -1: none.
void MatchingMemory::draw_partners(const Tensor& partner, const MatchBatch& batch, uint32_t epoch) const {
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
}

// A permutation of the tokens for each row.
void MatchingMemory::draw_orders(const Tensor& order, const MatchBatch& batch, uint32_t epoch) const {
  const auto tokens = static_cast<size_t>(tokens_);
  for (size_t i = 0; i < batch.sample.size(); ++i) {
    const auto row = order.span<int32_t>().subspan(i * tokens, tokens);
    std::iota(row.begin(), row.end(), 0);
    Rng rng(options_.seed, "match order", epoch, batch.sample[i]);
    for (size_t left = row.size(); left > 1; --left)
      std::swap(row[left - 1], row[rng.below(static_cast<uint32_t>(left))]);
  }
}

void MatchingMemory::draw_strengths(const Tensor& strengths, const MatchBatch& batch, uint32_t epoch) const {
  for (size_t i = 0; i < batch.sample.size(); ++i) {
    Rng rng(options_.seed, "match strength", epoch, batch.sample[i]);
    for (int64_t trial = 0; trial < strengths.dim(0); ++trial) {
      const float a = static_cast<float>(options_.a_max) * rng.uniform();
      const bool negative = options_.num_candidates > 0 && rng.below(2) == 1;
      strengths.span<float>()[static_cast<size_t>(trial * batch_) + i] = negative ? -a : a;
    }
  }
}

void MatchingMemory::name_streams(const Tensor& streams, const MatchBatch& batch, uint32_t epoch) const {
  auto* to = static_cast<StreamName*>(streams.raw());
  for (uint32_t sample : batch.sample) *to++ = Rng(options_.seed, "match normal", epoch, sample).name();
}

void MatchingMemory::enqueue(const MatchBatch& batch) {
  if (!remembers()) return;
  int64_t& num_enqueued = pushes_.span<int64_t>()[0];
  const int64_t first = num_enqueued % options_.batches * batch_, end = first + batch_;
  fill_from(score_.rows(first, end), batch.score), fill_from(image_.rows(first, end), batch.image);
  fill_from(reference_.rows(first, end), batch.reference);
  const auto ages = age_.rows(first, end).span<int64_t>();
  std::iota(ages.begin(), ages.end(), num_enqueued * batch_);
  ++num_enqueued;
}

// ---- what the device does
// ------------------------------------------------------------------------------------------------------

namespace {

// The descriptor of each image: mean token, length 1. F32, whatever the features are.
Tensor descriptors(const Tensor& patches) {
  return l2norm(Var(mean_tokens(patches).value.to(DType::F32))).value;
}

// x to the rows of y from first[0] on.
void put_rows(const Tensor& y, const Tensor& x, const Tensor& first) {
  const int64_t rows = x.dim(0), cols = x.numel() / std::max<int64_t>(1, rows);
  dispatch({"put_rows", 0, 2.0 * static_cast<double>(x.bytes())}, x, [&](auto dev, auto t) {
    using T = decltype(t);
    put_rows<T>(dev, ptr<T>(y), ptr<const T>(x), ptr<const int64_t>(first), rows, cols);
  });
}

}  // namespace

std::optional<SemanticNoise> MatchingMemory::match_and_enqueue(const Tensor& patches,
                                                               const MatchInputs& inputs, bool searching) {
  QFM_CHECK((patches.shape() == Shape{batch_, tokens_, width_}), "matching: patches are ", patches.shape(),
            ", expected ", Shape{batch_, tokens_, width_});
  const NoGrad no_history;
  const Views in = views(inputs);
  const Tensor z = remembers() ? descriptors(patches) : Tensor();
  std::optional<SemanticNoise> noise;
  if (searching) {
    const DType accumulation = acc_of(patches.dtype());
    const Tensor partner = find_partners(z, in);
    count(z, partner, in);
    noise.emplace();
    noise->tokens = remembers() ? gather_tokens(patches_, partner, in.order) : normal_noise(in);
    noise->weight = match_weights(partner, accumulation);
    for (int64_t s = 0; s < in.strengths.dim(0); ++s)
      noise->strengths.push_back(in.strengths.rows(s, s + 1).reshape({batch_}).to(accumulation));
    noise->size = image_norms(patches), noise->noise_norm = image_norms(noise->tokens);
  }
  if (remembers()) put_rows(z_, z, in.first), put_rows(patches_, patches, in.first);
  return noise;
}

// (B) I32: rows of the memory, negative where there is none.
Tensor MatchingMemory::find_partners(const Tensor& z, const Views& in) {
  switch (options_.mode) {
    case MatchMode::Matched:
      return search(z, in);
    case MatchMode::Random:
      return in.partner;
    case MatchMode::Gaussian:
      return self_;
  }
  QFM_FAIL("matching: no such mode");
}

Tensor MatchingMemory::search(const Tensor& z, const Views& in) const {
  const Tensor partner({batch_}, DType::I32, z.device()), cosine({batch_}, DType::F32, z.device());
  const MatchKeys queries{z.data<float>(),
                          in.score.data<float>(),
                          in.image.data<int64_t>(),
                          in.reference.data<int64_t>(),
                          nullptr,
                          batch_};
  const MatchKeys memory{z_.data<float>(),
                         in.memory_score.data<float>(),
                         in.memory_image.data<int64_t>(),
                         in.memory_reference.data<int64_t>(),
                         in.memory_age.data<int64_t>(),
                         z_.dim(0)};
  const auto pairs = static_cast<double>(z.dim(0) * z_.dim(0));
  const Op cost{"nearest_match", 2 * pairs * static_cast<double>(width_),
                static_cast<double>(z.bytes() + z_.bytes())};
  dispatch(cost, z, [&](auto dev, auto) {
    nearest_match(dev, ptr<int32_t>(partner), ptr<float>(cosine), queries, memory, width_, options_.rule);
  });
  return partner;
}

// (B, N, D)
Tensor MatchingMemory::normal_noise(const Views& in) const {
  const Tensor noise({batch_, tokens_, width_}, compute_, in.streams.device());
  dispatch({"draw_normal", 0, static_cast<double>(noise.bytes())}, noise, [&](auto dev, auto t) {
    using T = decltype(t);
    draw_normal<T>(dev, ptr<T>(noise), static_cast<const StreamName*>(in.streams.raw()), batch_,
                   tokens_ * width_);
  });
  return noise;
}

// Drawn noise counts as found in the photo itself: no distance.
void MatchingMemory::count(const Tensor& z, const Tensor& partner, const Views& in) {
  Tensor cosines;
  if (remembers()) {
    const Tensor first = Tensor::zeros({batch_, 1}, DType::I32, z.device());
    const Tensor partner_z = gather_tokens(z_.reshape({z_.dim(0), 1, width_}), partner, first);
    cosines = cosine(z, partner_z.reshape(z.shape())).value;
  } else {
    cosines = Tensor::zeros({batch_}, DType::F32, partner.device());
  }
  const Tensor& partner_score = remembers() ? in.memory_score : in.score;
  dispatch({"match_sums"}, cosines, [&](auto dev, auto) {
    match_sums(dev, ptr<double>(sums_), ptr<const int32_t>(partner), ptr<const float>(cosines),
               ptr<const float>(in.score), ptr<const float>(partner_score), batch_);
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

NamedTensors MatchingMemory::state() const {
  if (!remembers()) return {{"match.sums", sums_}};
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
