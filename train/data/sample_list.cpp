#include "train/data/sample_list.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#ifdef QFM_WITH_UNICODE
#include <utf8proc.h>
#endif

#include "engine/base/error.h"
#include "engine/base/sha256.h"
#include "train/data/csv.h"

namespace qfm {
namespace {

namespace fs = std::filesystem;

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

#ifdef QFM_WITH_UNICODE
// In NFC (or NFD); as it is where it is no UTF-8 or no library is there to tell.
std::string normal_form(const std::string& text, bool composed) {
  utf8proc_uint8_t* result = nullptr;
  const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                                   &result, composed ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE);
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(result, std::free);
  return length < 0 ? text : std::string(reinterpret_cast<char*>(result), static_cast<size_t>(length));
}
#else
std::string normal_form(const std::string& text, bool) { return text; }
#endif

std::string folded(const std::string& name) { return lower(normal_form(name, true)); }

}  // namespace

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

std::string lower_stem(const std::string& path) { return lower(fs::path(path).stem().string()); }

// ---- images ----

std::string name_on_disk(const fs::path& folder, const std::string& name) {
  for (const std::string& written : {name, normal_form(name, true), normal_form(name, false)})
    if (is_file(folder / written)) return written;
  return "";
}

ImageFolder::ImageFolder(std::string root, std::string inside)
    : root_(std::move(root)), inside_(std::move(inside)) {}

const ImageFolder::Listing& ImageFolder::listing(const fs::path& folder) {
  const auto [at, fresh] = listings_.try_emplace(folder.string());
  if (!fresh) return at->second;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (is_file(entry->path())) at->second.emplace(folded(name), name);
  }
  return at->second;
}

FoundImage ImageFolder::find(const std::string& image) {
  const fs::path name = inside_ / image;
  if (const std::string written = name_on_disk(root_, name.string()); !written.empty()) return {written, (root_ / written).string()};
  const auto& files = listing((root_ / name).parent_path());
  const auto [first, last] = files.equal_range(folded(name.filename().string()));
  if (first == last) return {};
  QFM_CHECK(std::next(first) == last, "both ", first->second, " and ", std::next(first)->second,
            " match when letter case is ignored");
  const fs::path found = name.parent_path() / first->second;
  return {found.string(), (root_ / found).string()};
}

// ---- rows ----

SampleList::SampleList(std::string table, std::string score, std::string where, Find find,
                       const DatasetOptions& options)
    : table_(std::move(table)),
      score_(std::move(score)),
      where_(std::move(where)),
      find_(std::move(find)),
      options_(options) {}

void SampleList::bad(int64_t row, const std::string& image, const std::string& reason, bool missing_file) {
  ++rows_;
  problems_.push_back({table_, row, image, reason, missing_file});
}

void SampleList::add(int64_t row, const LabelRow& text) {
  bool missing = false;
  try {
    Sample s = sample(row, text);
    missing = s.path.empty();
    QFM_CHECK(!missing, "no such image file ", where_);
    const auto [earlier, fresh] = row_of_.try_emplace(fs::path(s.path).lexically_normal().string(), row);
    QFM_CHECK(fresh, "the same image as row ", earlier->second);
    QFM_CHECK(text.sha256.empty() || sha256_of_file(s.path) == lower(text.sha256), "not the file of the table: its SHA-256 differs");
    samples_.push_back(std::move(s));
    ++rows_;
  } catch (const Error& problem) {
    bad(row, text.image, problem.what(), missing);
  }
}

Sample SampleList::sample(int64_t row, const LabelRow& text) {
  QFM_CHECK(row >= 1 && !text.image.empty(), "no image name");
  Sample s;
  s.score = number(score_, text.score);
  if (const auto& scale = options_.scale)
    QFM_CHECK(s.score >= scale->low && s.score <= scale->high, score_, " ", s.score,
              " is outside the label range ", scale->low, ":", scale->high);
  if (!text.std.empty() && lower(text.std) != "nan") {  // not known of this photo
    s.std = number("std", text.std);
    QFM_CHECK(*s.std >= 0, "std ", *s.std, " is negative");
  }
  s.reference = text.reference, s.split = text.split, s.subset = text.subset;
  FoundImage found = find_(text.image);
  s.name = std::move(found.name), s.path = std::move(found.path);
  return s;
}

double SampleList::number(const std::string& what, const std::string& text) const {
  try {
    return parse_number(text);
  } catch (const Error& problem) {
    QFM_FAIL(what, " ", problem.what());
  }
}

Dataset SampleList::finish() {
  QFM_CHECK(rows_ > 0, table_, ": a header but no rows");
  if (options_.problems) {
    options_.problems->insert(options_.problems->end(), problems_.begin(), problems_.end());
  } else if (!problems_.empty()) {
    const RowProblem& first = problems_.front();
    QFM_FAIL(table_, ": row ", first.row, first.image.empty() ? "" : " (" + shown(first.image) + ")", ": ",
             first.reason, " (", problems_.size(), problems_.size() == 1 ? " bad row of " : " bad rows of ",
             rows_, ")");
  }
  Dataset set;
  set.samples = std::move(samples_);
  set.range_observed = !options_.scale;
  const auto [least, most] =
      std::minmax_element(set.samples.begin(), set.samples.end(),
                          [](const Sample& a, const Sample& b) { return a.score < b.score; });
  if (options_.scale) set.range = *options_.scale;
  else if (!set.samples.empty()) set.range = {least->score, most->score};
  return set;
}

}  // namespace qfm
