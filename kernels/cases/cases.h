// Every kernel, each alone: its arrays, a call of it on any device, and what it costs. `qfm bench` times the
// table at the sizes of a model; tests run it at small ones, each CPU path against the plain code, CUDA
// against the plain code, and gradients against finite differences.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"
#include "kernels/conv/conv2d.h"
#include "kernels/norm/batchnorm.h"
#include "kernels/pool/pool2d.h"

namespace qfm {

struct NamedConv {
  std::string name;
  ConvShape shape;
};
struct NamedNorm {
  std::string name;
  BatchNormShape shape;
  bool residual = false;
};
struct NamedPool {
  std::string name;  // behind "max_pool" and "mean_pool"
  PoolShape shape;
};
struct NamedAdaptivePool {
  std::string name;
  AdaptivePoolShape shape;
};

// Images that are resized, and sampled at as many places.
struct NamedSampling {
  std::string name;
  int64_t batch, channels, height, width, out_height, out_width;
};

// What the kernels of one training step work on.
struct CaseSizes {
  int64_t batch, tokens, patches;  // patches: the last tokens of an image
  int64_t width, heads = 1, queries = 1, depth = 1;
  int64_t patch = 1, height = 1, image_width = 1;
  int64_t entries = 1;  // of the matching memory
  std::vector<NamedConv> convolutions = {};
  std::vector<NamedSampling> samplings = {};
  std::vector<NamedNorm> norms = {};
  std::vector<NamedPool> pools = {};
  std::vector<NamedAdaptivePool> adaptive_pools = {};
};

// InOut: read and written. Scratch: what it holds afterwards does not matter.
enum class ArrayRole : uint8_t { In, Out, InOut, Scratch };
// How a result of CUDA equals that of the plain code: by the tolerance of its own type, or of the case's type
// where it sums values that were rounded to that.
enum class Equal : uint8_t { Bits, Rounding, RoundingOfT };

struct CaseArray {
  std::string name;
  ArrayRole role;
  DType type;
  int64_t size;
  Equal equal = Equal::Bits;
  // The bytes of an input, from where the arrays of the call lie; null: normal numbers.
  std::function<std::vector<char>(void* const* arrays)> contents = nullptr;
};

// Gradients are found by name: an output "dx" of NAME.backward, or of the case itself, is the gradient of the
// input "x"; its input "dy" is that of the forward's output "y" (of a case by itself: 1), its other inputs
// are the forward's arrays.
struct KernelCase {
  std::string group, name, kernel;  // "gemm" (the folder), "qkv.dx", the function "gemm"
  std::string shape;                // "1576x192x576"
  std::string note;                 // how the FLOPs are counted, where there are two ways
  DType type;
  int64_t length;  // terms in the longest sum
  double flops;    // of matrix products, by the mathematics
  double bytes;    // that must move at least once
  std::vector<CaseArray> arrays;
  std::function<void(Device device, void* const* arrays)> run;
};

// Every function of kernels/*.h at least once, in F32, BF16 or, for the CPU alone, F64.
std::vector<KernelCase> kernel_cases(const CaseSizes& sizes, DType type);
// Those of the sizes' convolutions, samplings, normalisations and pools alone.
std::vector<KernelCase> image_kernel_cases(const CaseSizes& sizes, DType type);
// What scoring in INT8 runs, on the CPU.
std::vector<KernelCase> int8_kernel_cases(const CaseSizes& sizes);

}  // namespace qfm
