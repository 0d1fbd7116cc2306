#include "train/data/mat_file.h"

#include <matio.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <new>
#include <optional>
#include <span>

#include "engine/base/error.h"
#include "engine/base/io.h"

namespace qfm {
namespace {

using Bytes = std::span<const uint8_t>;

// The elements of a file or of a matrix, one after the other, each inside of what it is in.
class Elements {
 public:
  enum Type : uint32_t { Int32 = 5, UInt32 = 6, Matrix = 14, Compressed = 15 };
  struct Element {
    uint32_t type = 0;
    Bytes data = {};
  };

  Elements(const std::string& path, Bytes bytes, bool swapped)
      : path_(path), bytes_(bytes), swapped_(swapped) {}
  bool done() const { return bytes_.empty(); }
  uint32_t word(Bytes bytes, size_t index) const {
    QFM_CHECK(bytes.size() >= 4 * (index + 1), path_, ": cut short or damaged: an element is too short");
    uint32_t value;
    std::memcpy(&value, bytes.data() + 4 * index, sizeof value);
    return swapped_ ? __builtin_bswap32(value) : value;
  }
  Element next() {
    const uint32_t tag = word(bytes_, 0);
    const bool small = tag >> 16;  // at most 4 bytes, packed into the tag
    const uint32_t size = small ? tag >> 16 : word(bytes_, 1);
    const size_t head = small ? 4 : 8, left = bytes_.size() - std::min(head, bytes_.size());
    QFM_CHECK(size <= (small ? 4 : left) && (!small || left >= 4), path_, ": cut short or damaged: an element claims ", size, " bytes, ", left,
              " are left");
    const Element found{tag & 0xFFFF, bytes_.subspan(head, size)};
    const bool packed = found.type == Matrix || found.type == Compressed;
    const size_t padded = small ? 4 : packed ? size : (size_t{size} + 7) / 8 * 8;
    bytes_ = bytes_.subspan(head + std::min(padded, left));
    return found;
  }

 private:
  const std::string& path_;
  Bytes bytes_;
  bool swapped_;
};

// Bytes of a number of each type; 0: no type of numbers.
size_t number_size(uint32_t type) {
  constexpr uint8_t sizes[] = {0, 1, 1, 2, 2, 4, 4, 4, 0, 8, 0, 0, 8, 8, 0, 0, 1, 2, 4};
  return type < std::size(sizes) ? sizes[type] : 0;
}

// libmatio takes a matrix's claimed dimensions on trust and fills up what is not there with zeros.
void check_matrix(const std::string& path, Bytes bytes, bool swapped, int depth) {
  enum : uint32_t { Cell = 1, Text = 4, Double = 6, UInt64 = 15 };
  QFM_CHECK(depth < 16, path, ": arrays nested too deeply");
  if (bytes.empty()) return;  // an empty array
  Elements parts(path, bytes, swapped);
  const uint32_t kind = parts.word(parts.next().data, 0) & 0xFF;
  const auto dimensions = parts.next();
  QFM_CHECK(dimensions.type == Elements::Int32, path, ": damaged: an array without dimensions");
  constexpr uint64_t most = uint64_t{1} << 32;
  uint64_t count = 1, matrices = 0;
  for (size_t i = 0; i < dimensions.data.size() / 4; ++i) count = std::min(most, count * std::min<uint64_t>(most, parts.word(dimensions.data, i)));
  parts.next();  // its name
  std::optional<Elements::Element> values;
  while (!parts.done()) {
    const auto part = parts.next();
    if (part.type == Elements::Matrix) check_matrix(path, part.data, swapped, depth + 1), ++matrices;
    else if (!values) values = part;
  }
  uint64_t there = count;
  const size_t size = values ? number_size(values->type) : 0;
  if (kind == Cell) there = matrices;
  else if (kind == Text || (kind >= Double && kind <= UInt64)) there = size > 0 ? values->data.size() / size : 0;
  // A letter may take several bytes.
  QFM_CHECK(there == count || (kind == Text && there > count), path, ": damaged: an array of ", count, " values has ", there);
}

// What zlib packed, of at most 256 MiB; empty where it is damaged or more.
std::vector<uint8_t> inflated(Bytes packed) {
  constexpr size_t most = size_t{256} << 20;
  std::vector<uint8_t> out(std::min(most, 4 * packed.size() + 64));
  z_stream stream{};
  if (inflateInit(&stream) != Z_OK) throw std::bad_alloc();
  stream.next_in = const_cast<uint8_t*>(packed.data()), stream.avail_in = static_cast<uInt>(packed.size());
  int status = Z_OK;
  while (status == Z_OK) {
    if (stream.total_out == out.size()) out.resize(std::min(most, 2 * out.size()));
    stream.next_out = out.data() + stream.total_out, stream.avail_out = static_cast<uInt>(out.size() - stream.total_out);
    status = stream.avail_out > 0 ? inflate(&stream, Z_NO_FLUSH) : Z_MEM_ERROR;
  }
  out.resize(status == Z_STREAM_END ? stream.total_out : 0);
  inflateEnd(&stream);
  return out;
}

void check_elements(const std::string& path, Bytes bytes, bool swapped, bool inside = false) {
  for (Elements elements(path, bytes, swapped); !elements.done();) {
    const auto element = elements.next();
    if (element.type == Elements::Matrix) check_matrix(path, element.data, swapped, 0);
    if (element.type != Elements::Compressed) continue;
    const auto unpacked = inflated(element.data);
    QFM_CHECK(!unpacked.empty() && !inside, path, ": damaged: a compressed array cannot be unpacked");
    check_elements(path, unpacked, swapped, true);
  }
}

void check_file(const std::string& path) {
  const auto file = read_file(path, size_t{64} << 20);
  QFM_CHECK(file.size() >= 128, path, ": ", file.size(), " bytes are no MAT file");
  const bool little = file[126] == 'I' && file[127] == 'M', big = file[126] == 'M' && file[127] == 'I';
  QFM_CHECK((little && file[125] == 1) || (big && file[124] == 1), path,
            ": not a MAT file of version 5 (save it with -v7 or -v6)");
  check_elements(path, std::span(file).subspan(128), big);
}

void append_utf8(std::string& text, uint32_t code) {
  if (code < 0x80) {
    text += static_cast<char>(code);
    return;
  }
  const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  text += static_cast<char>((0xF0 << (3 - more)) | code >> (6 * more));
  for (int i = more - 1; i >= 0; --i) text += static_cast<char>(0x80 | (code >> (6 * i) & 0x3F));
}

std::string from_utf16(const uint16_t* units, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) {
    uint32_t code = units[i];
    const bool pair = code >= 0xD800 && code < 0xDC00 && i + 1 < count && (units[i + 1] & 0xFC00) == 0xDC00;
    if (pair) code = 0x10000 + ((code & 0x3FF) << 10) + (units[++i] & 0x3FF);
    else if ((code & 0xF800) == 0xD800) code = 0xFFFD;
    append_utf8(text, code);
  }
  return text;
}

struct FreeVariable {
  void operator()(matvar_t* v) const { Mat_VarFree(v); }
};
using Variable = std::unique_ptr<matvar_t, FreeVariable>;

template <class T>
void append_as(std::vector<double>& values, const matvar_t& v) {
  const auto* data = static_cast<const T*>(v.data);
  for (size_t i = 0; i < v.nbytes / sizeof(T); ++i) values.push_back(static_cast<double>(data[i]));
}

}  // namespace

