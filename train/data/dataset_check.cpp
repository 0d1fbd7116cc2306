#include "train/data/dataset_check.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "engine/base/error.h"
#include "engine/base/io.h"
#include "train/data/csv.h"
#include "train/image/near_duplicate.h"
#include "train/image/photo_stream.h"

namespace qfm {
namespace {

using Verdict = Finding::Verdict;

// What is kept of a photo.
struct PhotoScan {
  std::string error;  // without the path
  int width = 0, height = 0;
  uint64_t content = 0;  // a hash of the file's bytes
  size_t bytes = 0;
  PerceptualHash look;
};

// Eight bytes a step: hashing must not slow down decoding. Equal hashes are confirmed byte by byte.
uint64_t content_hash(std::span<const uint8_t> bytes) {
  uint64_t hash = bytes.size();
  for (size_t i = 0; i < bytes.size(); i += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i, std::min<size_t>(8, bytes.size() - i));
    hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 32;
  }
  return hash;
}

std::vector<PhotoScan> scan_all(const Dataset& set, const DatasetCheckOptions& options) {
  std::vector<std::string> paths;
  for (const Sample& sample : set.samples) paths.push_back(sample.path);
  std::vector<PhotoScan> seen(paths.size());
  PhotoStreamOptions how{.workers = options.workers};
  how.on_file = [&](int64_t i, std::span<const uint8_t> file) {
    PhotoScan& photo = seen[static_cast<size_t>(i)];
    photo.content = content_hash(file), photo.bytes = file.size();
    return true;
  };
  how.on_image = [&](int64_t i, Image& image) {
    PhotoScan& photo = seen[static_cast<size_t>(i)];
    photo.width = image.width, photo.height = image.height, photo.look = perceptual_hash(image);
    image = {};
  };
  PhotoStream photos(paths, how);
  for (size_t i = 0; i < seen.size(); ++i) {
    seen[i].error = photos.next().error;
    if (options.progress) options.progress(static_cast<int64_t>(i + 1));
  }
  return seen;
}

std::string plural(size_t n, const std::string& one) { return concat(n, " ", one, n == 1 ? "" : "s"); }

// ---- the table ----

Finding rows(const Dataset& set, const std::vector<RowProblem>& problems) {
  Finding finding{"rows", Verdict::Fine, concat(plural(set.samples.size(), "row"), ", all usable")};
  for (const auto& problem : problems)
    if (!problem.missing_file)
      finding.items.push_back(
          concat(problem.table, ": row ", problem.row, " (", shown(problem.image), "): ", problem.reason));
  const size_t missing = problems.size() - finding.items.size();
  if (missing > 0)
    finding.text = concat(plural(set.samples.size(), "row"), " usable, ", missing, " without a file");
  if (!finding.items.empty()) finding.text = concat(plural(finding.items.size(), "row"), " cannot be used");
  if (set.samples.size() < 3) finding.text += ", at least 3 photos are needed";
  if (!finding.items.empty() || set.samples.size() < 3) finding.verdict = Verdict::Wrong;
  return finding;
}

Finding count(const std::string& about, size_t found, const Dataset& set, int64_t published) {
  if (!set.published) return {about, Verdict::Fine, concat(found)};
  const bool equal = static_cast<int64_t>(found) == published;
  return {about, equal ? Verdict::Fine : Verdict::Wrong,
          equal ? concat(found, ", as published") : concat(found, " of ", published, " as published")};
}

Finding references(const Dataset& set) {
  std::set<std::string> names;
  for (const auto& sample : set.samples)
    if (!sample.reference.empty()) names.insert(sample.reference);
  Finding finding = count("references", names.size(), set, set.published ? set.published->references : 0);
  if (finding.verdict == Verdict::Fine && names.empty())
    finding.text = "none: every photo is a scene of its own";
  return finding;
}

Finding labels(const Dataset& set) {
  if (set.samples.empty()) return {"labels", Verdict::Wrong, "none"};
  const auto [least, most] =
      std::minmax_element(set.samples.begin(), set.samples.end(),
                          [](const Sample& a, const Sample& b) { return a.score < b.score; });
  const double low = least->score, high = most->score, width = set.range.high - set.range.low;
  Finding finding{"labels", Verdict::Fine, concat(low, " .. ", high)};
  if (low == high) return {"labels", Verdict::Wrong, concat("all are ", low)};
  if (set.range_observed) {
    finding.text += ", range not declared (--scale LO:HI)";
    return finding;
  }
  finding.text += concat(", declared ", set.range.low, " .. ", set.range.high);
  const double slack = 0.01 * width;  // published ranges are rounded
  for (const auto& sample : set.samples)
    if (sample.score < set.range.low - slack || sample.score > set.range.high + slack)
      finding.items.push_back(concat(shown(sample.name), ": ", sample.score));
  const bool complete = set.published && static_cast<int64_t>(set.samples.size()) == set.published->photos;
  const bool narrow = low > set.range.low + slack || high < set.range.high - slack;
  if (!finding.items.empty()) finding.text += concat(": ", plural(finding.items.size(), "label"), " outside");
  else if (complete && narrow) finding.text += ": the ends of the range do not occur";
  if (!finding.items.empty() || (complete && narrow)) finding.verdict = Verdict::Wrong;
  return finding;
}

// The level of distortion that names of these sets end in: i01_07_5.bmp, I01_07_05.png, x.BLUR.5.png; else 0.
int level_of(const Dataset& set, const std::string& name) {
  const std::string_view known = set.published ? set.published->name : "";
  if (known != "tid2013" && known != "kadid10k" && known != "csiq") return 0;
  const std::string stem = name.substr(0, name.rfind('.'));
  const char digit = stem.empty() ? '0' : stem.back();
  return digit >= '1' && digit <= '5' ? digit - '0' : 0;
}

Finding direction(const Dataset& set) {
  double sum[6] = {}, number[6] = {};
  for (const auto& sample : set.samples) {
    const auto level = static_cast<size_t>(level_of(set, sample.name));
    sum[level] += sample.score, ++number[level];
  }
  Finding finding{"direction", Verdict::Fine, set.higher_is_better ? "higher is better" : "lower is better"};
  if (number[1] == 0 || number[5] == 0) {
    finding.text += set.published ? ", as published" : ", as declared (--lower-is-better turns it)";
    return finding;
  }
  const double weak = sum[1] / number[1], strong = sum[5] / number[5];
  const bool agrees = (weak > strong) == set.higher_is_better;
  finding.text +=
      concat(agrees ? ", as the levels of distortion say" : ", but the levels of distortion contradict",
             " (mean label ", weak, " at level 1, ", strong, " at level 5)");
  if (!agrees) finding.verdict = Verdict::Wrong;
  return finding;
}

// ---- the photos ----

Finding files(const Dataset& set, const std::vector<RowProblem>& problems,
              const std::vector<PhotoScan>& seen) {
  Finding finding{"files", Verdict::Fine, concat(plural(seen.size(), "file"), ", all can be decoded")};
  for (const auto& problem : problems)
    if (problem.missing_file) finding.items.push_back(concat(shown(problem.image), ": no such file"));
  const size_t missing = finding.items.size();
  for (size_t i = 0; i < seen.size(); ++i)
    if (!seen[i].error.empty()) finding.items.push_back(set.samples[i].name + ": " + seen[i].error);
  if (finding.items.empty()) return finding;
  finding.verdict = Verdict::Wrong;
  finding.text = concat(missing, " missing, ", finding.items.size() - missing, " unreadable");
  return finding;
}

Finding sizes(const std::vector<PhotoScan>& seen) {
  const PhotoScan *smallest = nullptr, *largest = nullptr;
  size_t small = 0;
  const auto area = [](const PhotoScan* s) { return int64_t{s->width} * s->height; };
  for (const auto& s : seen) {
    if (!s.error.empty()) continue;
    if (!smallest || area(&s) < area(smallest)) smallest = &s;
    if (!largest || area(&s) > area(largest)) largest = &s;
    small += std::min(s.width, s.height) < 224;
  }
  if (!smallest) return {"sizes", Verdict::Note, "no photo could be decoded"};
  Finding finding{
      "sizes", small ? Verdict::Note : Verdict::Fine,
      concat(smallest->width, " x ", smallest->height, " .. ", largest->width, " x ", largest->height)};
  if (small)
    finding.text += concat("; ", plural(small, "photo"), " with a side below 224 (enlarged before cropping)");
  return finding;
}

Finding duplicates(const Dataset& set, const std::vector<PhotoScan>& seen) {
  std::map<std::pair<uint64_t, size_t>, std::vector<size_t>> groups;
  for (size_t i = 0; i < seen.size(); ++i)
    if (seen[i].bytes > 0) groups[{seen[i].content, seen[i].bytes}].push_back(i);
  Finding finding{"duplicates", Verdict::Fine, "no two files have the same content"};
  for (const auto& [key, group] : groups)
    for (size_t k = 1; k < group.size(); ++k) {
      const Sample &a = set.samples[group[0]], &b = set.samples[group[k]];
      if (read_file(a.path) == read_file(b.path)) finding.items.push_back(a.name + " = " + b.name);
    }
  std::sort(finding.items.begin(), finding.items.end());
  if (finding.items.empty()) return finding;
  const auto known = static_cast<size_t>(set.known_copies);
  finding.verdict = finding.items.size() > known ? Verdict::Wrong : Verdict::Note;
  finding.text = concat(plural(finding.items.size(), "file"), " with the content of another");
  if (known > 0) finding.text += concat("; as published: ", known);
  return finding;
}

// ---- the split ----

Finding split(const Dataset& set, const std::vector<PhotoScan>& seen) {
  std::map<std::string, std::vector<size_t>> parts;
  std::map<std::string, std::set<std::string>> parts_of_reference;
  for (size_t i = 0; i < seen.size(); ++i) {
    const Sample& sample = set.samples[i];
    if (sample.split.empty()) continue;
    parts[sample.split].push_back(i);
    if (!sample.reference.empty()) parts_of_reference[sample.reference].insert(sample.split);
  }
  if (parts.empty()) return {"split", Verdict::Fine, "none given (--split FILE)"};
  Finding finding{"split", Verdict::Fine, ""};
  for (const auto& [part, members] : parts)
    finding.text += concat(finding.text.empty() ? "" : ", ", members.size(), " ", part);
  bool twins_alone = true;
  for (const auto& [reference, sides] : parts_of_reference)
    if (sides.size() > 1) twins_alone = false, finding.items.push_back("reference " + reference + " is in more than one part");
  for (auto one = parts.begin(); one != parts.end(); ++one)
    for (auto other = std::next(one); other != parts.end(); ++other)
      for (size_t i : one->second)
        for (size_t k : other->second) {
          const Sample &a = set.samples[i], &b = set.samples[k];
          const bool told = !a.reference.empty() && a.reference == b.reference;
          if (!told && near_duplicate(seen[i].look, seen[k].look))
            finding.items.push_back(
                concat(a.name, " (", a.split, ") looks like ", b.name, " (", b.split, ")"));
        }
  if (!set.split_sha256.empty()) finding.text += ", SHA-256 " + set.split_sha256;
  if (finding.items.empty()) {
    finding.text += "; no scene is on both sides";
    return finding;
  }
  const bool known = set.known_twins && twins_alone;
  finding.verdict = known ? Verdict::Note : Verdict::Wrong;
  finding.text += concat("; ", plural(finding.items.size(), "scene"), " on both sides");
  if (known) finding.text += ", as is known of this set";
  return finding;
}

}  // namespace

std::vector<Finding> check_dataset(const Dataset& set, const std::vector<RowProblem>& problems,
                                   const DatasetCheckOptions& options) {
  const auto seen = scan_all(set, options);
  return {rows(set, problems),
          count("photos", set.samples.size(), set, set.published ? set.published->photos : 0),
          references(set),
          files(set, problems, seen),
          labels(set),
          direction(set),
          sizes(seen),
          duplicates(set, seen),
          split(set, seen)};
}

bool passed(const std::vector<Finding>& findings) {
  return std::none_of(findings.begin(), findings.end(),
                      [](const Finding& finding) { return finding.verdict == Verdict::Wrong; });
}

}  // namespace qfm
