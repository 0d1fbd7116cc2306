#include "engine/packed_weight.h"

#include <utility>

#include "engine/dispatch.h"
#include "kernels/gemm/gemm.h"

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

const PackedWeight* packed_weight(const Tensor& w) {
  return static_cast<const PackedWeight*>(w.attached());
}

}  // namespace qfm
