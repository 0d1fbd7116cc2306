#include "engine/int8_matrix.h"

#include "kernels/gemm/int8_weights.h"

namespace qfm {

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
  dequantise_rows(w.data<float>(), from.q.data<const int8_t>(), from.scale.data<const float>(), rows, w.numel() / rows);
}

}  // namespace qfm
