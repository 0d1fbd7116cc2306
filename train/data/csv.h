// Tables of text, one record at a time: comma-separated (RFC 4180) or separated by blanks.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qfm {

// The records of a label table, whatever kind of file holds it; the first one is the header.
class RowReader {
 public:
  explicit RowReader(std::string path) : path_(std::move(path)) {}
  virtual ~RowReader() = default;
  // The next record, false at the end. Throws Error "PATH: reason".
  virtual bool next(std::vector<std::string>& fields) = 0;
  // The record last read: 0 = the header, 1 = the first row of data; -1 before.
  int64_t row() const { return row_; }
  const std::string& path() const { return path_; }
  // "PATH: header" or "PATH: row 3".
  std::string place() const;

 protected:
  std::string path_;
  int64_t row_ = -1;
};

// Quotes, doubled quotes, line ends inside quotes, CR LF, LF or CR, a UTF-8 byte order mark, no line end at
// the end. Empty lines are no records, nor are comments: "# ..." and, before the header, whatever begins with #. Blanks
// around a field do not belong to it, unless it is quoted.
class CsvReader : public RowReader {
 public:
  // Throws Error where the file cannot be read, is above 64 MiB, or is no text (a zero byte, UTF-16).
  explicit CsvReader(const std::string& path);
  // Throws Error for a quote that is never closed, that stands inside a plain field or is followed by text,
  // and for more than 4096 fields.
  bool next(std::vector<std::string>& fields) override;

 private:
  std::string quoted_field();
  std::string plain_field();
  bool line_end();
  bool comment();
  void skip_blanks();

  std::string text_;
  size_t at_ = 0;
};

// Words between blanks, a record a line, empty lines left out. Such tables have no header: `header` is given
// out as theirs.
class WordReader : public RowReader {
 public:
  WordReader(const std::string& path, std::vector<std::string> header);  // throws as CsvReader does
  bool next(std::vector<std::string>& fields) override;

 private:
  std::vector<std::string> header_;
  std::string text_;
  size_t at_ = 0;
};

// Text of a file made fit for a message of one line: cut at 80 bytes, control characters as '?'.
std::string shown(std::string_view text);

// The whole text as a number: optional sign, decimal point, exponent, blanks around. Throws Error
// "'2.5x' is not a number", also for NaN, infinity and what no double can hold.
double parse_number(std::string_view text);
// The shortest text that parse_number brings back to this number.
std::string number_text(double value);

}  // namespace qfm
