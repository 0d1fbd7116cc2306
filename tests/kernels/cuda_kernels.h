// One call of a kernel on both devices: the plain function on the CPU, CUDA (or host-CUDA) on memory between
// guard bands, aligned and not, under several schedules of host-CUDA.
#pragma once
#include <cstring>
#include <string>
#include <vector>

#include "engine/cuda/cuda.h"
#include "kernels/cases/cases.h"
#include "tests/guarded.h"
#include "tests/kernels/numbers.h"
#include "tests/schedules.h"
#include "tests/support.h"
#include "tests/tolerance.h"

namespace qfm::test {

struct Output {
  int64_t n;
  Equal equal = Equal::Bits;
};

template <class T>
struct KernelCall {
  std::string name;
  std::vector<std::vector<T>> in;
  std::vector<Output> out;   // of type T
  std::vector<Output> sums;  // of type acc<T>
  int64_t length = 1;        // terms in the longest sum
};
template <class T>
struct KernelResults {
  std::vector<std::vector<T>> out;
  std::vector<std::vector<acc<T>>> sums;
};

template <class V>
bool same_bits(const std::vector<V>& a, const std::vector<V>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(V)) == 0);
}

// f(device tag, inputs, outputs, sums), each an array of pointers. Outputs are NaN before.
template <class T, class Tag, class F>
KernelResults<T> run_kernel(Tag tag, const KernelCall<T>& call, size_t shift, F&& f) {
  const Device device = std::is_same_v<Tag, Cuda> ? cuda_device : cpu_device;
  std::vector<std::unique_ptr<Guarded<T>>> in, out;
  std::vector<std::unique_ptr<Guarded<acc<T>>>> sums;
  std::vector<const T*> inputs;
  std::vector<T*> outputs;
  std::vector<acc<T>*> sum_outputs;
  for (const auto& v : call.in) {
    in.push_back(std::make_unique<Guarded<T>>(device, v, shift));
    inputs.push_back(in.back()->data());
  }
  for (const Output& o : call.out) {
    out.push_back(std::make_unique<Guarded<T>>(device, static_cast<size_t>(o.n), shift));
    outputs.push_back(out.back()->data());
  }
  for (const Output& o : call.sums) {
    sums.push_back(std::make_unique<Guarded<acc<T>>>(device, static_cast<size_t>(o.n), shift));
    sum_outputs.push_back(sums.back()->data());
  }
  f(tag, inputs.data(), outputs.data(), sum_outputs.data());
  KernelResults<T> results;
  for (auto& o : out) results.out.push_back(o->values());
  for (auto& s : sums) results.sums.push_back(s->values());
  for (size_t i = 0; i < in.size(); ++i) CHECK(same_bits(in[i]->values(), call.in[i]));
  return results;
}

template <class T, class V>
void check_output(const std::string& what, const std::vector<V>& found, const std::vector<V>& expected,
                  Equal equal, int64_t length) {
  CAPTURE(what);
  if (equal == Equal::Bits) CHECK(same_bits(found, expected));
  else
    check_close(what, converted<double>(found), converted<double>(expected),
                equal == Equal::Rounding ? dtype_of<V> : dtype_of<T>, length);
}

// CUDA gives what the plain function gives, and always the same bits.
template <class T, class F>
void check_kernel(const KernelCall<T>& call, F&& f) {
  const PathScope plain(CpuIsa::Plain);
  CAPTURE(call.name);
  CAPTURE(name_of(dtype_of<T>));
  for (const size_t shift : {0, 1}) {
    CAPTURE(shift);
    const KernelResults<T> expected = run_kernel(Cpu{}, call, shift, f);
    const KernelResults<T> found = run_kernel(Cuda{}, call, shift, f);
    for (size_t i = 0; i < found.out.size(); ++i)
      check_output<T>(concat(call.name, " output ", i), found.out[i], expected.out[i], call.out[i].equal,
                      call.length);
    for (size_t i = 0; i < found.sums.size(); ++i)
      check_output<T>(concat(call.name, " sum ", i), found.sums[i], expected.sums[i], call.sums[i].equal,
                      call.length);
    if (shift > 0) continue;
    for_schedules([&] {
      const KernelResults<T> again = run_kernel(Cuda{}, call, shift, f);
      for (size_t i = 0; i < found.out.size(); ++i) CHECK(same_bits(again.out[i], found.out[i]));
      for (size_t i = 0; i < found.sums.size(); ++i) CHECK(same_bits(again.sums[i], found.sums[i]));
    });
  }
}

}  // namespace qfm::test