struct MatFile::Handle {
  mat_t* file;
  ~Handle() { Mat_Close(file); }
};

MatFile::MatFile(const std::string& path) : path_(path) {
  check_file(path);
  Mat_LogInitFunc("qfm", [](int, char*) {});  // reasons are in our own words
  mat_t* file = Mat_Open(path.c_str(), MAT_ACC_RDONLY);
  QFM_CHECK(file, path, ": damaged: libmatio cannot open it");
  handle_.reset(new Handle{file});
}

MatFile::~MatFile() = default;

bool MatFile::has(const std::string& name) const {
  Mat_Rewind(handle_->file);
  return Variable(Mat_VarReadInfo(handle_->file, name.c_str())) != nullptr;
}

namespace {

Variable read_variable(mat_t* file, const std::string& path, const std::string& name) {
  Mat_Rewind(file);
  Variable v(Mat_VarRead(file, name.c_str()));
  QFM_CHECK(v, path, ": no array ", name, ", or the file is damaged");
  size_t count = 1;
  for (int i = 0; i < v->rank; ++i) count *= v->dims[i];
  QFM_CHECK(v->data && v->data_size > 0 && v->nbytes / static_cast<size_t>(v->data_size) == count, path, ": ",
            name, " is empty or damaged");
  return v;
}

}  // namespace

std::vector<double> MatFile::numbers(const std::string& name) const {
  const Variable v = read_variable(handle_->file, path_, name);
  QFM_CHECK(!v->isComplex, path_, ": ", name, " holds complex numbers");
  std::vector<double> values;
  switch (v->class_type) {
    case MAT_C_DOUBLE:
      append_as<double>(values, *v);
      break;
    case MAT_C_SINGLE:
      append_as<float>(values, *v);
      break;
    case MAT_C_UINT8:
      append_as<uint8_t>(values, *v);
      break;
    case MAT_C_INT8:
      append_as<int8_t>(values, *v);
      break;
    case MAT_C_UINT16:
      append_as<uint16_t>(values, *v);
      break;
    case MAT_C_INT16:
      append_as<int16_t>(values, *v);
      break;
    case MAT_C_UINT32:
      append_as<uint32_t>(values, *v);
      break;
    case MAT_C_INT32:
      append_as<int32_t>(values, *v);
      break;
    default:
      QFM_FAIL(path_, ": ", name, " is not an array of numbers");
  }
  return values;
}

std::vector<std::string> MatFile::texts(const std::string& name) const {
  const Variable v = read_variable(handle_->file, path_, name);
  QFM_CHECK(v->class_type == MAT_C_CELL, path_, ": ", name, " is not a cell array");
  const auto* const* cells = static_cast<const matvar_t* const*>(v->data);
  std::vector<std::string> texts;
  for (size_t i = 0; i < v->nbytes / sizeof(matvar_t*); ++i) {
    const matvar_t* cell = cells[i];
    QFM_CHECK(cell && cell->class_type == MAT_C_CHAR, path_, ": ", name, ": cell ", i + 1, " is no text");
    const bool wide = cell->data_type == MAT_T_UINT16 || cell->data_type == MAT_T_UTF16;
    const bool bytes = cell->data_type == MAT_T_UINT8 || cell->data_type == MAT_T_UTF8;
    QFM_CHECK(wide || bytes, path_, ": ", name, ": cell ", i + 1, " is text of an unknown kind");
    if (!cell->data) texts.emplace_back();
    else if (wide) texts.push_back(from_utf16(static_cast<const uint16_t*>(cell->data), cell->nbytes / 2));
    else texts.emplace_back(static_cast<const char*>(cell->data), cell->nbytes);
  }
  return texts;
}

}  // namespace qfm
