// Sheets of Excel workbooks (.xlsx), by libzip and pugixml.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "train/data/csv.h"

namespace qfm {

// A sheet as the records of a table: its header is the first row with a cell `mark` (letter case ignored; the
// first row that is not empty where there is none), whose first cell is the first column. Later rows are as
// wide as the header, empty rows are left out. A formula counts by its stored result. Every Error is
// "PATH: reason". A build without the libraries (QFM_XLSX=OFF) throws on opening, with that reason.
class SheetReader : public RowReader {
 public:
  // sheet: its name; "" = the first one. Refuses workbooks with a part above 256 MiB.
  SheetReader(const std::string& path, const std::string& sheet, const std::string& mark);
  ~SheetReader() override;
  bool next(std::vector<std::string>& fields) override;

 private:
  struct Workbook;
  std::unique_ptr<Workbook> book_;
};

}  // namespace qfm
