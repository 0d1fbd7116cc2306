#include "train/data/csv.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <sstream>

#include "engine/base/error.h"
#include "engine/base/io.h"

namespace qfm {
namespace {

// The text of a table without its byte order mark.
std::string read_table_text(const std::string& path) {
  std::string text = read_text(path, size_t{64} << 20);
  QFM_CHECK(!text.starts_with("\xFF\xFE") && !text.starts_with("\xFE\xFF"), path,
            ": UTF-16 text, a table must be UTF-8");
  const size_t zero = text.find('\0');
  QFM_CHECK(zero == std::string::npos, path, ": not a text table (a zero byte at ", zero, ")");
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
  return text;
}

}  // namespace

std::string RowReader::place() const {
  return row_ <= 0 ? path_ + ": header" : concat(path_, ": row ", row_);
}

CsvReader::CsvReader(const std::string& path) : RowReader(path), text_(read_table_text(path)) {}

bool CsvReader::line_end() {
  if (text_[at_] != '\r' && text_[at_] != '\n') return false;
  at_ += text_.compare(at_, 2, "\r\n") == 0 ? 2 : 1;
  return true;
}

bool CsvReader::comment() {
  if (text_[at_] != '#' || (row_ >= 0 && text_.compare(at_, 2, "# ") != 0)) return false;
  at_ = std::min(text_.find_first_of("\r\n", at_), text_.size());
  return true;
}

void CsvReader::skip_blanks() { at_ = std::min(text_.find_first_not_of(" \t", at_), text_.size()); }

std::string CsvReader::quoted_field() {
  std::string field;
  for (++at_; at_ < text_.size(); ++at_) {
    if (text_[at_] != '"') {
      field += text_[at_];
    } else if (text_.compare(at_, 2, "\"\"") == 0) {
      field += text_[at_++];
    } else {
      ++at_;
      skip_blanks();
      QFM_CHECK(at_ == text_.size() || text_[at_] == ',' || text_[at_] == '\r' || text_[at_] == '\n', place(),
                ": text after the closing quote of '", shown(field), "'");
      return field;
    }
  }
  QFM_FAIL(place(), ": the quote before '", shown(field), "' is never closed");
}

std::string CsvReader::plain_field() {
  const size_t end = std::min(text_.find_first_of(",\r\n", at_), text_.size());
  std::string field = text_.substr(at_, end - at_);
  QFM_CHECK(field.find('"') == std::string::npos, place(), ": a quote inside the unquoted field '",
            shown(field), "'");
  at_ = end;
  field.erase(field.find_last_not_of(" \t") + 1);
  return field;
}

bool CsvReader::next(std::vector<std::string>& fields) {
  fields.clear();
  while (at_ < text_.size() && (line_end() || comment())) {
  }
  if (at_ >= text_.size()) return false;
  ++row_;
  while (true) {
    QFM_CHECK(fields.size() < 4096, place(), ": more than 4096 fields");
    skip_blanks();
    fields.push_back(at_ < text_.size() && text_[at_] == '"' ? quoted_field() : plain_field());
    if (at_ >= text_.size() || line_end()) return true;
    ++at_;  // the comma
  }
}

WordReader::WordReader(const std::string& path, std::vector<std::string> header)
    : RowReader(path), header_(std::move(header)), text_(read_table_text(path)) {}

bool WordReader::next(std::vector<std::string>& fields) {
  fields.clear();
  if (row_ < 0) fields = header_;
  while (fields.empty() && at_ < text_.size()) {
    const size_t end = std::min(text_.find_first_of("\r\n", at_), text_.size());
    std::istringstream line(text_.substr(at_, end - at_));
    for (std::string word; line >> word;) fields.push_back(std::move(word));
    at_ = end + 1;
  }
  if (!fields.empty()) ++row_;
  return !fields.empty();
}

std::string shown(std::string_view text) {
  std::string line(text.substr(0, 80));
  for (char& c : line)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return text.size() > 80 ? line + "..." : line;
}

double parse_number(std::string_view text) {
  std::string_view digits = text;
  while (!digits.empty() && digits.front() == ' ') digits.remove_prefix(1);
  while (!digits.empty() && digits.back() == ' ') digits.remove_suffix(1);
  if (digits.size() > 1 && digits[0] == '+' && digits[1] != '-') digits.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  QFM_CHECK(error == std::errc() && end == digits.data() + digits.size() && std::isfinite(value), "'",
            shown(text), "' is not a number");
  return value;
}

std::string number_text(double value) {
  std::array<char, 32> text;
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
}

}  // namespace qfm
