// Where data lives, and the tags that choose a kernel: layernorm_forward(Cpu{}, ...) or (Cuda{stream}, ...).
#pragma once
#include <cstdint>
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

// What a user's "auto", "cpu", "cuda" or "cuda:N" means on this machine; "auto" is CUDA where there is a GPU.
// Throws Error, with what to do, where it cannot be had or is none of them.
struct ChosenDevice {
  Device device;
  std::string remark;  // why "auto" is not what a build with CUDA promises; else empty
};
ChosenDevice choose_device(const std::string& name);

// Kernel tags. `stream` is a cudaStream_t kept opaque, so that no CUDA header is needed here.
struct Cpu {};
struct Cuda {
  void* stream = nullptr;
};

}  // namespace qfm
