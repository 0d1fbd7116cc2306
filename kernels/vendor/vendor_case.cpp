#include "kernels/vendor/vendor_case.h"

#include <atomic>
#include <mutex>

#include "engine/base/notice.h"
#include "engine/cuda/cuda.h"

namespace qfm {
namespace {

struct Failures {
  std::mutex mutex;
  std::map<std::string, std::string> reasons;
  std::atomic<bool> any{false};  // read at every product, without the lock
};
Failures& failures() {
  static auto* all = new Failures;
  return *all;
}

// Kernels that failed leave an error that every later call gets too.
void check_device(const std::string& name, const VendorError& error) {
  if (!cuda::available()) return;
  try {
    cuda::synchronize();
  } catch (const Error& lost) {
    QFM_FAIL(lost.what(), "; after ", name, ": ", error.what());
  }
}

}  // namespace

std::map<std::string, std::string> vendor_failures() {
  const std::lock_guard lock(failures().mutex);
  return failures().reasons;
}

bool any_vendor_failure() noexcept { return failures().any; }

bool vendor_failed(const std::string& name) {
  const std::lock_guard lock(failures().mutex);
  return failures().reasons.count(name) != 0;
}

void add_vendor_failure(const std::string& name, const VendorError& error) {
  const bool capturing = cuda::capturing();
  if (!capturing) check_device(name, error);
  {
    const std::lock_guard lock(failures().mutex);
    failures().reasons.emplace(name, error.what());
    failures().any = true;
  }
  notice(name + ": " + error.what() + "; it is not tried again");
  if (capturing) throw VendorError(error);
}

void forget_vendor_failures() {
  const std::lock_guard lock(failures().mutex);
  failures().reasons.clear();
  failures().any = false;
}

#ifdef QFM_CUDA_HOST
VendorStandIn& vendor_stand_in() {
  static VendorStandIn stand_in;
  return stand_in;
}
#endif

}  // namespace qfm
