#include "tools/cli/version.h"

#include "kernels/vendor/kernel_policy.h"
#include "train/image/formats.h"

namespace qfm {

const char* version() { return QFM_VERSION; }
const char* commit() { return QFM_COMMIT; }

std::string version_text() {
  std::string text =
      std::string("qfm ") + version() + " (commit " + commit() + ")\nbackends: cpu (plain avx2 avx512)";
#if defined(QFM_CUDA_DEVICE)
  text += " cuda";
  if (const std::string vendors = vendors_text(); !vendors.empty()) text += " (" + vendors + ")";
#elif defined(QFM_CUDA_HOST)
  text += " cuda (run on the CPU)";
#endif
  return text + "\nphotos: " + formats_text();
}

}  // namespace qfm
