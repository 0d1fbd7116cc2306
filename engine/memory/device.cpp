#include "engine/memory/device.h"

#include "engine/base/error.h"
#include "engine/cuda/cuda.h"

namespace qfm {
namespace {

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

std::optional<DeviceRequest> device_request(const std::string& name) {
  using Kind = DeviceRequest::Kind;
  if (name == "auto") return DeviceRequest{Kind::Auto, 0, name};
  if (name == "cpu") return DeviceRequest{Kind::Cpu, 0, name};
  if (name == "cuda") return DeviceRequest{Kind::Cuda, 0, name};
  const std::string digits = name.starts_with("cuda:") ? name.substr(5) : "";
  if (digits.empty() || digits.size() > 3 || digits.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  return DeviceRequest{Kind::Cuda, std::stoi(digits), name};
}

ChosenDevice choose_device(const DeviceRequest& request) {
  if (request.kind == DeviceRequest::Kind::Cpu) return {cpu_device, ""};
  if (request.kind == DeviceRequest::Kind::Auto) return choose_auto();
  QFM_CHECK(cuda::available(), "--device ", request.name, ": ", cuda::unavailable_reason(),
            "; use --device cpu");
  try {
    cuda::select_device(request.index);
  } catch (const Error& e) {
    QFM_FAIL("--device ", request.name, ": ", e.what());
  }
  return {cuda_device, ""};
}

}  // namespace qfm
