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
#include "engine/base/prefetch.h"
#include "engine/base/sha256.h"
#include "train/image/decode.h"
#include "train/image/photo_files.h"
#include "train/predict/predict.h"

namespace qfm {
namespace {

using nlohmann::json, nlohmann::ordered_json;

struct Opinion {
  double quality = 0, spread = 0;
};

// The file of opinions of one teacher: read whole, then appended to by one write a line. Locked meanwhile:
// a second process waits, and then finds what the first one wrote.
class Cache {
 public:
  Cache(const std::string& path, const std::string& teacher) : path_(path), teacher_(teacher) {
    file_ = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    QFM_CHECK(file_ >= 0, path, ": ", std::strerror(errno));
    try {
      // Where a file system knows no locks, it goes on without.
      QFM_CHECK(::flock(file_, LOCK_EX) == 0 || errno != EINTR, path,
                ": interrupted while another process holds it");
      read();
    } catch (...) {
      ::close(file_);
      throw;
    }
  }
  ~Cache() { ::close(file_); }
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

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
    const std::string line =
        ordered_json{
            {"photo", photo}, {"teacher", teacher_}, {"quality", opinion.quality}, {"spread", opinion.spread}}
            .dump() +
        "\n";
    ssize_t n;
    do n = ::write(file_, line.data(), line.size());
    while (n < 0 && errno == EINTR);
    QFM_CHECK(n == static_cast<ssize_t>(line.size()), path_,
              ": cannot be written: ", n < 0 ? std::strerror(errno) : "the disk is full");
  }

 private:
  void read() {
    const auto bytes = read_file(path_);
    std::istringstream lines(std::string(bytes.begin(), bytes.end()));
    std::string line, whole;
    for (; std::getline(lines, line) && !lines.eof(); whole += line + "\n") take(line);
    if (whole.size() == bytes.size()) return;
    // A kill cut the last line short.
    QFM_CHECK(::ftruncate(file_, static_cast<off_t>(whole.size())) == 0, path_, ": ", std::strerror(errno));
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
  std::map<std::string, Opinion> known_;
  int file_ = -1;
};

struct Photo {
  std::string digest;
  Image image;  // empty where the opinion is known
  bool readable = true;
};

Photo read_photo(const std::string& path, const std::set<std::string>& known) {
  try {
    const auto bytes = read_file(path);
    Photo photo{sha256(bytes), {}, true};
    if (!known.count(photo.digest)) photo.image = decode_image(bytes, path);
    return photo;
  } catch (const Error&) {
    return {"", {}, false};
  }
}

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
  const auto count = static_cast<int64_t>(paths.size());

  const std::set<std::string> known = cache.photos();
  Prefetch<Photo> photos(0, count, options.workers, options.workers + 1,
                         [&](int64_t i) { return read_photo(paths[static_cast<size_t>(i)], known); });
  std::set<std::string> seen;
  PseudoLabels result;
  std::vector<PseudoLabel> all;
  std::vector<std::string> digests;
  std::vector<double> spreads;
  for (int64_t i = 0; i < count; ++i) {
    Photo photo = photos.next();
    if (options.progress) options.progress(i + 1, count);
    ++result.photos;
    if (!photo.readable) {
      ++result.unreadable;
      continue;
    }
    if (!seen.insert(photo.digest).second) continue;
    if (!cache.find(photo.digest)) {
      const Prediction p = predictor(std::move(photo.image));
      cache.add(photo.digest, {teacher.info.to_0_100(p.score), teacher.info.std_to_0_100(p.spread)});
    }
    const Opinion opinion = *cache.find(photo.digest);
    all.push_back({paths[static_cast<size_t>(i)], opinion.quality, opinion.spread});
    digests.push_back(photo.digest), spreads.push_back(opinion.spread);
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
  result.digest = sha256({reinterpret_cast<const unsigned char*>(text.data()), text.size()});
  return result;
}

double label_of(double quality, const Dataset& set, bool scaled) {
  const double value = set.higher_is_better ? quality : 100 - quality;
  return scaled ? value : set.unscaled(value);
}

}  // namespace qfm
