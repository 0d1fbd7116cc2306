// Photos named on the command line: their list, and their pixels, decoded ahead of use.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "engine/base/prefetch.h"
#include "train/image/decode.h"

namespace qfm {

struct PhotoEntry {
  std::string path;   // as given, or FOLDER/NAME
  std::string error;  // why there is no photo to be had under this argument; empty: not tried yet
};

// Files as given; of a folder its photos by extension (jpg jpeg png bmp gif pgm ppm pnm tga), sorted by name,
// hidden ones left out, of its folders too if `recursive`; for "-" the lines of standard input, each treated
// so. A folder that cannot be read, a folder without photos and an empty list are entries with an error.
std::vector<PhotoEntry> list_photos(const std::vector<std::string>& arguments, bool recursive);

struct Decoded {
  Image image;
  std::string error;  // without the path; empty: all well
};

// Decodes the photos in order on background threads. Ahead of use at most a few photos and about kMostAhead
// bytes of pixels are held, and one photo a worker being decoded.
class DecodeAhead {
 public:
  static constexpr size_t kMostAhead = size_t{64} << 20;
  // Keeps a reference to `photos`. workers = 0: next() decodes.
  DecodeAhead(const std::vector<PhotoEntry>& photos, const DecodeOptions& options, int workers);
  ~DecodeAhead();
  Decoded next();

 private:
  Decoded make(int64_t i);

  const std::vector<PhotoEntry>& photos_;
  const DecodeOptions options_;
  std::mutex mutex_;
  std::condition_variable room_;
  size_t held_ = 0;  // bytes decoded and not given out yet
  int64_t given_ = 0;
  bool closed_ = false;
  Prefetch<Decoded> ahead_;  // last: its threads use the rest
};

// How many threads should decode while threads() compute.
int decode_workers();

// "b/a.jpg: reason" -> "reason" for path b/a.jpg.
std::string without_path(const std::string& message, const std::string& path);

}  // namespace qfm
