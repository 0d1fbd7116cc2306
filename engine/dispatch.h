// From a tensor's device and dtype to the kernel for them.
//
//   dispatch({"layernorm", flops, bytes}, x, [&](auto dev, auto t) {
//     using T = decltype(t);
//     layernorm_forward(dev, ptr<T>(y), ...);      // one overload for Cpu, one for Cuda
//   });
#pragma once
#include "engine/cuda/cuda.h"
#include "engine/profile.h"
#include "engine/tensor.h"

namespace qfm {

template <class T>
T* ptr(const Tensor& x) {
  return x.data<T>();
}
// Null for an empty tensor: an optional argument of a kernel.
template <class T>
T* ptr_or_null(const Tensor& x) {
  return x.empty() ? nullptr : x.data<T>();
}

namespace detail {
template <class F>
void dispatch_cpu_dtype(const Op& op, DType dtype, F&& f) {
  switch (dtype) {
    case DType::F32:
      return f(Cpu{}, float{});
    case DType::BF16:
      return f(Cpu{}, bf16{});
    case DType::F64:
      return f(Cpu{}, double{});
    default:
      QFM_FAIL(op.name, ": no kernel for ", name_of(dtype));
  }
}
}  // namespace detail

// For what only the CPU does: a CUDA tensor throws.
template <class F>
void dispatch_cpu(Op op, const Tensor& x, F&& f) {
  const ProfileScope scope(op);
  QFM_CHECK(x.device() == cpu_device, op.name, ": not on ", name_of(x.device()));
  detail::dispatch_cpu_dtype(op, x.dtype(), f);
}

// CPU: F32, BF16, F64. CUDA: F32, BF16. Throws Error for anything else.
template <class F>
void dispatch(Op op, const Tensor& x, F&& f) {
  const ProfileScope scope(op);
  if (x.device() == cpu_device) return detail::dispatch_cpu_dtype(op, x.dtype(), f);
#if defined(QFM_CUDA_DEVICE) || defined(QFM_CUDA_HOST)
  const Cuda on{cuda::compute_stream()};
  if (x.dtype() == DType::F32) f(on, float{});
  else if (x.dtype() == DType::BF16) f(on, bf16{});
  else QFM_FAIL(op.name, ": no CUDA kernel for ", name_of(x.dtype()));
  if (profiling() && !cuda::capturing()) cuda::synchronize();  // the op's time, not that of its launch
#else
  QFM_FAIL(op.name, ": ", cuda::unavailable_reason());
#endif
}

}  // namespace qfm
