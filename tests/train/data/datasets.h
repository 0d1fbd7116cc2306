// What the tests of data sets share.
#pragma once
#include <string>

#include "tests/support.h"
#include "train/data/dataset.h"

namespace qfm::test {

// A file or folder among the fixtures of data sets.
inline std::string fixture(const std::string& name) { return golden_path("datasets/" + name); }

// Whether this build can read the label file of a fixture.
inline bool can_read([[maybe_unused]] const std::string& format, [[maybe_unused]] const std::string& id) {
#ifndef QFM_WITH_MAT
  if (format == "live" || format == "livec") return false;
#endif
#ifndef QFM_WITH_XLSX
  if (format == "spaq" || id == "csiq_official" || id == "csiq_xlsx_no_dmos_column") return false;
#endif
  return true;
}

}  // namespace qfm::test
