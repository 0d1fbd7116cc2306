#include "train/predict/evaluate.h"

#include "engine/base/prefetch.h"

namespace qfm {
namespace {

struct Decoded {
  Image photo;
  std::string error;
};

Decoded try_decode(const std::string& path, const DecodeOptions& options) {
  try {
    return {decode_image(path, options), ""};
  } catch (const OutOfMemory&) {
    throw;
  } catch (const Error& error) {
    return {{}, error.what()};
  }
}

}  // namespace

std::vector<PhotoResult> predict_photos(const Predictor& predictor, const std::vector<std::string>& paths,
                                        const EvaluateOptions& options) {
  const auto count = static_cast<int64_t>(paths.size());
  Prefetch<Decoded> photos(0, count, options.workers, options.workers + 1, [&](int64_t i) {
    return try_decode(paths[static_cast<size_t>(i)], options.decode);
  });
  std::vector<PhotoResult> results;
  while (!photos.done()) {
    Decoded decoded = photos.next();
    if (decoded.error.empty()) results.push_back({predictor(std::move(decoded.photo)), ""});
    else results.push_back({std::nullopt, decoded.error});
    if (options.progress && !options.progress(static_cast<int64_t>(results.size()))) break;
  }
  return results;
}

std::optional<Agreement> agreement_with(const std::vector<PhotoResult>& results,
                                        const std::vector<double>& labels, uint64_t seed) {
  std::vector<double> predicted, wanted;
  for (size_t i = 0; i < results.size(); ++i) {
    if (!results[i].prediction) continue;
    predicted.push_back(results[i].prediction->score);
    wanted.push_back(labels[i]);
  }
  if (predicted.size() < 3) return std::nullopt;
  return agreement(predicted, wanted, seed);
}

}  // namespace qfm
