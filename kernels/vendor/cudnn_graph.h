// cuDNN's graph API (its C backend), as far as our graphs need it: tensors and operations are described, a
// plan is made of them, and only running it needs a GPU. Included by *_cudnn.cpp alone.
#pragma once
#include <cudnn.h>

#include <array>
#include <concepts>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/base/error.h"
#include "engine/memory/device.h"
#include "engine/memory/memory.h"

namespace qfm::cudnn {

// Whether libcudnn is there and no older than 9.16: before, its attention backward was wrong for a number of
// keys that is no multiple of 128.
bool serves();

using Dims = std::array<int64_t, 4>;

// A backend descriptor. Setting or finalising throws Error with cuDNN's own reason.
class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type);
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : p_(other.p_) { other.p_ = nullptr; }
  Descriptor& operator=(Descriptor&&) = delete;

  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
           const void* values);
  void set(cudnnBackendAttributeName_t name, int64_t value) { set(name, CUDNN_TYPE_INT64, 1, &value); }
  void set(cudnnBackendAttributeName_t name, std::same_as<bool> auto value) {
    set(name, CUDNN_TYPE_BOOLEAN, 1, &value);
  }
  void set(cudnnBackendAttributeName_t name, double value) { set(name, CUDNN_TYPE_DOUBLE, 1, &value); }
  void set(cudnnBackendAttributeName_t name, cudnnDataType_t value) {
    set(name, CUDNN_TYPE_DATA_TYPE, 1, &value);
  }
  void set(cudnnBackendAttributeName_t name, std::span<const int64_t> values) {
    set(name, CUDNN_TYPE_INT64, static_cast<int64_t>(values.size()), values.data());
  }
  void set(cudnnBackendAttributeName_t name, const Descriptor& value) {
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.p_);
  }
  void finalize(const char* what);
  cudnnBackendDescriptor_t get() const { return p_; }

 private:
  cudnnBackendDescriptor_t p_ = nullptr;
};

// Operations on tensors. A Tensor is its number in the graph, which run() names it by.
class Graph {
 public:
  using Tensor = int64_t;
  // Four dimensions and their strides, in elements.
  Tensor tensor(cudnnDataType_t type, const Dims& dims, const Dims& strides);   // in device memory
  Tensor between(cudnnDataType_t type, const Dims& dims, const Dims& strides);  // never in memory
  Tensor scalar();                                                              // a float in host memory

  void pointwise(cudnnPointwiseMode_t mode, Tensor y, Tensor x);
  void pointwise(cudnnPointwiseMode_t mode, Tensor y, Tensor x, Tensor b);  // b is broadcast
  void sum(Tensor y, Tensor x);                                             // over dimensions where y has 1
  void matmul(Tensor c, Tensor a, Tensor b);                                // of the last two dimensions
  void reshape(Tensor y, Tensor x);                                         // the same memory, read otherwise
  void attention(Tensor o, Tensor stats, Tensor q, Tensor k, Tensor v, Tensor scale);
  // Over all dimensions but the first; mean and rstd are F32 and written, eps is a scalar.
  void layernorm(Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor w, Tensor b, Tensor eps);
  // Down the rows, along a row.
  struct Windows {
    std::array<int64_t, 2> strides{1, 1}, before{0, 0}, after{0, 0}, dilations{1, 1};
  };
  void convolution(Tensor y, Tensor x, Tensor w, const Windows& windows);  // y = x * w
  void convolution_dx(Tensor dx, Tensor dy, Tensor w, const Windows& windows);
  void convolution_dw(Tensor dw, Tensor dy, Tensor x, const Windows& windows);

  // Engines that round F32 operands, to TF32 for tensor cores, are none of this graph's.
  bool true_f32 = false;

  const std::vector<Descriptor>& operations() const { return operations_; }

 private:
  Tensor add(cudnnDataType_t type, const Dims& dims, const Dims& strides, bool is_virtual, bool by_value);
  Descriptor& operation(cudnnBackendDescriptorType_t type);
  Descriptor& convolution_windows(const Windows& windows);

  std::vector<Descriptor> tensors_, operators_, operations_;
};

// What cuDNN has to know of the GPU: of the handle's, or written by hand as JSON (tests/kernels/h100.json
// shows it).
Descriptor device_of(cudnnHandle_t handle);
Descriptor device_from_json(const std::string& json);

// cuDNN's ways to run a graph on a device, best first. Without a GPU it only says them where the program can
// load a libcuda.so.1, be it the toolkit's stub: their kernels are compiled, but cannot be loaded.
class EngineConfigs {
 public:
  // Throws Error "cudnn: WHAT: reason" where cuDNN does not take the graph.
  EngineConfigs(const Graph& graph, const Descriptor& device, const char* what);
  size_t size() const { return configs_.size(); }
  bool deterministic(size_t i) const;
  size_t deterministic() const;  // how many are
  const Descriptor& config(size_t i) const { return configs_[i]; }

 private:
  bool has(size_t i, cudnnBackendNumericalNote_t note) const;
  std::vector<Descriptor> configs_;
};

// A graph that can be run: the first suggestion that is deterministic and that cuDNN can build.
class Plan {
 public:
  // Throws Error "cudnn: WHAT: reason" where there is none.
  Plan(const EngineConfigs& suggestions, const Descriptor& device, const char* what);

  struct Argument {
    Graph::Tensor tensor;
    const void* data;  // of a scalar: in host memory
  };
  // Throws VendorError where cuDNN cannot: for served_by_vendor (kernels/vendor/vendor_case.h).
  void run(Cuda cuda, std::span<const Argument> arguments) const;

 private:
  std::optional<Descriptor> plan_;
  int64_t workspace_bytes_ = 0;
};

// The one handle; null where cuDNN does not serve or there is no GPU.
cudnnHandle_t handle();

// G: a Graph named `graph`, and the numbers of its tensors.
template <class G>
struct CachedPlan {
  G graph;
  std::unique_ptr<Plan> plan;  // none where cuDNN refused
};

// make()'s graph and its plan for the GPU, built at the first call with that key: everything that decides
// which plan serves. Never null; kept for the life of the program, and never destroyed: the library may be
// unloaded first. Throws OutOfMemory, and then tries again at the next call.
template <class G, class Key, class Make>
const CachedPlan<G>* cached_plan(const Key& key, const char* what, const Make& make) {
  static std::mutex mutex;
  static auto* kept = new std::map<Key, CachedPlan<G>>;
  const std::lock_guard lock(mutex);
  if (const auto at = kept->find(key); at != kept->end()) return &at->second;
  CachedPlan<G> made{make(), nullptr};
  try {
    const Descriptor device = device_of(handle());
    made.plan = std::make_unique<Plan>(EngineConfigs(made.graph.graph, device, what), device, what);
  } catch (const OutOfMemory&) {
    throw;
  } catch (const Error&) {  // refused: our own kernels serve
  }
  return &kept->emplace(key, std::move(made)).first->second;
}

// What cuDNN needs of a tensor's address.
inline bool aligned(std::initializer_list<const void*> pointers) {
  for (const void* p : pointers)
    if (reinterpret_cast<uintptr_t>(p) % 16 != 0) return false;
  return true;
}

}  // namespace qfm::cudnn
