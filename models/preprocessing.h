// How images are brought to size before crops are cut from them.
#pragma once
#include <charconv>
#include <cstdint>
#include <string>

#include "engine/base/error.h"

namespace qfm {

struct Resize {
  int64_t side = 0;               // the shorter side is brought down to this; 0: images stay as they are
  int64_t height = 0, width = 0;  // above 0: images get this size, whatever their shape was; side is then 0

  bool fixed() const { return height > 0; }
  friend bool operator==(const Resize&, const Resize&) = default;
};

// "none", "384" (the shorter side) or "512x384" (height x width), pixels. Throws Error for anything else, and
// for sides below 224 or above 65536.
inline Resize parse_photo_size(const std::string& text) {
  if (text == "none") return {};
  bool fine = true;
  const auto side = [&](const std::string& digits) {
    int64_t value = 0;
    const char* end = digits.data() + digits.size();
    const auto [rest, error] = std::from_chars(digits.data(), end, value);
    fine = fine && error == std::errc{} && rest == end && value >= 224 && value <= 65536;
    return value;
  };
  const size_t by = text.find('x');
  Resize size;
  if (by == std::string::npos) size.side = side(text);
  else size.height = side(text.substr(0, by)), size.width = side(text.substr(by + 1));
  QFM_CHECK(fine, "'", text, "': use 'none', a side or HEIGHTxWIDTH in pixels, each from 224 to 65536");
  return size;
}

inline std::string name_of(const Resize& size) {
  if (size.fixed()) return concat(size.height, "x", size.width);
  return size.side == 0 ? "none" : concat(size.side);
}

}  // namespace qfm
