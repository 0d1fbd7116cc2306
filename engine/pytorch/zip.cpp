#include "engine/pytorch/zip.h"

#include <string_view>

#include "engine/base/error.h"

namespace qfm {
namespace {

constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50, kEnd64 = 0x06064b50,
                   kLocator64 = 0x07064b50;
constexpr uint64_t kEndBytes = 22, kLocatorBytes = 20, kEnd64Bytes = 56, kCentralBytes = 46, kLocalBytes = 30;
constexpr uint64_t kMaxDirectory = 64 << 20;
constexpr uint32_t kIn64 = 0xffffffff;  // the number stands in the entry's extra field, in 64 bits

uint64_t little_endian(std::string_view bytes, size_t at, size_t count) {
  uint64_t value = 0;
  for (size_t i = count; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}
uint16_t u16(std::string_view b, size_t at) { return static_cast<uint16_t>(little_endian(b, at, 2)); }
uint32_t u32(std::string_view b, size_t at) { return static_cast<uint32_t>(little_endian(b, at, 4)); }
uint64_t u64(std::string_view b, size_t at) { return little_endian(b, at, 8); }

std::string bytes_at(const InputFile& file, uint64_t begin, uint64_t count) {
  std::string bytes(count, '\0');
  file.read(begin, bytes.data(), bytes.size());
  return bytes;
}

// The central directory. An archive may have a comment behind its end; PyTorch's have none.
ByteRange directory_of(const InputFile& file) {
  const uint64_t size = file.size();
  QFM_CHECK(size >= kEndBytes, file.path(), ": truncated");
  const std::string end = bytes_at(file, size - kEndBytes, kEndBytes);
  QFM_CHECK(u32(end, 0) == kEnd, file.path(),
            ": truncated, or no zip archive of PyTorch (its directory is not at the end)");
  ByteRange range{u32(end, 16), 0};
  uint64_t bytes = u32(end, 12);
  if (size >= kEndBytes + kLocatorBytes) {
    const std::string locator = bytes_at(file, size - kEndBytes - kLocatorBytes, kLocatorBytes);
    if (u32(locator, 0) == kLocator64) {
      const uint64_t at = u64(locator, 8);
      QFM_CHECK(at < size && size - at >= kEnd64Bytes, file.path(), ": its zip directory lies outside the file");
      const std::string end64 = bytes_at(file, at, kEnd64Bytes);
      QFM_CHECK(u32(end64, 0) == kEnd64, file.path(), ": its zip directory is damaged");
      bytes = u64(end64, 40), range.begin = u64(end64, 48);
    }
  }
  QFM_CHECK(range.begin < size && bytes <= size - range.begin, file.path(),
            ": its zip directory lies outside the file");
  QFM_CHECK(bytes <= kMaxDirectory, file.path(), ": a zip directory of ", bytes, " bytes");
  range.end = range.begin + bytes;
  return range;
}

// One entry of the central directory.
struct Entry {
  std::string name;
  uint64_t size, compressed, offset;
  uint16_t flags, method;
};

// Takes the 64-bit form of what stands as kIn64, in the order that the format has.
void read_zip64(const std::string& path, std::string_view extra, Entry& entry) {
  while (extra.size() >= 4) {
    const uint16_t id = u16(extra, 0), bytes = u16(extra, 2);
    QFM_CHECK(bytes <= extra.size() - 4, path, ": its zip directory is damaged");
    std::string_view field = extra.substr(4, bytes);
    extra.remove_prefix(4 + size_t{bytes});
    if (id != 1) continue;
    for (uint64_t* number : {&entry.size, &entry.compressed, &entry.offset}) {
      if (*number != kIn64) continue;
      QFM_CHECK(field.size() >= 8, path, ": its zip directory is damaged");
      *number = u64(field, 0), field.remove_prefix(8);
    }
  }
}

// Takes one entry off the front of `directory`.
Entry take_entry(const std::string& path, std::string_view& directory) {
  QFM_CHECK(directory.size() >= kCentralBytes && u32(directory, 0) == kCentral, path, ": its zip directory is damaged");
  const size_t name = u16(directory, 28), extra = u16(directory, 30), comment = u16(directory, 32),
               all = kCentralBytes + name + extra + comment;
  QFM_CHECK(all <= directory.size(), path, ": its zip directory is damaged");
  Entry e{std::string(directory.substr(kCentralBytes, name)), u32(directory, 24), u32(directory, 20),
          u32(directory, 42), u16(directory, 8), u16(directory, 10)};
  read_zip64(path, directory.substr(kCentralBytes + name, extra), e);
  directory.remove_prefix(all);
  return e;
}

ByteRange place_of(const InputFile& file, const Entry& e, uint64_t data_end) {
  const auto fail = [&](const auto&... why) { QFM_FAIL(file.path(), ": zip member '", e.name, "' ", why...); };
  if (e.flags & 1) fail("is encrypted");
  if (e.method != 0 || e.size != e.compressed) fail("is compressed, which PyTorch's are not");
  if (e.offset > data_end || data_end - e.offset < kLocalBytes) fail("lies outside the file");
  const std::string local = bytes_at(file, e.offset, kLocalBytes);
  if (u32(local, 0) != kLocal) fail("has no header");
  const uint64_t begin = e.offset + kLocalBytes + u16(local, 26) + u16(local, 28);
  if (begin > data_end || e.size > data_end - begin) fail("lies outside the file");
  return {begin, begin + e.size};
}

}  // namespace

std::map<std::string, ByteRange> zip_members(const InputFile& file) {
  const ByteRange range = directory_of(file);
  const std::string bytes = bytes_at(file, range.begin, range.size());
  std::map<std::string, ByteRange> members;
  for (std::string_view directory = bytes; !directory.empty();) {
    const Entry e = take_entry(file.path(), directory);
    const bool fresh = members.emplace(e.name, place_of(file, e, range.begin)).second;
    QFM_CHECK(fresh, file.path(), ": two zip members '", e.name, "'");
  }
  return members;
}

}  // namespace qfm
