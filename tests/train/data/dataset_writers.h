// Label files of data sets, written independently of the code that reads them.
#pragma once
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#ifdef QFM_WITH_XLSX
#include <zip.h>
#endif

#include "tests/support.h"

namespace qfm::test {

inline void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// A photo of 2 x 2 pixels like no other with another number.
inline void write_tiny_photo(const std::string& path, uint32_t number) {
  std::string bytes = "P6\n2 2\n255\n" + std::string(12, '\0');
  std::memcpy(bytes.data() + bytes.size() - 12, &number, sizeof number);
  write_bytes(path, bytes);
}

// A MAT file of version 5, not compressed, element by element as MathWorks describes the format.
class MatWriter {
 public:
  MatWriter() {
    bytes_ = "MATLAB 5.0 MAT-file";
    bytes_.resize(124, ' ');
    bytes_ += std::string("\x00\x01IM", 4);
  }
  void numbers(const std::string& name, const std::vector<double>& values) {
    const std::string data(reinterpret_cast<const char*>(values.data()), 8 * values.size());
    bytes_ += matrix(6, static_cast<uint32_t>(values.size()), name, element(9, data));
  }
  void texts(const std::string& name, const std::vector<std::string>& texts) {
    std::string cells;
    for (const auto& text : texts)
      cells += matrix(4, static_cast<uint32_t>(text.size()), "", element(16, text));
    bytes_ += matrix(1, static_cast<uint32_t>(texts.size()), name, cells);
  }
  void write(const std::string& path) const { write_bytes(path, bytes_); }

 private:
  static std::string words(std::initializer_list<uint32_t> values) {
    return {reinterpret_cast<const char*>(values.begin()), 4 * values.size()};
  }
  static std::string element(uint32_t type, const std::string& data) {
    return words({type, static_cast<uint32_t>(data.size())}) + data +
           std::string((8 - data.size() % 8) % 8, '\0');
  }
  static std::string matrix(uint32_t kind, uint32_t columns, const std::string& name,
                            const std::string& content) {
    return element(
        14, element(6, words({kind, 0})) + element(5, words({1, columns})) + element(1, name) + content);
  }
  std::string bytes_;
};

#ifdef QFM_WITH_XLSX
// A workbook of one sheet; numbers are told from texts by `numeric` columns. prefix: of the elements' names, as "x:".
inline void write_workbook(const std::string& path, const std::string& sheet,
                           const std::vector<std::vector<std::string>>& rows,
                           const std::vector<bool>& numeric, const std::string& prefix = "") {
  std::string cells = "<worksheet><sheetData>";
  for (size_t r = 0; r < rows.size(); ++r) {
    cells += "<row>";
    for (size_t c = 0; c < rows[r].size(); ++c)
      cells += r > 0 && numeric[c] ? "<c><v>" + rows[r][c] + "</v></c>"
                                   : "<c t=\"inlineStr\"><is><t>" + rows[r][c] + "</t></is></c>";
    cells += "</row>";
  }
  cells += "</sheetData></worksheet>";
  std::string book =
      "<workbook><sheets><sheet name=\"" + sheet + "\" sheetId=\"1\" r:id=\"rId1\"/></sheets></workbook>";
  std::string relations =
      "<Relationships><Relationship Id=\"rId1\" Target=\"worksheets/sheet1.xml\"/></Relationships>";
  zip_t* archive = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, nullptr);
  REQUIRE(archive);
  for (std::string* text : {&cells, &book, &relations})
    for (size_t at = text->find('<'); at != text->npos; at = text->find('<', at + 1))
      text->insert(at + 1 + ((*text)[at + 1] == '/'), prefix);
  const auto add = [&](const char* name, const std::string& text) {
    zip_source_t* source = zip_source_buffer(archive, text.data(), text.size(), 0);
    REQUIRE(zip_file_add(archive, name, source, ZIP_FL_OVERWRITE) >= 0);
  };
  add("xl/workbook.xml", book), add("xl/_rels/workbook.xml.rels", relations);
  add("xl/worksheets/sheet1.xml", cells);
  REQUIRE(zip_close(archive) == 0);
}
#endif

}  // namespace qfm::test
