// GIF by giflib: the first frame, on a transparent screen.
#include <gif_lib.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "train/image/decode/decoders.h"

namespace qfm::decoders {
namespace {

int read_gif_bytes(GifFileType* gif, GifByteType* to, int size) {
  auto& left = *static_cast<std::span<const uint8_t>*>(gif->UserData);
  const size_t count = std::min(left.size(), static_cast<size_t>(size));
  std::copy_n(left.data(), count, to);
  left = left.subspan(count);
  return static_cast<int>(count);
}

struct CloseGif {
  void operator()(GifFileType* gif) const { DGifCloseFile(gif, nullptr); }
};

class GifReader {
 public:
  explicit GifReader(const Source& source) : source_(source), left_(source.bytes) {
    int error = 0;
    gif_.reset(DGifOpen(&left_, read_gif_bytes, &error));
    if (!gif_) fail(error);
  }
  // Up to the first frame, whose place is then gif().Image; returns its transparent index, or -1.
  int find_frame() {
    int transparent = -1;
    for (GifRecordType record;;) {
      check(DGifGetRecordType(gif_.get(), &record));
      if (record == TERMINATE_RECORD_TYPE) source_.corrupt("no picture in it");
      if (record == EXTENSION_RECORD_TYPE) read_extension(transparent);
      if (record != IMAGE_DESC_RECORD_TYPE) continue;
      check(DGifGetImageDesc(gif_.get()));
      return transparent;
    }
  }
  // One index a pixel, rows top to bottom. The frame has been checked.
  std::vector<uint8_t> read_frame() {
    const GifImageDesc& frame = gif_->Image;
    std::vector<uint8_t> indices(static_cast<size_t>(frame.Width) * static_cast<size_t>(frame.Height));
    const auto read_rows = [&](int first, int step) {
      for (int y = first; y < frame.Height; y += step)
        check(DGifGetLine(gif_.get(), indices.data() + static_cast<ptrdiff_t>(y) * frame.Width, frame.Width));
    };
    if (!frame.Interlace) read_rows(0, 1);
    else read_rows(0, 8), read_rows(4, 8), read_rows(2, 4), read_rows(1, 2);
    return indices;
  }
  const GifFileType& gif() const { return *gif_; }

 private:
  void read_extension(int& transparent) {
    int code = 0;
    GifByteType* block = nullptr;
    check(DGifGetExtension(gif_.get(), &code, &block));
    GraphicsControlBlock control{};
    if (code == GRAPHICS_EXT_FUNC_CODE && block) {
      if (DGifExtensionToGCB(block[0], block + 1, &control) != GIF_OK) source_.corrupt("bad graphic control");
      transparent = control.TransparentColor;
    }
    while (block) check(DGifGetExtensionNext(gif_.get(), &block));
  }
  void check(int status) const {
    if (status != GIF_OK) fail(gif_->Error);
  }
  [[noreturn]] void fail(int error) const {
    if (left_.empty()) source_.truncated();
    const char* why = GifErrorString(error);
    source_.corrupt(why ? why : "cannot be decoded");
  }

  const Source& source_;
  std::span<const uint8_t> left_;
  std::unique_ptr<GifFileType, CloseGif> gif_;
};

std::vector<Rgba> palette_of(const Source& source, const GifFileType& gif, int transparent) {
  const ColorMapObject* colours = gif.Image.ColorMap ? gif.Image.ColorMap : gif.SColorMap;
  if (!colours) source.corrupt("no palette");
  std::vector<Rgba> palette;
  for (int i = 0; i < colours->ColorCount; ++i) {
    const GifColorType& c = colours->Colors[i];
    palette.push_back({c.Red, c.Green, c.Blue, static_cast<uint8_t>(i == transparent ? 0 : 255)});
  }
  return palette;
}

}  // namespace

Decoded decode_gif(const Source& source) {
  const int width = static_cast<int>(source.le16(6)), height = static_cast<int>(source.le16(8));
  source.check_size(width, height, 4096);
  GifReader reader(source);
  const int transparent = reader.find_frame();
  const GifImageDesc& frame = reader.gif().Image;
  if (frame.Width == 0 || frame.Height == 0) source.corrupt("first frame without pixels");
  if (frame.Left + frame.Width > width || frame.Top + frame.Height > height)
    source.corrupt("first frame does not fit in");
  const std::vector<Rgba> palette = palette_of(source, reader.gif(), transparent);
  Decoded picture = paint(source, frame.Width, frame.Height, reader.read_frame(), palette);
  if (frame.Width == width && frame.Height == height) return picture;
  Decoded screen(width, height, Layout::RgbAlpha);
  const size_t channels = static_cast<size_t>(channels_of(picture.layout));
  for (int y = 0; y < picture.height; ++y) {
    const uint8_t* from = picture.row(y);
    uint8_t* to = screen.row(frame.Top + y) + 4 * frame.Left;
    for (int x = 0; x < picture.width; ++x, from += channels, to += 4) {
      to[3] = 255;
      std::copy_n(from, channels, to);
    }
  }
  return screen;
}

}  // namespace qfm::decoders
