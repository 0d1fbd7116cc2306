// A walk over the markers of a JPEG file (ITU-T T.81, annex B), up to its end marker, or up to the scan that holds everything.
#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <numeric>

#include "train/image/decode/decoders.h"
#include "train/image/exif.h"

namespace qfm::decoders {
namespace {

constexpr int most_scans = 100;  // progressive encoders write about ten

bool starts_with(std::span<const uint8_t> bytes, const char* text, size_t size) {
  return bytes.size() >= size && std::memcmp(bytes.data(), text, size) == 0;
}

void read_frame(const Source& source, uint32_t marker, std::span<const uint8_t> payload, JpegHeader& header) {
  if (marker > 0xC2) source.unsupported("arithmetic-coded, lossless or hierarchical");
  if (header.components != 0) source.corrupt("two frame headers");
  if (payload.size() < 6) source.corrupt("short frame header");
  if (payload[0] != 8) source.unsupported(std::to_string(payload[0]) + "-bit");
  header.height = payload[1] << 8 | payload[2];
  header.width = payload[3] << 8 | payload[4];
  header.components = payload[5];
  header.progressive = marker == 0xC2;
  // Every block of 8x8 pixels takes at least one bit.
  source.check_size(header.width, header.height, 512);
  if (header.components != 1 && header.components != 3 && header.components != 4)
    source.unsupported(std::to_string(header.components) + "-component");
}

// Each Huffman table is its class and index, sixteen counts of codes, and so many codes. stb does not check the sum.
void check_huffman_tables(const Source& source, std::span<const uint8_t> payload) {
  while (!payload.empty()) {
    if (payload.size() < 17) source.corrupt("short Huffman table");
    const auto codes = std::accumulate(payload.begin() + 1, payload.begin() + 17, size_t{0});
    if (codes > 256 || codes > payload.size() - 17) source.corrupt("bad Huffman table");
    payload = payload.subspan(17 + codes);
  }
}

// A profile comes in parts, each after its number, from 1, and how many there are.
void add_icc_part(std::span<const uint8_t> payload, std::map<int, std::span<const uint8_t>>& parts, JpegHeader& header) {
  constexpr size_t prefix = 14;
  if (payload.size() < prefix || !starts_with(payload, "ICC_PROFILE", 12)) return;
  parts.emplace(payload[12], payload.subspan(prefix));
  if (static_cast<int>(parts.size()) != payload[13] || parts.rbegin()->first != payload[13]) return;
  for (const auto& [number, part] : parts) header.icc.insert(header.icc.end(), part.begin(), part.end());
}

void read_segment(const Source& source, uint32_t marker, std::span<const uint8_t> payload,
                  JpegHeader& header) {
  const bool frame = marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
  if (frame) read_frame(source, marker, payload, header);
  if (marker == 0xC4) check_huffman_tables(source, payload);
  if (marker == 0xE1 && starts_with(payload, "Exif\0\0", 6) && !header.exif_orientation)
    header.exif_orientation = exif_orientation(payload);
  if (marker == 0xEE && starts_with(payload, "Adobe", 5) && payload.size() >= 12)
    header.adobe_transform = payload[11];
}

bool holds_everything(const JpegHeader& header, std::span<const uint8_t> scan) {
  return !header.progressive && header.components > 0 && !scan.empty() && scan[0] == header.components;
}

bool has_end_marker(std::span<const uint8_t> bytes) {
  constexpr uint8_t marker[] = {0xFF, 0xD9};
  return std::search(bytes.begin(), bytes.end(), std::begin(marker), std::end(marker)) != bytes.end();
}

}  // namespace

JpegHeader read_jpeg_header(const Source& source) {
  const auto bytes = source.bytes;
  JpegHeader header;
  std::map<int, std::span<const uint8_t>> icc_parts;
  size_t at = 2;
  for (int scans = 0;;) {
    // The next marker: 0xFF and a byte that is not 0 (stuffing), 0xFF (filling) or a restart. Walks entropy
    // data, too.
    const void* found = at < bytes.size() ? std::memchr(bytes.data() + at, 0xFF, bytes.size() - at) : nullptr;
    if (!found) source.truncated();
    at = static_cast<size_t>(static_cast<const uint8_t*>(found) - bytes.data()) + 1;
    const uint32_t marker = source.u8(at);
    if (marker == 0xFF) continue;
    ++at;
    if (marker == 0x00 || marker == 0x01 || (marker >= 0xD0 && marker <= 0xD7)) continue;
    if (marker == 0xD8) source.corrupt("a second start marker");
    if (marker == 0xD9) {
      if (header.components == 0 || scans == 0) source.corrupt("no picture before the end marker");
      header.ended = true;
      return header;
    }
    const uint32_t length = source.be16(at);
    if (length < 2) source.corrupt("segment without a length");
    const auto payload = source.part(at + 2, length - 2);
    read_segment(source, marker, payload, header);
    if (marker == 0xE2 && header.icc.empty()) add_icc_part(payload, icc_parts, header);
    if (marker == 0xDA && scans == 0 && holds_everything(header, payload)) {
      header.one_scan = true, header.ended = has_end_marker(bytes.subspan(at + length));
      return header;
    }
    if (marker == 0xDA && ++scans > most_scans) source.corrupt("more than 100 scans");
    at += length;
  }
}

}  // namespace qfm::decoders
