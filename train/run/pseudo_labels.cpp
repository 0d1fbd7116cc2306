#include "train/run/pseudo_labels.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <sstream>

#include "engine/base/io.h"
#include "engine/base/sha256.h"
#include "train/image/photo_files.h"
#include "train/image/photo_stream.h"
#include "train/predict/predict.h"

namespace qfm {
namespace {

using nlohmann::json, nlohmann::ordered_json;

struct Opinion {
  double quality = 0, spread = 0;
};

// The file of one teacher's predictions: read whole, then appended to by one write a line. Locked meanwhile:
// a second process waits, and then finds what the first one wrote.
class Cache {
 public:
  Cache(const std::string& path, const std::string& teacher)
      : path_(path),
        teacher_(teacher),
        file_(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644)) {
    QFM_CHECK(file_.get() >= 0, path, ": ", std::strerror(errno));
    // Where a file system knows no locks, it goes on without.
    QFM_CHECK(::flock(file_.get(), LOCK_EX) == 0 || errno != EINTR, path,
              ": interrupted while another process holds it");
    read();
  }

  std::set<std::string> photos() const {
    std::set<std::string> all;
    for (const auto& [photo, opinion] : known_) all.insert(photo);
    return all;
  }
  std::optional<Opinion> find(const std::string& photo) const {
    const auto it = known_.find(photo);
    return it == known_.end() ? std::nullopt : std::optional(it->second);
  }
  void add(const std::string& photo, const Opinion& opinion) {
    known_[photo] = opinion;
    const ordered_json line{
        {"photo", photo}, {"teacher", teacher_}, {"quality", opinion.quality}, {"spread", opinion.spread}};
    write_all(file_, line.dump() + "\n", path_);
  }

 private:
  void read() {
    const auto bytes = read_file(path_);
    std::istringstream lines(std::string(bytes.begin(), bytes.end()));
    std::string line, whole;
    for (; std::getline(lines, line) && !lines.eof(); whole += line + "\n") take(line);
    if (whole.size() == bytes.size()) return;
    // A kill cut the last line short.
    QFM_CHECK(::ftruncate(file_.get(), static_cast<off_t>(whole.size())) == 0, path_, ": ",
              std::strerror(errno));
  }
  void take(const std::string& line) {
    try {
      const json entry = json::parse(line);
      if (entry.at("teacher") == teacher_)
        known_[entry.at("photo").get<std::string>()] = {entry.at("quality"), entry.at("spread")};
    } catch (const json::exception&) {
      QFM_FAIL(path_, ": not a cache of pseudo-labels: '", line.substr(0, 40), "'");
    }
  }

  const std::string path_, teacher_;
  const FileDescriptor file_;
  std::map<std::string, Opinion> known_;
};

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(std::ceil(q * static_cast<double>(values.size() - 1)))];
}

}  // namespace

PseudoLabels pseudo_labels(const PseudoLabelOptions& options) {
  const auto paths = photos_in(options.folder, true);
  const LoadedModel teacher = load_model(options.teacher, options.device, DType::F32, false);
  const Predictor predictor(*teacher.model, teacher.info);
  Cache cache(options.cache, sha256_of_file(options.teacher));
  const std::set<std::string> known = cache.photos();
  std::vector<std::string> contents(paths.size());  // SHA-256 of each file
  PhotoStream photos(paths, {.workers = options.workers, .on_file = [&](int64_t i, auto file) {
                               return !known.count(contents[static_cast<size_t>(i)] = sha256(file));
                             }});
  std::set<std::string> seen;
  PseudoLabels result;
  std::vector<PseudoLabel> all;
  std::vector<std::string> digests;
  std::vector<double> spreads;
  result.photos = static_cast<int64_t>(paths.size());
  for (size_t i = 0; i < paths.size(); ++i) {
    DecodeResult photo = photos.next();
    if (options.progress) options.progress(static_cast<int64_t>(i + 1), result.photos);
    if (!photo.error.empty()) {
      ++result.unreadable;
      continue;
    }
    const std::string& content = contents[i];
    if (!seen.insert(content).second) continue;
    if (!cache.find(content)) {
      const Prediction p = predictor(std::move(photo.image));
      cache.add(content, {teacher.info.to_0_100(p.score), teacher.info.std_to_0_100(p.spread)});
    }
    const Opinion opinion = *cache.find(content);
    all.push_back({paths[i], opinion.quality, opinion.spread});
    digests.push_back(content), spreads.push_back(opinion.spread);
  }
  QFM_CHECK(!all.empty(), options.folder, ": no readable photo in this folder");
  result.spread_limit = quantile(spreads, options.spread_quantile);
  std::string text;
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].spread > result.spread_limit) {
      ++result.dropped;
      continue;
    }
    text += concat(digests[i], " ", json(all[i].quality).dump(), "\n");
    result.kept.push_back(std::move(all[i]));
  }
  result.digest = sha256(text);
  return result;
}

double label_of(double quality, const Dataset& set, bool scaled) {
  const double value = set.higher_is_better ? quality : 100 - quality;
  return scaled ? value : set.unscaled(value);
}

}  // namespace qfm
