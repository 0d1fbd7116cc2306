// Where data lives, and the tags that choose a kernel: layernorm_forward(Cpu{}, ...) or (Cuda{stream}, ...).
#pragma once
#include <cstdint>

namespace qfm {

struct Device {
  enum class Kind : uint8_t { Cpu, Cuda } kind = Kind::Cpu;
  int index = 0;
  friend bool operator==(const Device&, const Device&) = default;
};
inline constexpr Device cpu_device{};
inline constexpr Device cuda_device{Device::Kind::Cuda, 0};
constexpr const char* name_of(Device d) { return d.kind == Device::Kind::Cpu ? "cpu" : "cuda"; }

// Kernel tags. `stream` is a cudaStream_t kept opaque, so that no CUDA header is needed here.
struct Cpu {};
struct Cuda {
  void* stream = nullptr;
};

}  // namespace qfm
