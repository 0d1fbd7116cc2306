#include "engine/packed_weight.h"

#include <utility>

#include "engine/dispatch.h"
#include "kernels/gemm/gemm_int8.h"

namespace qfm {

void pack_weight(const Tensor& w) {
  const GemmShape shape{1, w.dim(0), w.numel() / w.dim(0), false, true};
  PackedWeight packed{{}, cpu()};
  dispatch_cpu({"weight packing"}, w, [&](auto dev, auto t) {
    using T = decltype(t);
    packed.data =
        Tensor({static_cast<int64_t>((gemm_packed_bytes<T>(dev, shape) + 3) / 4)}, DType::I32, w.device());
    gemm_pack<T>(dev, shape, packed.data.raw(), ptr<const T>(w));
  });
  w.attach(std::make_shared<const PackedWeight>(std::move(packed)));
}

void pack_weight_int8(const Tensor& w, const Int8Matrix& m) {
  const ProfileScope scope({"weight packing"});
  const int64_t n = w.dim(0), k = w.numel() / n;
  PackedWeight packed{Tensor({static_cast<int64_t>(gemm_int8_packed_bytes(n, k) / 4)}, DType::I32), {}, true};
  gemm_int8_pack(Cpu{}, packed.data.raw(), m.q.data<const int8_t>(), m.scale.data<const float>(), n, k);
  w.attach(std::make_shared<const PackedWeight>(std::move(packed)));
}

const PackedWeight* packed_weight(const Tensor& w) {
  return static_cast<const PackedWeight*>(w.attached());
}

bool reads_int8(const Tensor& w) {
  const PackedWeight* packed = w.empty() ? nullptr : packed_weight(w);
  return packed && packed->int8;
}

}  // namespace qfm
