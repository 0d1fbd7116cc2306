// A build without libzip and pugixml.
#include "engine/base/error.h"
#include "train/data/sheet.h"

namespace qfm {

struct SheetReader::Workbook {};

SheetReader::SheetReader(const std::string& path, const std::string&, const std::string&) : RowReader(path) {
  QFM_FAIL(path, ": this qfm was built without libzip and pugixml, which read .xlsx (cmake -DQFM_XLSX=ON)");
}
SheetReader::~SheetReader() = default;
bool SheetReader::next(std::vector<std::string>&) { return false; }

}  // namespace qfm
