#include "engine/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/base/io.h"

namespace qfm {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxHeader = 100'000'000;  // the limit of the reference implementation

struct File {
  int fd;
  explicit File(const std::string& path) : fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    QFM_CHECK(fd >= 0, path, ": ", std::strerror(errno));
  }
  ~File() { ::close(fd); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
};

void read_at(const File& file, const std::string& path, uint64_t offset, void* to, size_t bytes) {
  char* p = static_cast<char*>(to);
  while (bytes > 0) {
    const ssize_t n = ::pread(file.fd, p, bytes, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    QFM_CHECK(n >= 0, path, ": ", std::strerror(errno));
    QFM_CHECK(n > 0, path, ": truncated");
    p += n, offset += static_cast<uint64_t>(n), bytes -= static_cast<size_t>(n);
  }
}

size_t element_size(const std::string& dtype) {
  static const std::map<std::string, size_t> sizes{
      {"F64", 8},  {"I64", 8}, {"U64", 8}, {"F32", 4}, {"I32", 4}, {"U32", 4}, {"F16", 2},
      {"BF16", 2}, {"I16", 2}, {"U16", 2}, {"I8", 1},  {"U8", 1},  {"BOOL", 1}};
  const auto it = sizes.find(dtype);
  return it == sizes.end() ? 0 : it->second;
}

json parse_header(const std::string& path, const std::string& text) {
  // nlohmann keeps the last of two equal keys; a header with two tensors of one name is a lie, so keys are counted.
  std::vector<std::set<std::string>> seen;
  std::string duplicate;
  auto watch = [&](int, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) seen.emplace_back();
    if (event == json::parse_event_t::object_end && !seen.empty()) seen.pop_back();
    if (event == json::parse_event_t::key && !seen.empty() &&
        !seen.back().insert(parsed.get<std::string>()).second)
      duplicate = parsed.get<std::string>();
    return true;
  };
  json header;
  try {
    header = json::parse(text, watch);
  } catch (const json::exception&) {
    QFM_FAIL(path, ": the header is not valid JSON");
  }
  QFM_CHECK(duplicate.empty(), path, ": the header names '", duplicate, "' twice");
  QFM_CHECK(header.is_object(), path, ": the header is not a JSON object");
  return header;
}

SafeTensors::Entry parse_entry(const std::string& path, const std::string& name, const json& j,
                               uint64_t data_bytes) {
  const auto fail = [&](const std::string& reason) { QFM_FAIL(path, ": tensor '", name, "': ", reason); };
  if (!j.is_object() || !j.contains("dtype") || !j.contains("shape") || !j.contains("data_offsets"))
    fail("needs dtype, shape and data_offsets");
  const json &dtype = j["dtype"], &shape = j["shape"], &offsets = j["data_offsets"];
  if (!dtype.is_string() || element_size(dtype.get<std::string>()) == 0)
    fail("unknown dtype " + dtype.dump());
  if (!shape.is_array() || shape.size() > Shape::kMaxRank) fail("shape is not a list of at most 6 numbers");
  if (!offsets.is_array() || offsets.size() != 2) fail("data_offsets is not a pair");
  std::vector<int64_t> dims;
  for (const json& d : shape) {
    if (!d.is_number_unsigned() || d.get<uint64_t>() > (uint64_t{1} << 62))
      fail("shape " + shape.dump() + " is not valid");
    dims.push_back(d.get<int64_t>());
  }
  for (const json& o : offsets)
    if (!o.is_number_unsigned()) fail("data_offsets " + offsets.dump() + " are not valid");
  SafeTensors::Entry e;
  e.dtype = dtype.get<std::string>();
  try {
    e.shape = Shape(std::span<const int64_t>(dims));
  } catch (const Error& error) {
    fail(error.what());
  }
  e.begin = offsets[0].get<uint64_t>(), e.end = offsets[1].get<uint64_t>();
  if (e.begin > e.end || e.end > data_bytes) fail("data_offsets " + offsets.dump() + " lie outside the file");
  const uint64_t elements = (e.end - e.begin) / element_size(e.dtype);
  if (elements * element_size(e.dtype) != e.end - e.begin ||
      elements != static_cast<uint64_t>(e.shape.numel()))
    fail("shape " + shape.dump() + " does not fill data_offsets " + offsets.dump());
  return e;
}

void check_layout(const std::string& path, const std::map<std::string, SafeTensors::Entry>& entries,
                  uint64_t bytes) {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const auto& [name, e] : entries) ranges.emplace_back(e.begin, e.end);
  std::sort(ranges.begin(), ranges.end());
  uint64_t at = 0;
  for (const auto& [begin, end] : ranges) {
    QFM_CHECK(begin == at, path, ": tensors ", begin < at ? "overlap" : "leave a hole", " at data byte ",
              begin);
    at = end;
  }
  QFM_CHECK(at == bytes, path, ": ", at > bytes ? "truncated" : "data after the last tensor", " (", bytes,
            " bytes of data, the header describes ", at, ")");
}

