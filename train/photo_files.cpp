#include "train/photo_files.h"

#include <algorithm>
#include <filesystem>

#include "engine/base/error.h"

namespace qfm {
namespace {

namespace fs = std::filesystem;

bool is_photo(const fs::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  for (const char* known : {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".pnm", ".tga"})
    if (extension == known) return true;
  return false;
}

void walk(const fs::path& folder, bool recursive, std::vector<std::string>& paths) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with('.')) continue;
    std::error_code error;
    if (entry.is_directory(error)) {
      // A link to a folder may lead back here.
      if (recursive && !entry.is_symlink(error)) walk(entry.path(), recursive, paths);
    } else if (is_photo(entry.path())) {
      paths.push_back(entry.path().string());
    }
  }
}

}  // namespace

std::vector<std::string> photos_in(const std::string& folder, bool recursive) {
  std::vector<std::string> paths;
  try {
    walk(folder, recursive, paths);
  } catch (const fs::filesystem_error& e) {
    QFM_FAIL(folder, ": ", e.code().message());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace qfm
