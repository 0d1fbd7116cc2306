#include "engine/int8_matrix.h"

#include <string_view>

#include "kernels/gemm/int8_weights.h"

namespace qfm {
namespace {

constexpr std::string_view kScale = ".scale";

std::string scale_of(const std::string& name) { return name + std::string(kScale); }

}  // namespace

Int8Matrix to_int8(const Tensor& w, const std::string& name) {
  const int64_t rows = w.dim(0);
  const Int8Matrix m{Tensor(w.shape(), DType::I8), Tensor({rows})};
  const bool finite =
      quantise_rows(m.q.data<int8_t>(), m.scale.data<float>(), w.data<const float>(), rows, w.numel() / rows);
  QFM_CHECK(finite, name, ": has a number that is not finite, INT8 cannot hold it");
  return m;
}

void copy_from_int8(const Tensor& w, const Int8Matrix& from) {
  const int64_t rows = w.dim(0);
  const bool in_place = w.device() == cpu_device && w.dtype() == DType::F32;
  const Tensor full = in_place ? w : Tensor(w.shape());
  const int8_t* q = from.q.data<const int8_t>();
  dequantise_rows(full.data<float>(), q, from.scale.data<const float>(), rows, w.numel() / rows);
  if (!in_place) w.copy_from(full.to(w.dtype()));
}

void add_int8(NamedTensors& tensors, const std::string& name, const Int8Matrix& m) {
  tensors.emplace_back(name, m.q), tensors.emplace_back(scale_of(name), m.scale);
}

bool holds_int8(const TensorFile& file, const std::string& name) {
  return file.has(name) && file.entry(name).dtype == "I8";
}

bool holds_int8_scale(const TensorFile& file, const std::string& name) {
  return name.ends_with(kScale) && holds_int8(file, name.substr(0, name.size() - kScale.size()));
}

Int8Matrix read_int8(const TensorFile& file, const std::string& name) {
  const std::string scale = scale_of(name);
  const auto fail = [&](const auto&... why) { QFM_FAIL(file.path(), ": ", scale, ": ", why...); };
  if (!file.has(scale)) fail("missing, ", name, " is I8");
  const TensorFile::Entry& entry = file.entry(scale);
  const Shape wanted{file.entry(name).shape[0]};
  if (entry.dtype != "F32" || !(entry.shape == wanted)) fail(entry.dtype, " ", entry.shape, " instead of F32 ", wanted);
  const Int8Matrix m{file.tensor(name), file.tensor(scale)};
  const auto scales = m.scale.span<float>();
  for (size_t i = 0; i < scales.size(); ++i)
    if (!is_int8_scale(scales[i])) fail(scales[i], " of row ", i, " is no scale: a number above 0 of 16 leading bits");
  return m;
}

}  // namespace qfm
