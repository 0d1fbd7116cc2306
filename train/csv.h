// Tables of comma-separated values, RFC 4180, one record at a time.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qfm {

// Quotes, doubled quotes, line ends inside quotes, CR LF, LF or CR, a UTF-8 byte order mark, no line end at
// the end. Empty lines are no records. Every Error is "PATH: row N: reason", N counting records after the
// header from 1.
class CsvReader {
 public:
  // Throws Error where the file cannot be read, is above 64 MiB, or is no text (a zero byte, UTF-16).
  explicit CsvReader(const std::string& path);
  // The next record, false at the end. Throws Error for a quote that is never closed, that stands inside a
  // plain field or is followed by text, and for more than 4096 fields.
  bool next(std::vector<std::string>& fields);
  // The record last read: 0 = the header, 1 = the first row of data; -1 before.
  int64_t row() const { return row_; }
  const std::string& path() const { return path_; }
  // "PATH: header" or "PATH: row 3".
  std::string place() const;

 private:
  std::string quoted_field();
  std::string plain_field();
  bool line_end();

  std::string path_, text_;
  size_t at_ = 0;
  int64_t row_ = -1;
};

// Text of a file made fit for a message of one line: cut at 80 bytes, control characters as '?'.
std::string shown(std::string_view text);

// The whole text as a number: optional sign, decimal point, exponent, blanks around. Throws Error
// "'2.5x' is not a number", also for NaN, infinity and what no double can hold.
double parse_number(std::string_view text);

}  // namespace qfm
