#include "tools/cli/photos.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <utility>

#include "engine/base/threads.h"

namespace qfm {
namespace {

namespace fs = std::filesystem;

void add_argument(const std::string& argument, bool recursive, std::vector<PhotoEntry>& entries) {
  std::error_code error;
  if (!fs::is_directory(argument, error)) return entries.push_back({argument, ""});
  auto found = entries_in(argument, recursive);
  if (found.empty())
    entries.push_back(
        {argument, recursive ? "no photos in this folder" : "no photos in this folder (-r descends)"});
  for (auto& entry : found) entries.push_back(std::move(entry));
}

}  // namespace

std::vector<PhotoEntry> list_photos(const std::vector<std::string>& arguments, bool recursive) {
  std::vector<PhotoEntry> entries;
  for (const auto& argument : arguments) {
    if (argument != "-") {
      add_argument(argument, recursive, entries);
      continue;
    }
    const size_t before = entries.size();
    for (std::string line; std::getline(std::cin, line);) {
      if (line.ends_with('\r')) line.pop_back();
      if (!line.empty()) add_argument(line, recursive, entries);
    }
    // As a folder without photos: what should have made the list has likely failed.
    if (entries.size() == before) entries.push_back({"-", "no photos in the list on standard input"});
  }
  return entries;
}

int decode_workers() { return threads() == 1 ? 0 : std::clamp(threads() / 2, 1, 8); }

}  // namespace qfm