DType tensor_dtype(const std::string& dtype) {
  if (dtype == "F32" || dtype == "F16") return DType::F32;
  if (dtype == "BF16") return DType::BF16;
  if (dtype == "F64") return DType::F64;
  if (dtype == "I32") return DType::I32;
  if (dtype == "I64") return DType::I64;
  if (dtype == "I8") return DType::I8;
  QFM_FAIL("dtype ", dtype, " cannot be a tensor here");
}

constexpr float kBeyondHalf = 65520;  // what F16 would round to infinity

// The dtype that a tensor has in the file. What F16 cannot hold, such as the variance of a channel, stays as it is.
std::string stored_dtype(const Tensor& tensor, StoreAs store) {
  if (!is_floating(tensor.dtype()) || store == StoreAs::AsIs) return name_of(tensor.dtype());
  if (store == StoreAs::BF16) return "BF16";
  const Tensor full = tensor.to(cpu_device).to(DType::F32);
  for (const float v : full.span<float>())
    if (std::isfinite(v) && std::fabs(v) >= kBeyondHalf) return name_of(tensor.dtype());
  return "F16";
}

// What goes to the file for one tensor: its bytes.
struct Stored {
  Tensor tensor;
  std::vector<uint16_t> halves;
  const void* data() const { return halves.empty() ? tensor.raw() : halves.data(); }
  size_t bytes() const { return halves.empty() ? tensor.bytes() : halves.size() * 2; }
};

Stored stored(const Tensor& tensor, const std::string& dtype) {
  const Tensor host = tensor.to(cpu_device);
  if (dtype == name_of(host.dtype())) return {host, {}};
  if (dtype == "BF16") return {host.to(DType::BF16), {}};
  const Tensor full = host.to(DType::F32);
  Stored result{full, {}};
  for (float v : full.span<float>()) result.halves.push_back(float_to_half(v));
  return result;
}

}  // namespace

SafeTensors SafeTensors::open(const std::string& path) {
  const File file(path);
  struct stat info {};
  QFM_CHECK(::fstat(file.fd, &info) == 0, path, ": ", std::strerror(errno));
  QFM_CHECK(S_ISREG(info.st_mode), path, ": not a regular file");
  const auto size = static_cast<uint64_t>(info.st_size);
  QFM_CHECK(size >= 8, path, ": ", size, " bytes is too short for a safetensors file");
  unsigned char length[8];
  read_at(file, path, 0, length, 8);
  uint64_t header_bytes = 0;
  for (int i = 7; i >= 0; --i) header_bytes = header_bytes << 8 | length[i];
  QFM_CHECK(header_bytes <= kMaxHeader, path, ": not a safetensors file (header of ", header_bytes,
            " bytes)");
  QFM_CHECK(header_bytes <= size - 8, path, ": truncated in the header (", header_bytes, " bytes announced, ",
            size - 8, " there)");
  std::string text(header_bytes, '\0');
  read_at(file, path, 8, text.data(), header_bytes);

  SafeTensors result;
  result.path_ = path;
  result.data_offset_ = 8 + header_bytes;
  const uint64_t data_bytes = size - result.data_offset_;
  const auto header = parse_header(path, text);  // a temporary would not outlive the start of the loop
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      QFM_CHECK(value.is_object(), path, ": __metadata__ is not an object");
      for (const auto& [key, entry] : value.items()) {
        QFM_CHECK(entry.is_string(), path, ": __metadata__ '", key, "' is not a text");
        result.metadata_[key] = entry.get<std::string>();
      }
    } else {
      result.entries_[name] = parse_entry(path, name, value, data_bytes);
    }
  }
  check_layout(path, result.entries_, data_bytes);
  return result;
}

