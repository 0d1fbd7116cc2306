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

// Which quantisation tables there are, and which one each component of the frame names. stb does not ask whether a table
// came before it is used.
class QuantisationTables {
 public:
  explicit QuantisationTables(const Source& source) : source_(source) {}
  void define(std::span<const uint8_t> payload) {
    while (!payload.empty()) {
      const size_t bytes = payload[0] >> 4 ? 128 : 64;
      if (payload.size() <= bytes) source_.corrupt("short quantisation table");
      defined_ |= 1u << (payload[0] & 15);
      payload = payload.subspan(1 + bytes);
    }
  }
  void read_frame(std::span<const uint8_t> payload) {
    for (size_t at = 6; at + 2 < payload.size(); at += 3) table_of_[payload[at]] = payload[at + 2];
  }
  void check_scan(std::span<const uint8_t> payload) const {
    for (size_t i = 0; !payload.empty() && i < payload[0] && 1 + 2 * i < payload.size(); ++i)
      if (const auto named = table_of_.find(payload[1 + 2 * i]);
          named != table_of_.end() && (named->second > 15 || !(defined_ >> named->second & 1)))
        source_.corrupt("no quantisation table " + std::to_string(named->second));
  }

 private:
  const Source& source_;
  uint32_t defined_ = 0;
  std::map<uint8_t, uint8_t> table_of_;
};

// A profile comes in parts, each after its number, from 1, and how many there are.
void add_icc_part(std::span<const uint8_t> payload, std::map<int, std::span<const uint8_t>>& parts, JpegHeader& header) {
  constexpr size_t prefix = 14;
  if (payload.size() < prefix || !starts_with(payload, "ICC_PROFILE", 12)) return;
  parts.emplace(payload[12], payload.subspan(prefix));
  if (static_cast<int>(parts.size()) != payload[13] || parts.rbegin()->first != payload[13]) return;
  for (const auto& [number, part] : parts) header.icc.insert(header.icc.end(), part.begin(), part.end());
}

void read_segment(const Source& source, uint32_t marker, std::span<const uint8_t> payload, QuantisationTables& tables,
                  JpegHeader& header) {
  const bool frame = marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
  if (frame) read_frame(source, marker, payload, header), tables.read_frame(payload);
  if (marker == 0xDB) tables.define(payload);
  if (marker == 0xDA) tables.check_scan(payload);
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
  QuantisationTables tables(source);
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
    read_segment(source, marker, payload, tables, header);
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
