// A build without libmatio.
#include "engine/base/error.h"
#include "train/data/mat_file.h"

namespace qfm {

struct MatFile::Handle {};

MatFile::MatFile(const std::string& path) : path_(path) {
  QFM_FAIL(path, ": this qfm was built without libmatio, which reads .mat files (cmake -DQFM_MAT=ON)");
}
MatFile::~MatFile() = default;
bool MatFile::has(const std::string&) const { return false; }
std::vector<double> MatFile::numbers(const std::string&) const { return {}; }
std::vector<std::string> MatFile::texts(const std::string&) const { return {}; }

}  // namespace qfm
