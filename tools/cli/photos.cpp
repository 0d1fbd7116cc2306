#include "tools/cli/photos.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <new>

#include "engine/base/error.h"
#include "engine/base/threads.h"
#include "tools/cli/command.h"
#include "train/image/photo_files.h"

namespace qfm {
namespace {

namespace fs = std::filesystem;

void add_argument(const std::string& argument, bool recursive, std::vector<PhotoEntry>& entries) {
  std::error_code error;
  if (!fs::is_directory(argument, error)) return entries.push_back({argument, ""});
  const auto found = entries_in(argument, recursive);
  if (found.empty())
    entries.push_back(
        {argument, recursive ? "no photos in this folder" : "no photos in this folder (-r descends)"});
  for (const auto& entry : found) entries.push_back({entry.path, entry.error});
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

DecodeAhead::DecodeAhead(const std::vector<PhotoEntry>& photos, const DecodeOptions& options, int workers)
    : photos_(photos),
      options_(options),
      ahead_(0, static_cast<int64_t>(photos.size()), workers, workers + 2,
             [this](int64_t i) { return make(i); }) {}

DecodeAhead::~DecodeAhead() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  room_.notify_all();
}

Decoded DecodeAhead::make(int64_t i) {
  {
    std::unique_lock lock(mutex_);
    // The photo that next() waits for never waits itself.
    room_.wait(lock, [&] { return closed_ || held_ <= kMostAhead || i == given_; });
    if (closed_) return {};
  }
  const PhotoEntry& photo = photos_[static_cast<size_t>(i)];
  Decoded result{{}, photo.error};
  if (!result.error.empty()) return result;
  try {
    result.image = decode_image(photo.path, options_);
  } catch (const Error& e) {
    result.error = without_path(e.what(), photo.path);
  } catch (const std::bad_alloc&) {
    result.error = "out of memory";
  }
  std::lock_guard lock(mutex_);
  held_ += result.image.rgb.size();
  return result;
}

Decoded DecodeAhead::next() {
  Decoded result = ahead_.next();
  {
    std::lock_guard lock(mutex_);
    held_ -= result.image.rgb.size();
    ++given_;
  }
  room_.notify_all();
  return result;
}

int decode_workers() { return threads() == 1 ? 0 : std::clamp(threads() / 2, 1, 8); }

std::string without_path(const std::string& message, const std::string& path) {
  const bool named = message.size() > path.size() + 2 && message.starts_with(path) &&
                     message.compare(path.size(), 2, ": ") == 0;
  return named ? message.substr(path.size() + 2) : message;
}

}  // namespace qfm
