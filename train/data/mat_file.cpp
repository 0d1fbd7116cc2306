#include "train/data/mat_file.h"

#include <matio.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <span>

#include "engine/base/error.h"
#include "engine/base/io.h"

namespace qfm {
namespace {

using Bytes = std::span<const unsigned char>;

// Every element must fit into what holds it: libmatio allocates what a tag claims before it reads. Content
// that is compressed is libmatio's own to check.
void check_elements(const std::string& path, Bytes file, size_t begin, size_t end, bool swapped, int depth) {
  constexpr uint32_t matrix = 14;
  const auto word = [&](size_t at) {
    uint32_t value;
    std::memcpy(&value, file.data() + at, sizeof value);
    return swapped ? __builtin_bswap32(value) : value;
  };
  QFM_CHECK(depth < 16, path, ": arrays nested too deeply");
  while (begin < end) {
    QFM_CHECK(end - begin >= 8, path, ": ends inside an element at byte ", begin);
    const uint32_t type = word(begin), bytes = word(begin + 4);
    if (type >> 16) {  // at most 4 bytes, packed into the tag
      begin += 8;
      continue;
    }
    const size_t left = end - begin - 8;
    QFM_CHECK(bytes <= left, path, ": cut short or damaged: an element at byte ", begin, " claims ", bytes,
              " bytes, ", left, " are left");
    if (type == matrix) check_elements(path, file, begin + 8, begin + 8 + bytes, swapped, depth + 1);
    const size_t padded = type == matrix || type == 15 ? bytes : (size_t{bytes} + 7) / 8 * 8;
    begin += 8 + std::min(padded, left);
  }
}

void check_file(const std::string& path) {
  const auto file = read_file(path, size_t{64} << 20);
  QFM_CHECK(file.size() >= 128, path, ": ", file.size(), " bytes are no MAT file");
  const bool little = file[126] == 'I' && file[127] == 'M', big = file[126] == 'M' && file[127] == 'I';
  QFM_CHECK((little && file[125] == 1) || (big && file[124] == 1), path,
            ": not a MAT file of version 5 (save it with -v7 or -v6)");
  check_elements(path, file, 128, file.size(), big, 0);
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
