// Where data lives, and the tags that choose a kernel: layernorm_forward(Cpu{}, ...) or (Cuda{stream}, ...).
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace qfm {

struct Device {
  enum class Kind : uint8_t { Cpu, Cuda } kind = Kind::Cpu;
  int index = 0;
  friend bool operator==(const Device&, const Device&) = default;
};
inline constexpr Device cpu_device{};
inline constexpr Device cuda_device{Device::Kind::Cuda, 0};
constexpr const char* name_of(Device d) { return d.kind == Device::Kind::Cpu ? "cpu" : "cuda"; }

// "auto", "cpu", "cuda" or "cuda:N" as a user types it.
struct DeviceRequest {
  enum class Kind : uint8_t { Auto, Cpu, Cuda } kind = Kind::Auto;
  int index = 0;  // N
  std::string name = "auto";
};
// nullopt for any other name, and for N above 999.
std::optional<DeviceRequest> device_request(const std::string& name);

// What that means on this machine; "auto" is CUDA where there is a GPU. Throws Error, with what to do, where
// it cannot be had.
struct ChosenDevice {
  Device device;
  std::string remark;  // why "auto" is not what a build with CUDA promises; else empty
};
ChosenDevice choose_device(const DeviceRequest& request);

// Kernel tags. `stream` is a cudaStream_t kept opaque, so that no CUDA header is needed here.
struct Cpu {};
struct Cuda {
  void* stream = nullptr;
};

}  // namespace qfm
