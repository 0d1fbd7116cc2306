// WebP by libwebp, as dwebp decodes it; of an animation the first frame, on a transparent canvas.
#include <webp/decode.h>
#include <webp/demux.h>

#include <memory>

#include "train/image/decode/decoders.h"
#include "train/image/exif.h"

namespace qfm::decoders {
namespace {

// Calls `use` with the content of the first chunk of that name, if there is one.
void with_webp_chunk(const WebPDemuxer* file, const char* name,
                     const std::function<void(std::span<const uint8_t>)>& use) {
  WebPChunkIterator chunk{};
  if (WebPDemuxGetChunk(file, name, 1, &chunk)) use({chunk.chunk.bytes, chunk.chunk.size});
  WebPDemuxReleaseChunkIterator(&chunk);
}

// The first frame. Throws for one whose pixels its bytes cannot hold.
struct WebpFrame {
  WebPIterator at{};
  WebPBitstreamFeatures features{};

  WebpFrame(const Source& source, const WebPDemuxer* file) {
    // A whole file has one, and the demuxer has seen that it lies on the canvas.
    if (!WebPDemuxGetFrame(file, 1, &at) ||
        WebPGetFeatures(at.fragment.bytes, at.fragment.size, &features) != VP8_STATUS_OK)
      source.corrupt("no picture in it");
    // Lossy: at least 1.6 bits for 16 x 16 pixels, for their way of prediction. Lossless: one colour takes none.
    constexpr int lossy = 1;
    if (features.format == lossy) source.check_size(features.width, features.height, 2048);
  }
  ~WebpFrame() { WebPDemuxReleaseIterator(&at); }
  WebpFrame(const WebpFrame&) = delete;
  WebpFrame& operator=(const WebpFrame&) = delete;
};

}  // namespace

Decoded decode_webp(const Source& source) {
  const WebPData data{source.bytes.data(), source.bytes.size()};
  WebPDemuxState state = WEBP_DEMUX_PARSING_HEADER;
  const std::unique_ptr<WebPDemuxer, void (*)(WebPDemuxer*)> file(WebPDemuxPartial(&data, &state), WebPDemuxDelete);
  if (state == WEBP_DEMUX_PARSE_ERROR) source.corrupt("bad chunks");
  if (!file || state != WEBP_DEMUX_DONE) source.truncated();
  const int64_t width = WebPDemuxGetI(file.get(), WEBP_FF_CANVAS_WIDTH),
                height = WebPDemuxGetI(file.get(), WEBP_FF_CANVAS_HEIGHT);
  source.check_size(width, height);
  const WebpFrame frame(source, file.get());
  const bool alpha = frame.features.has_alpha || frame.at.width < width || frame.at.height < height;
  Decoded out(static_cast<int>(width), static_cast<int>(height), alpha ? Layout::RgbAlpha : Layout::Rgb);
  const size_t start = out.stride() * static_cast<size_t>(frame.at.y_offset) +
                       static_cast<size_t>(channels_of(out.layout) * frame.at.x_offset);
  const auto decode = alpha ? WebPDecodeRGBAInto : WebPDecodeRGBInto;
  if (!decode(frame.at.fragment.bytes, frame.at.fragment.size, out.pixels.data() + start, out.pixels.size() - start,
              static_cast<int>(out.stride())))
    source.corrupt("damaged picture data");
  with_webp_chunk(file.get(), "ICCP", [&](auto icc) { out.icc.assign(icc.begin(), icc.end()); });
  with_webp_chunk(file.get(), "EXIF", [&](auto exif) { out.orientation = exif_orientation(exif); });
  return out;
}

}  // namespace qfm::decoders
