#include "train/image/photo_stream.h"

#include <utility>

#include "engine/base/error.h"
#include "engine/base/io.h"

namespace qfm {
namespace {

std::vector<PhotoEntry> entries_of(const std::vector<std::string>& paths) {
  std::vector<PhotoEntry> entries;
  for (const auto& path : paths) entries.push_back({path, ""});
  return entries;
}

// "b/a.jpg: reason" -> "reason" for path b/a.jpg.
std::string without_path(const std::string& message, const std::string& path) {
  const std::string prefix = path + ": ";
  return message.size() > prefix.size() && message.starts_with(prefix) ? message.substr(prefix.size())
                                                                       : message;
}

}  // namespace

PhotoStream::PhotoStream(std::vector<PhotoEntry> photos, PhotoStreamOptions options)
    : photos_(std::move(photos)),
      options_(std::move(options)),
      ahead_(0, static_cast<int64_t>(photos_.size()), options_.workers, options_.workers + 2,
             [this](int64_t i) { return make(i); }) {}

PhotoStream::PhotoStream(const std::vector<std::string>& paths, PhotoStreamOptions options)
    : PhotoStream(entries_of(paths), std::move(options)) {}

PhotoStream::~PhotoStream() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  room_.notify_all();
}

DecodeResult PhotoStream::decode(int64_t i) const {
  const PhotoEntry& photo = photos_[static_cast<size_t>(i)];
  if (!photo.error.empty()) return {{}, photo.error, {}};
  try {
    const auto file = read_file(photo.path);
    if (options_.on_file && !options_.on_file(i, file)) return {};
    DecodedPhoto decoded = decode_photo(file, photo.path, options_.decode);
    if (options_.on_image) options_.on_image(i, decoded.image);
    return {std::move(decoded.image), "", std::move(decoded.preview_of)};
  } catch (const OutOfMemory&) {
    throw;
  } catch (const Error& error) {
    return {{}, without_path(error.what(), photo.path), {}};
  }
}

DecodeResult PhotoStream::make(int64_t i) {
  {
    std::unique_lock lock(mutex_);
    // The photo that next() waits for never waits itself.
    room_.wait(lock, [&] { return closed_ || held_ <= kMostAhead || i == given_; });
    if (closed_) return {};
  }
  DecodeResult result = decode(i);
  const std::lock_guard lock(mutex_);
  held_ += result.image.rgb.size();
  return result;
}

DecodeResult PhotoStream::next() {
  const auto give = [this](size_t bytes) {
    {
      const std::lock_guard lock(mutex_);
      held_ -= bytes;
      ++given_;
    }
    room_.notify_all();
  };
  try {
    DecodeResult result = ahead_.next();
    give(result.image.rgb.size());
    return result;
  } catch (...) {
    give(0);
    throw;
  }
}

}  // namespace qfm
