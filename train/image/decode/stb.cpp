// The one place that holds stb_image. Its memory comes from an arena and its bytes from callbacks, so that a read past
// the end, a failed assertion or a file that inflates without end throws from within, and nothing leaks.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "train/image/decode/decoders.h"

namespace qfm::decoders {
namespace {

// What stb holds during one decode: at most `budget` bytes, all freed at the end.
class Arena {
 public:
  explicit Arena(size_t budget) : left_(budget), outer_(std::exchange(current, this)) {}
  ~Arena() {
    for (const Block& block : blocks_) std::free(block.data);
    current = outer_;
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  void* resize(void* old, size_t size) {
    Block* block = find(old);
    const size_t before = block ? block->size : 0;
    if (size > left_ + before) return nullptr;
    if (!block)
      blocks_.reserve(blocks_.size() + 1);  // so that push_back below cannot throw and lose the block
    void* data = std::realloc(old, size);
    if (!data) return nullptr;
    if (filling >= 0 && size > before) std::memset(static_cast<char*>(data) + before, filling, size - before);
    if (block) *block = {data, size};
    else blocks_.push_back({data, size});
    left_ += before;
    left_ -= size;
    return data;
  }
  void release(void* data) {
    Block* block = find(data);
    if (!block) return;
    left_ += block->size;
    std::free(data);
    *block = blocks_.back();
    blocks_.pop_back();
  }

  static thread_local Arena* current;
  static thread_local int filling;

 private:
  struct Block {
    void* data;
    size_t size;
  };
  Block* find(void* data) {
    for (Block& block : blocks_)
      if (data && block.data == data) return &block;
    return nullptr;
  }
  std::vector<Block> blocks_;  // a handful at any time
  size_t left_;
  Arena* outer_;
};
thread_local Arena* Arena::current = nullptr;
thread_local int Arena::filling = -1;

struct StbAssertion {
  const char* what;
};

}  // namespace
}  // namespace qfm::decoders

#define STBI_MALLOC(size) qfm::decoders::Arena::current->resize(nullptr, size)
#define STBI_REALLOC(data, size) qfm::decoders::Arena::current->resize(data, size)
#define STBI_FREE(data) qfm::decoders::Arena::current->release(data)
#define STBI_ASSERT(condition) ((condition) ? void() : throw qfm::decoders::StbAssertion{#condition})
#define STBI_MAX_DIMENSIONS (1 << 20)
#define STBI_ONLY_TGA
#define STBI_SUPPORT_ZLIB
#if !QFM_WITH_PNG
#define STBI_ONLY_PNG
#endif
#if !QFM_WITH_GIF
#define STBI_ONLY_GIF
#endif
#if !QFM_WITH_JPEG_TURBO
#define STBI_ONLY_JPEG
#endif
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>

namespace qfm::decoders {
namespace {

struct Stream {
  const Source& source;
  size_t at = 0;
  char* buffer = nullptr;  // stb's own look-ahead: the only reader that may get less than it asks for

  static int read(void* user, char* to, int size) {
    auto& s = *static_cast<Stream*>(user);
    if (!s.buffer) s.buffer = to;
    const size_t wanted = static_cast<size_t>(size), count = std::min(wanted, s.source.bytes.size() - s.at);
    if (count == 0 || (to != s.buffer && count < wanted)) s.source.truncated();
    std::memcpy(to, s.source.bytes.data() + s.at, count);
    s.at += count;
    return static_cast<int>(count);
  }
  static void skip(void* user, int size) {
    auto& s = *static_cast<Stream*>(user);
    s.at += s.source.part(s.at, static_cast<size_t>(size)).size();
  }
  static int at_end(void* user) {
    auto& s = *static_cast<Stream*>(user);
    return s.at == s.source.bytes.size();
  }
};

}  // namespace

void stb_decode(const Source& source, int width, int height, int channels,
                const std::function<void(const uint8_t* pixels)>& use) {
  const auto pixels = static_cast<size_t>(width) * static_cast<size_t>(height);
  QFM_CHECK(pixels < (size_t{1} << 28), source.name, ": ", width, "x", height, " pixels are too many for ",
            source.format);  // stb counts bytes in an int
  // Two copies of 16-bit RGBA, inflated data twice that size while it grows, and the file itself.
  Arena arena(pixels * 40 + source.bytes.size() * 4 + (size_t{1} << 20));
  Stream stream{source};
  const stbi_io_callbacks callbacks{Stream::read, Stream::skip, Stream::at_end};
  stbi__g_failure_reason = nullptr;
  int w = 0, h = 0, stored = 0;
  const uint8_t* data = nullptr;
  try {
    data = stbi_load_from_callbacks(&callbacks, &stream, &w, &h, &stored, channels);
  } catch (const StbAssertion& failed) {
    source.corrupt(failed.what);
  }
  if (!data) source.corrupt(stbi__g_failure_reason ? stbi__g_failure_reason : "cannot be decoded");
  if (w != width || h != height) source.corrupt("two different sizes");
  use(data);
}

std::string stb_inflate(std::span<const uint8_t> zlib, size_t most) {
  std::string text(most, '\0');
  const int size = stbi_zlib_decode_buffer(text.data(), static_cast<int>(most), reinterpret_cast<const char*>(zlib.data()),
                                           static_cast<int>(std::min<size_t>(zlib.size(), most)));
  text.resize(static_cast<size_t>(std::max(0, size)));
  return text;
}

void fill_stb_memory(int byte) { Arena::filling = byte; }

Decoded stb_image(const Source& source, int width, int height, bool alpha) {
  const Layout layout = alpha ? Layout::RgbAlpha : Layout::Rgb;
  std::optional<Decoded> out;
  stb_decode(source, width, height, channels_of(layout), [&](const uint8_t* pixels) {
    out.emplace(width, height, layout);
    std::copy_n(pixels, out->pixels.size(), out->pixels.data());
  });
  return std::move(*out);
}

#if !QFM_WITH_JPEG_TURBO
Decoded decode_jpeg(const Source& source) {
  const JpegHeader header = read_jpeg_header(source);
  // stb takes four components for CMYK or YCCK by the Adobe marker, and would drop the fourth without it.
  if (header.components == 4 && header.adobe_transform < 0)
    source.unsupported("four-component, not by Adobe:");
  if (!header.ended) source.truncated();  // stb would not tell a missing pixel from a missing mark
  Decoded out = stb_image(source, header.width, header.height, false);
  out.orientation = header.orientation();
  return out;
}
#endif

}  // namespace qfm::decoders