const SafeTensors::Entry& SafeTensors::entry(const std::string& name) const {
  const auto it = entries_.find(name);
  QFM_CHECK(it != entries_.end(), path_, ": has no tensor '", name, "'");
  return it->second;
}

void SafeTensors::read(uint64_t offset, void* to, size_t bytes) const {
  read_at(File(path_), path_, data_offset_ + offset, to, bytes);
}

std::vector<unsigned char> SafeTensors::bytes(const std::string& name) const {
  const Entry& e = entry(name);
  std::vector<unsigned char> data(e.end - e.begin);
  read(e.begin, data.data(), data.size());
  return data;
}

Tensor SafeTensors::tensor(const std::string& name) const {
  const Entry& e = entry(name);
  Tensor t;
  try {
    t = Tensor(e.shape, tensor_dtype(e.dtype));
  } catch (const OutOfMemory&) {
    throw;
  } catch (const Error& error) {
    QFM_FAIL(path_, ": tensor '", name, "': ", error.what());
  }
  if (e.dtype != "F16") {
    read(e.begin, t.raw(), t.bytes());
    return t;
  }
  const auto raw = bytes(name);
  auto values = t.span<float>();
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = half_to_float(static_cast<uint16_t>(raw[2 * i] | raw[2 * i + 1] << 8));
  return t;
}

void write_safetensors(const std::string& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata, StoreAs store) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t at = 0;
  for (const auto& [name, tensor] : tensors) {
    QFM_CHECK(!header.contains(name), path, ": tensor '", name, "' is written twice");
    const std::string dtype = stored_dtype(tensor, store);
    const uint64_t bytes = static_cast<uint64_t>(tensor.numel()) * element_size(dtype);
    header[name] = {{"dtype", dtype},
                    {"shape", std::vector<int64_t>(tensor.shape().begin(), tensor.shape().end())},
                    {"data_offsets", {at, at + bytes}}};
    at += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  AtomicFile file(path);
  unsigned char length[8];
  for (int i = 0; i < 8; ++i) length[i] = static_cast<unsigned char>(text.size() >> 8 * i);
  file.write(length, 8);
  file.write(text);
  for (const auto& [name, tensor] : tensors) {
    const Stored s = stored(tensor, header[name]["dtype"]);
    file.write(s.data(), s.bytes());
  }
  file.commit();
}

float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16, exponent = (h >> 10) & 31u,
                 fraction = h & 1023u;
  uint32_t bits;
  if (exponent == 31) {
    bits = sign | 0x7f800000u | fraction << 13;
  } else if (exponent != 0) {
    bits = sign | (exponent + 112) << 23 | fraction << 13;
  } else {  // zero and subnormal: fraction * 2^-24
    const float f = static_cast<float>(fraction) * 0x1p-24f;
    std::memcpy(&bits, &f, 4);
    bits |= sign;
  }
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}

uint16_t float_to_half(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  const uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds to infinity
  if (magnitude < 0x38800000u) {  // subnormal half: units of 2^-24
    float absolute;
    std::memcpy(&absolute, &magnitude, 4);
    const float shifted = absolute + 0.5f;  // the units land in the low mantissa bits, rounded to even
    uint32_t out;
    std::memcpy(&out, &shifted, 4);
    return static_cast<uint16_t>(sign | (out - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return static_cast<uint16_t>(sign | (rounded - 0x38000000u) >> 13);
}

}  // namespace qfm
