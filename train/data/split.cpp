#include "train/data/split.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "engine/base/error.h"
#include "engine/base/io.h"
#include "engine/base/sha256.h"
#include "train/data/csv.h"

namespace qfm {
namespace {

constexpr const char* kParts[] = {"train", "val", "test"};

// What names the set on every machine.
std::string title(const Dataset& set) {
  return set.published ? std::string(set.published->name)
                       : std::filesystem::path(set.name).filename().string();
}

std::string grouping(const Dataset& set) {
  std::set<std::string> references;
  for (const auto& sample : set.samples)
    if (!sample.reference.empty()) references.insert(sample.reference);
  return references.empty() ? "no references" : concat("by ", references.size(), " references");
}

}  // namespace

std::string split_text(const Dataset& set, double fraction, uint64_t seed) {
  const auto [train, test] = split_fraction(set, fraction, seed);
  std::set<std::string> tested;
  for (const auto& sample : test.samples) tested.insert(sample.name);
  std::string text = concat("# qfm split: ", shown(title(set)), ", ", set.samples.size(), " photos, ",
                            train.samples.size(), " train, ", test.samples.size(), " test; seed ", seed,
                            ", test ", fraction, ", ", grouping(set), "\n");
  for (const auto& sample : set.samples) {
    QFM_CHECK(sample.name.find_first_of("\r\n") == std::string::npos, set.name, ": '", shown(sample.name),
              "' holds a line end: it cannot stand in a split");
    text += (tested.contains(sample.name) ? "test " : "train ") + sample.name + "\n";
  }
  return text;
}

Split read_split(const std::string& path) {
  const auto bytes = read_file(path, size_t{64} << 20);
  Split split{path, sha256(bytes), {}};
  const std::string text(bytes.begin(), bytes.end());
  std::set<std::string> seen;
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    begin = end + 1, ++number;
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || line[0] == '#') continue;
    const std::string part = line.substr(0, line.find(' '));
    QFM_CHECK(std::find(std::begin(kParts), std::end(kParts), part) != std::end(kParts), path, ": line ",
              number, ": '", shown(line), "' starts with none of train, val, test");
    QFM_CHECK(line.size() > part.size() + 1, path, ": line ", number, ": no photo after ", part);
    const std::string name = line.substr(part.size() + 1);
    QFM_CHECK(seen.insert(name).second, path, ": line ", number, ": ", shown(name), " has a line already");
    split.lines.emplace_back(part, name);
  }
  QFM_CHECK(!split.lines.empty(), path, ": no photos: not a split");
  return split;
}

void assign_split(Dataset& set, const Split& split, const std::vector<RowProblem>* problems) {
  std::map<std::string, std::string> part_of_name;
  for (const auto& [part, name] : split.lines) part_of_name[name] = part;
  for (auto& sample : set.samples) {
    const auto found = part_of_name.find(sample.name);
    QFM_CHECK(found != part_of_name.end(), split.path, ": no line for ", shown(sample.name), " of ",
              set.name);
    sample.split = found->second;
    part_of_name.erase(found);
  }
  const bool excused = problems && part_of_name.size() <= problems->size();
  QFM_CHECK(part_of_name.empty() || excused, split.path, ": ", shown(part_of_name.begin()->first),
            " is not in ", set.name, ": a split of another set");
  set.split_sha256 = split.sha256;
}

Dataset part_of(const Dataset& set, const std::string& part) {
  Dataset result = set;
  std::erase_if(result.samples, [&](const Sample& sample) { return sample.split != part; });
  QFM_CHECK(!result.samples.empty(), set.name, ": the split gives no photo to part ", part);
  return result;
}

}  // namespace qfm
