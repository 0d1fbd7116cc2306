#include "engine/memory/device.h"

#include <charconv>
#include <string_view>

#include "engine/base/error.h"
#include "engine/cuda/cuda.h"

namespace qfm {
namespace {

// N of "cuda:N"; -1 for anything else.
int index_of(std::string_view name) {
  constexpr std::string_view prefix = "cuda:";
  int index = -1;
  if (!name.starts_with(prefix)) return -1;
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + prefix.size(), end, index);
  return error == std::errc{} && rest == end ? index : -1;
}

ChosenDevice choose_auto() {
#if defined(QFM_CUDA_DEVICE)
  if (cuda::available()) return {cuda_device, ""};
  return {cpu_device, std::string("using the CPU: ") + cuda::unavailable_reason()};
#elif defined(QFM_CUDA_HOST)
  return {cpu_device, "using the CPU: this build runs CUDA kernels on it, slowly, for tests (--device cuda)"};
#else
  return {cpu_device, ""};
#endif
}

}  // namespace

ChosenDevice choose_device(const std::string& name) {
  if (name == "cpu") return {cpu_device, ""};
  if (name == "auto") return choose_auto();
  const int index = name == "cuda" ? 0 : index_of(name);
  QFM_CHECK(index >= 0, "device '", name, "' is none of auto, cpu, cuda, cuda:N");
  QFM_CHECK(cuda::available(), "--device ", name, ": ", cuda::unavailable_reason(), "; use --device cpu");
  try {
    cuda::select_device(index);
  } catch (const Error& e) {
    QFM_FAIL("--device ", name, ": ", e.what());
  }
  return {cuda_device, ""};
}

}  // namespace qfm
