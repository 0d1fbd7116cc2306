// Work that is handed to a vendor's library, and what becomes of it where the library fails: one place for
// all libraries.
#pragma once
#include <functional>
#include <map>
#include <string>

#include "engine/base/error.h"
#include "kernels/vendor/kernel_policy.h"

namespace qfm {

// A library's call did not succeed. Memory that ran out is not this but OutOfMemory: it says nothing of the
// case, and the caller may have a smaller batch to try.
class VendorError : public Error {
 public:
  using Error::Error;
};

// Cases that a library took and then failed at, with its reason: the program does not try them again.
std::map<std::string, std::string> vendor_failures();
bool any_vendor_failure() noexcept;
bool vendor_failed(const std::string& name);

// Waits for the device and throws its Error if that was lost: nothing can serve then. Else remembers the case
// and says so by a notice. Inside a capture, which may be spoilt and cannot wait, it throws `error` again, and
// the work is run without a capture.
void add_vendor_failure(const std::string& name, const VendorError& error);

// Whether the library did it; false: our own kernel is to serve. name() names the case, run() hands it over,
// or says by false that the library does not have it. A library that fails may have written a part of its
// outputs: our kernels write all of theirs and read none, so run() must give it no output that is an input.
template <class Name, class Run>
bool served_by_vendor(const Name& name, const Run& run) {
  if (any_vendor_failure() && vendor_failed(name())) return false;
  try {
    if (!run()) return false;
  } catch (const VendorError& error) {
    add_vendor_failure(name(), error);
    return false;
  }
  count_vendor_call();
  return true;
}

#ifdef QFM_CUDA_HOST
// In host-CUDA, which opens no library, a test may put this in the place of cuBLASLt: it is to write `bytes`
// at `output`, which own() does by our own kernel. Null: there is no library.
using VendorStandIn = std::function<void(const std::string& name, void* output, size_t bytes,
                                         const std::function<void()>& own)>;
VendorStandIn& vendor_stand_in();
#endif

// For tests: as if nothing had failed.
void forget_vendor_failures();

}  // namespace qfm
