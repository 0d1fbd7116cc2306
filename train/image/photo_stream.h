// Photos decoded ahead of use on background threads, handed over in order.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "engine/base/prefetch.h"
#include "train/image/decode.h"
#include "train/image/photo_files.h"

namespace qfm {

struct DecodeResult {
  Image image;
  std::string error;  // the reason, without the path; empty: decoded
  std::string preview_of = {};  // as of DecodedPhoto
};

struct PhotoStreamOptions {
  DecodeOptions decode = {};
  int workers = 1;  // threads that decode; 0: next() does
  // Called on the decoding thread of photo i, photos in any order, so that hashing and looking run beside
  // decoding too. What they write about photo i may be read once next() has given it.
  // The whole file, before it is decoded; false: its pixels are not wanted.
  std::function<bool(int64_t i, std::span<const uint8_t> file)> on_file = {};
  // The pixels, before they are kept; to be dropped by `image = {}` where next() need not give them.
  std::function<void(int64_t i, Image& image)> on_image = {};
};

// At most a few photos and about kMostAhead bytes of pixels wait for next(), and one photo a worker is being decoded.
class PhotoStream {
 public:
  static constexpr size_t kMostAhead = size_t{64} << 20;
  // A photo that has an error already gives that.
  PhotoStream(std::vector<PhotoEntry> photos, PhotoStreamOptions options);
  PhotoStream(const std::vector<std::string>& paths, PhotoStreamOptions options);
  ~PhotoStream();
  bool done() const { return ahead_.done(); }
  // A photo that cannot be read or decoded is a result with an error. Throws OutOfMemory or std::bad_alloc,
  // which are no fault of the photo's; the call after it gives the next photo. Not to be called when done().
  DecodeResult next();

 private:
  DecodeResult make(int64_t i);
  DecodeResult decode(int64_t i) const;

  const std::vector<PhotoEntry> photos_;
  const PhotoStreamOptions options_;
  std::mutex mutex_;
  std::condition_variable room_;
  size_t held_ = 0;  // bytes decoded and not given out yet
  int64_t given_ = 0;
  bool closed_ = false;
  Prefetch<DecodeResult> ahead_;  // last: its threads use the rest
};

}  // namespace qfm
