#include "tools/cli/result_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>
#include <tuple>

#include "engine/base/error.h"
#include "tools/cli/console.h"

namespace qfm {
namespace {

std::string header_text(const std::string& extension, const Json& header) {
  if (extension == ".csv") return csv_header(header) + "path,score,low,high,interval,spread,width,height,crops,error\n";
  std::string line = to_line(header);
  line.pop_back();
  if (extension == ".json") return "{\"header\": " + line + ",\n \"results\": [\n";
  return "{\"header\": " + line + "}\n";  // of FILE.part alone
}

// What csv_field made of it.
std::string unquoted(std::string_view field) {
  if (!field.starts_with('"')) return std::string(field);
  std::string text;
  for (size_t i = 1; i + 1 < field.size(); ++i) text += field[i], i += field[i] == '"';
  return text;
}

// A line of csv_line without an error; nothing for any other text.
std::optional<ScoredPhoto> read_csv(std::string_view line) {
  if (!line.ends_with(',')) return std::nullopt;
  line.remove_suffix(1);
  bool whole = true;
  // The last field left on the line; without one nothing was `whole`.
  const auto take = [&] {
    const size_t comma = line.rfind(',');
    whole = whole && comma != line.npos;
    if (!whole) return std::string_view();
    const std::string_view field = line.substr(comma + 1);
    line.remove_suffix(field.size() + 1);
    return field;
  };
  const auto read = [&]<class T>(T& to) {
    const std::string_view field = take();
    const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), to);
    whole = whole && error == std::errc{} && end == field.data() + field.size();
  };
  ScoredPhoto photo;
  read(photo.crops), read(photo.height), read(photo.width), read(photo.spread);
  if (line.ends_with(",,")) line.remove_suffix(3);
  else read(photo.probability), read(photo.interval.emplace().high), read(photo.interval->low);
  read(photo.score);
  photo.path = unquoted(line);
  return whole ? std::optional(std::move(photo)) : std::nullopt;
}

std::optional<ScoredPhoto> read_json(const std::string& line) {
  const Json row = Json::parse(line, nullptr, false);
  try {
    ScoredPhoto photo{.path = row.at("path"), .error = "", .score = row.at("score"), .spread = row.at("spread")};
    if (row.contains("interval")) photo.interval = {row.at("low"), row.at("high")}, photo.probability = row.at("interval");
    photo.width = row.at("width"), photo.height = row.at("height"), photo.crops = row.at("crops");
    if (row.contains("preview")) photo.preview_of = row.at("preview");
    return photo;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

using Moment = std::tuple<int64_t, uint32_t>;

// When a file was made; nothing where the file system does not tell.
std::optional<Moment> birth_of(int file) {
  struct statx about = {};
  if (::statx(file, "", AT_EMPTY_PATH, STATX_BTIME, &about) != 0 || !(about.stx_mask & STATX_BTIME)) return std::nullopt;
  return Moment{about.stx_btime.tv_sec, about.stx_btime.tv_nsec};
}

// No regular file, or one whose content, name or rights are as they were at that moment.
bool unchanged_since(const std::string& path, const Moment& moment) {
  struct statx about = {};
  if (::statx(AT_FDCWD, path.c_str(), 0, STATX_CTIME | STATX_TYPE, &about) != 0 || !S_ISREG(about.stx_mode)) return false;
  return Moment{about.stx_ctime.tv_sec, about.stx_ctime.tv_nsec} < moment;
}

}  // namespace

ResultFile::ResultFile(const std::string& path, const std::string& extension, const Json& header)
    : path_(path),
      part_(path + ".part"),
      extension_(extension),
      header_(header_text(extension, header)),
      file_(::open(part_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
  QFM_CHECK(file_.get() >= 0, path_, ": cannot be written: ", std::strerror(errno));
  QFM_CHECK(::flock(file_.get(), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK, part_, ": another run is writing it");
  resume(read_text(part_));
}

// Keeps the whole rows of `text`, and what is behind them in the file goes.
void ResultFile::resume(const std::string& text) {
  const auto birth = birth_of(file_.get());
  size_t end = 0;
  if (text.starts_with(header_) && birth) {
    int64_t changed = 0;
    end = header_.size();
    for (size_t next; (next = text.find('\n', end)) != text.npos; end = next + 1) {
      const std::string line = text.substr(end, next - end);
      auto photo = extension_ == ".csv" ? read_csv(line) : read_json(extension_ == ".json" ? line.substr(0, line.rfind(',')) : line);
      if (!photo) continue;
      if (unchanged_since(photo->path, *birth)) kept_.insert_or_assign(photo->path, std::move(*photo));
      else ++changed;
    }
    found_ = format("goes on: %zu photo%s scored before", kept_.size(), kept_.size() == 1 ? "" : "s");
    if (changed) found_ += format(", %lld changed since", static_cast<long long>(changed));
  } else if (!text.empty()) {
    found_ = birth ? "begun anew: it is of another model, version or other options" : "begun anew: when it was begun is not known here";
  }
  QFM_CHECK(::ftruncate(file_.get(), static_cast<off_t>(end)) == 0 && ::lseek(file_.get(), 0, SEEK_END) >= 0, path_,
            ": cannot be written: ", std::strerror(errno));
  if (end == 0) write_all(file_, header_, path_);
}

const ScoredPhoto* ResultFile::kept(const std::string& photo) const {
  const auto found = kept_.find(photo);
  return found == kept_.end() ? nullptr : &found->second;
}

// Without its line end.
std::string ResultFile::row(const ScoredPhoto& result) const {
  std::string line = extension_ == ".csv" ? csv_line(result) : json_line(result);
  line.pop_back();
  return extension_ == ".json" ? "  " + line : line;
}

void ResultFile::add(const ScoredPhoto& result) {
  write_all(file_, row(result) + (extension_ == ".json" ? ",\n" : "\n"), path_);
}

void ResultFile::finish(const std::vector<ScoredPhoto>& all) {
  const bool json = extension_ == ".json";
  AtomicFile whole(path_);
  if (extension_ != ".jsonl") whole.write(header_);
  for (size_t i = 0; i < all.size(); ++i) whole.write(row(all[i]) + (json && i + 1 < all.size() ? ",\n" : "\n"));
  if (json) whole.write(" ]}\n");
  whole.commit();
  ::unlink(part_.c_str());
}

}  // namespace qfm
