#include "tools/cli/photos.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#include <utility>

#include "engine/base/error.h"
#include "engine/base/notice.h"
#include "engine/base/threads.h"
#include "train/image/formats.h"

namespace qfm {
namespace {

namespace fs = std::filesystem;

// "2 HEIC, 1 WebP, 3 other files"
std::string listed(LeftOut left_out) {
  const auto other = left_out.extract(format_of(FileKind::Other).name);
  std::string text;
  for (const auto& [kind, count] : left_out) text += concat(text.empty() ? "" : ", ", count, " ", kind);
  if (other) text += concat(text.empty() ? "" : ", ", other.mapped(), other.mapped() == 1 ? " other file" : " other files");
  return text;
}

void add_argument(const std::string& argument, bool recursive, std::vector<PhotoEntry>& entries) {
  std::error_code error;
  if (!fs::is_directory(argument, error)) return entries.push_back({argument, ""});
  LeftOut left_out;
  auto found = entries_in(argument, recursive, &left_out);
  if (!left_out.empty()) notice(argument + ": left out " + listed(left_out));
  if (found.empty())
    entries.push_back(
        {argument, recursive ? "no photos in this folder" : "no photos in this folder (-r descends)"});
  for (auto& entry : found) entries.push_back(std::move(entry));
}

void add_list(bool recursive, bool nul, std::vector<PhotoEntry>& entries) {
  std::string list(std::istreambuf_iterator<char>(std::cin), {});
  if (list.starts_with("\xFF\xFE") || list.starts_with("\xFE\xFF"))
    return entries.push_back({"-", "the list on standard input is UTF-16 text, UTF-8 is needed"});
  if (list.starts_with("\xEF\xBB\xBF")) list.erase(0, 3);
  const size_t before = entries.size();
  const char end = nul || list.find('\0') != std::string::npos ? '\0' : '\n';
  std::istringstream names(std::move(list));
  for (std::string name; std::getline(names, name, end);) {
    if (end == '\n' && name.ends_with('\r')) name.pop_back();
    if (!name.empty()) add_argument(name, recursive, entries);
  }
  // As a folder without photos: what should have made the list has likely failed.
  if (entries.size() == before) entries.push_back({"-", "no photos in the list on standard input"});
}

}  // namespace

std::vector<PhotoEntry> list_photos(const std::vector<std::string>& arguments, bool recursive, bool nul) {
  std::vector<PhotoEntry> entries;
  for (const auto& argument : arguments) {
    if (argument == "-") add_list(recursive, nul, entries);
    else add_argument(argument, recursive, entries);
  }
  return entries;
}

int decode_workers() { return threads() == 1 ? 0 : std::clamp(threads() / 2, 1, 8); }

}  // namespace qfm
