#include "train/image/photo_files.h"

#include <algorithm>
#include <filesystem>

#include "engine/base/error.h"
#include "train/image/formats.h"

namespace qfm {
namespace {

namespace fs = std::filesystem;

bool has_photo_extension(const fs::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return std::ranges::any_of(formats(), [&](const Format& format) {
    return format.decode && !extension.empty() && concat(format.extensions, ".").find(extension + ".") != std::string::npos;
  });
}

void walk(const fs::path& folder, bool recursive, std::vector<PhotoEntry>& found, LeftOut& left_out) {
  std::error_code failure, error;
  fs::directory_iterator entry(folder, failure), end;
  for (; !failure && entry != end; entry.increment(failure)) {
    const fs::path& path = entry->path();
    if (path.filename().string().starts_with('.')) continue;
    if (entry->is_directory(error)) {
      // A link to a folder may lead back here.
      if (recursive && !entry->is_symlink(error)) walk(path, recursive, found, left_out);
    } else if (has_photo_extension(path)) {
      found.push_back({path.string(), ""});
    } else if (entry->is_regular_file(error)) {
      const FileKind kind = file_kind(path.string());
      if (format_of(kind).decode) found.push_back({path.string(), ""});
      else ++left_out[format_of(kind).name];
    }
  }
  if (failure) found.push_back({folder.string(), failure.message()});
}

}  // namespace

std::vector<PhotoEntry> entries_in(const std::string& folder, bool recursive, LeftOut* left_out) {
  std::vector<PhotoEntry> found;
  LeftOut others;
  walk(folder, recursive, found, left_out ? *left_out : others);
  std::sort(found.begin(), found.end(),
            [](const PhotoEntry& a, const PhotoEntry& b) { return a.path < b.path; });
  return found;
}

std::vector<std::string> photos_in(const std::string& folder, bool recursive) {
  std::vector<std::string> paths;
  for (auto& entry : entries_in(folder, recursive)) {
    QFM_CHECK(entry.error.empty(), entry.path, ": ", entry.error);
    paths.push_back(std::move(entry.path));
  }
  return paths;
}

}  // namespace qfm
