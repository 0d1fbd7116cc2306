#include "engine/safetensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/base/half.h"
#include "engine/base/io.h"

namespace qfm {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxHeader = 100'000'000;  // the limit of the reference implementation

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
  QFM_CHECK(!text.starts_with("\xEF\xBB\xBF"), path, ": the header begins with a byte-order mark");
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

TensorFile::Entry parse_entry(const std::string& path, const std::string& name, const json& j,
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
  TensorFile::Entry e;
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

void check_layout(const std::string& path, const TensorFile::Entries& entries,
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

void read_safetensors(const InputFile& file, TensorFile::Entries& entries, TensorFile::Metadata& metadata) {
  const std::string& path = file.path();
  const uint64_t size = file.size();
  QFM_CHECK(size >= 8, path, ": ", size, " bytes is too short for a safetensors file");
  unsigned char length[8];
  file.read(0, length, 8);
  uint64_t header_bytes = 0;
  for (int i = 7; i >= 0; --i) header_bytes = header_bytes << 8 | length[i];
  QFM_CHECK(header_bytes <= kMaxHeader, path, ": not a safetensors file (header of ", header_bytes,
            " bytes), nor PyTorch's");
  QFM_CHECK(header_bytes <= size - 8, path, ": truncated in the header (", header_bytes, " bytes announced, ",
            size - 8, " there)");
  std::string text(header_bytes, '\0');
  file.read(8, text.data(), header_bytes);
  const uint64_t data = 8 + header_bytes;
  const auto header = parse_header(path, text);  // a temporary would not outlive the start of the loop
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      QFM_CHECK(value.is_object(), path, ": __metadata__ is not an object");
      for (const auto& [key, entry] : value.items()) {
        QFM_CHECK(entry.is_string(), path, ": __metadata__ '", key, "' is not a text");
        metadata[key] = entry.get<std::string>();
      }
    } else {
      entries[name] = parse_entry(path, name, value, size - data);
    }
  }
  check_layout(path, entries, size - data);
  for (auto& [name, entry] : entries) entry.begin += data, entry.end += data;
}

void write_safetensors(const std::string& path, const NamedTensors& tensors, const TensorFile::Metadata& metadata,
                       const std::function<StoreAs(const std::string& name)>& store) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t at = 0;
  for (const auto& [name, tensor] : tensors) {
    QFM_CHECK(!header.contains(name), path, ": tensor '", name, "' is written twice");
    const std::string dtype = stored_dtype(tensor, store(name));
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

}  // namespace qfm
