// Runs the cases of kernels/cases on memory between guard bands, outputs NaN before.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cases/cases.h"
#include "tests/guarded.h"
#include "tests/kernels/numbers.h"

namespace qfm::test {

using Bytes = std::vector<char>;
using Values = std::vector<Bytes>;  // one for each array of a case

// Convolutions of a few channels and places, one of each kind that has code of its own.
inline std::vector<NamedConv> small_convolutions(int64_t batch, int64_t rows, int64_t width) {
  const int64_t c = 1 + width % 19, h = 3 + rows % 9, w = 2 + width % 23;
  return {{"conv1x1", {batch, c, h, w, 7, 1, {}, {}}},
          {"conv3x3", {batch, c, h, w, c + 3, 1, {3, 1, 1, 1}, {3, 1, 1, 1}}},
          {"conv3x2", {batch, 2 * c, h, w, 2, 2, {3, 2, 1, 0}, {2, 3, 2, 1, 2}}},
          {"depthwise3x3", {batch, c, h, w, c, c, {3, 1, 1, 1}, {3, 1, 1, 1}}},
          {"depthwise5x5", {batch, c, h, w, c, c, {5, 2, 2, 1}, {5, 2, 1, 2}}}};
}

// Images that grow, shrink by more than a vector's reach, and of which a few places are looked at.
inline std::vector<NamedSampling> small_samplings(int64_t batch, int64_t rows, int64_t width) {
  const int64_t c = width % 21, h = 1 + rows % 9, w = 1 + width % 23;
  return {{"grows", batch, c, h, w, 2 * h, 2 * w},
          {"shrinks", batch, c, 2, 5 * w, h, w},
          {"spreads", batch, c, 1, w, 3, 7 * w},
          {"few", batch, c, 7, 11, 1, h}};
}

// Batch normalisations of a few channels, with each activation and with a residual.
inline std::vector<NamedNorm> small_norms(int64_t batch, int64_t rows, int64_t width) {
  const BatchNormShape s{batch, 1 + width % 5, (3 + rows % 6) * (2 + width % 13), 1e-5};
  std::vector<NamedNorm> all;
  for (const Activation a : {Activation::None, Activation::Relu, Activation::Relu6, Activation::Silu}) {
    all.push_back({"batchnorm" + std::to_string(static_cast<int>(a)), s});
    all.back().shape.activation = a;
  }
  all.push_back({"batchnorm_residual", all[1].shape, true});
  return all;
}
inline std::vector<NamedPool> small_pools(int64_t batch, int64_t rows, int64_t width) {
  const int64_t planes = batch * (1 + width % 3), h = 3 + rows % 7, w = 3 + width % 41;
  return {{"3x3", {planes, h, w, {3, 2, 1, 1}, {3, 2, 1, 1}}},
          {"3x2", {planes, h, w, {3, 1, 1, 0}, {2, 2, 0, 1}, false}},
          {"2x2_dilated", {planes, h, w, {2, 1, 1, 1, 2}, {2, 3, 0, 1, 2}, false}}};
}
inline std::vector<NamedAdaptivePool> small_adaptive_pools(int64_t batch, int64_t rows, int64_t width) {
  const int64_t planes = batch * (1 + width % 3), h = 1 + rows % 7, w = 1 + width % 41;
  return {{"global_pool", {planes, h, w, 1, 1}}, {"adaptive_pool", {planes, h, w, 3, 4}}};
}

// Without products and attention, which have tests of their own with more shapes and strides. rows: of an
// image; gates and descriptors are those of all rows but the first, where there are several.
inline std::vector<KernelCase> small_cases(int64_t batch, int64_t rows, int64_t width, DType type) {
  auto cases = kernel_cases({.batch = batch,
                             .tokens = rows,
                             .patches = rows > 1 ? rows - 1 : rows,
                             .width = width,
                             .queries = 2,
                             .depth = 0,
                             .patch = 4,
                             .height = 8,
                             .image_width = 12,
                             .entries = 7,
                             .convolutions = small_convolutions(batch, rows, width),
                             .samplings = small_samplings(batch, rows, width),
                             .norms = small_norms(batch, rows, width),
                             .pools = small_pools(batch, rows, width),
                             .adaptive_pools = small_adaptive_pools(batch, rows, width)},
                            type);
  std::erase_if(cases, [](const KernelCase& c) { return c.group == "gemm" || c.group == "attention"; });
  return cases;
}

inline DType tolerance_type(const KernelCase& c, const CaseArray& a) {
  return a.equal == Equal::RoundingOfT ? c.type : a.type;
}
inline bool is_written(const CaseArray& a) { return a.role == ArrayRole::Out || a.role == ArrayRole::InOut; }

template <class To, class From>
std::vector<To> reinterpreted(const std::vector<From>& x) {
  std::vector<To> y(x.size() * sizeof(From) / sizeof(To));
  if (!y.empty()) std::memcpy(static_cast<void*>(y.data()), x.data(), y.size() * sizeof(To));
  return y;
}
inline Doubles doubles_of(const Bytes& bytes, DType type) {
  if (type == DType::F32) return converted<double>(reinterpreted<float>(bytes));
  if (type == DType::BF16) return converted<double>(reinterpreted<bf16>(bytes));
  if (type == DType::F64) return reinterpreted<double>(bytes);
  const auto integers = reinterpreted<int32_t>(bytes);  // of an I64 both halves
  return Doubles(integers.begin(), integers.end());
}
inline Bytes bytes_of(const Doubles& x, DType type) {
  if (type == DType::F32) return reinterpreted<char>(converted<float>(x));
  if (type == DType::BF16) return reinterpreted<char>(converted<bf16>(x));
  return reinterpreted<char>(x);
}

// What the arrays hold afterwards. shift: elements by which each is moved off its alignment.
inline Values run_case(const KernelCase& c, Device device, const Values& in, size_t shift = 0) {
  std::vector<std::unique_ptr<Guarded<char>>> memory;
  std::vector<void*> data;
  for (const CaseArray& a : c.arrays) {
    const size_t size = size_of(a.type);
    memory.push_back(
        std::make_unique<Guarded<char>>(device, static_cast<size_t>(a.size) * size, shift * size));
    data.push_back(memory.back()->data());
  }
  for (size_t i = 0; i < data.size(); ++i) {
    const auto& contents = c.arrays[i].contents;
    const Bytes bytes = contents ? contents(data.data()) : in[i];
    copy_bytes(device, data[i], cpu_device, bytes.data(), bytes.size());
  }
  c.run(device, data.data());
  Values values;
  for (const auto& m : memory) values.push_back(m->values());
  for (size_t i = 0; i < data.size(); ++i)
    if (c.arrays[i].role == ArrayRole::In && !c.arrays[i].contents) CHECK(values[i] == in[i]);
  return values;
}

// The inputs of each case: normal numbers, and for a backward what its forward has read and, by the plain
// code, written.
inline std::vector<Values> inputs_of(const std::vector<KernelCase>& cases) {
  const PathScope plain(CpuIsa::Plain);
  std::map<std::string, std::map<std::string, Bytes>> known;
  std::vector<Values> all;
  for (const KernelCase& c : cases) {
    auto& arrays = known[c.name.substr(0, c.name.find(".backward"))];
    Values in;
    for (const CaseArray& a : c.arrays) {
      in.emplace_back();
      if (a.contents || a.role == ArrayRole::Out || a.role == ArrayRole::Scratch) continue;
      const auto drawn = random<double>((c.name + a.name).c_str(), 0, a.size);
      in.back() = arrays.emplace(a.name, bytes_of(drawn, a.type)).first->second;
    }
    const Values out = run_case(c, cpu_device, in);
    for (size_t i = 0; i < out.size(); ++i)
      if (c.arrays[i].role == ArrayRole::Out) arrays.emplace(c.arrays[i].name, out[i]);
    all.push_back(std::move(in));
  }
  return all;
}

}  // namespace qfm::test
