#include "engine/param.h"

#include <cmath>

#include "engine/base/rng.h"
#include "engine/dispatch.h"
#include "kernels/pointwise/elementwise.h"

namespace qfm {
namespace {

constexpr int64_t kAlign = 16;  // elements: 64 bytes of F32, 32 of BF16

Tensor slice(const Tensor& flat, const Param::Entry& e) {
  return flat.rows(e.offset, e.offset + e.shape.numel()).reshape(e.shape);
}

void bind(Param::Entry& e, const ParamSet& set) {
  e.master = slice(set.master, e);
  e.value = set.copy.empty() ? e.master : slice(set.copy, e);
  e.var = set.gradient.empty() ? Var(e.value) : Var::parameter(e.value, slice(set.gradient, e));
}

// Masters may lie on a device: values are drawn on the CPU and copied.
template <class Draw>
void fill_with(const Param& p, Draw&& draw) {
  const Tensor& master = p.master();
  Tensor host(master.shape(), DType::F32);
  for (float& v : host.span<float>()) v = draw();
  master.copy_from(host.to(master.dtype()));
}

}  // namespace

Param Param::rows(int64_t begin, int64_t end) const {
  QFM_CHECK(views_ != nullptr && entry_->master.empty(), "parameter ", name(),
            ": rows are taken before allocation");
  std::vector<int64_t> dims(shape().begin(), shape().end());
  QFM_CHECK(!dims.empty() && 0 <= begin && begin < end && end <= dims[0], "parameter ", name(), " ", shape(),
            ": no rows ", begin, " to ", end);
  dims[0] = end - begin;
  auto view = std::make_shared<Entry>(Entry{name(), Shape(dims), decay(), 0, {}, {}, {}, entry_, begin});
  views_->push_back(view);
  return Param(view);
}

Param ParamSet::add(const std::string& name, Shape shape, bool decay) {
  QFM_CHECK(master.empty(), "parameter ", name, ": added after allocation");
  for (const Param& p : params_) QFM_CHECK(p.name() != name, "parameter ", name, ": added twice");
  params_.emplace_back(
      std::make_shared<Param::Entry>(Param::Entry{name, shape, decay, 0, {}, {}, {}, nullptr, 0}), &views_);
  return params_.back();
}

void ParamSet::allocate(Device device, DType compute, bool training) {
  compute_ = compute;
  std::vector<std::shared_ptr<Param::Entry>> entries;
  size_ = 0;
  for (bool decay : {true, false}) {
    for (const Param& p : params_) {
      if (p.decay() != decay) continue;
      p.entry()->offset = size_;
      size_ += (p.shape().numel() + kAlign - 1) / kAlign * kAlign;
    }
    if (decay) decayed_ = size_;
  }
  const DType full = acc_of(compute);
  master = Tensor::zeros({size_}, full, device);
  copy = compute == full ? Tensor() : Tensor::zeros({size_}, compute, device);
  gradient = training ? Tensor::zeros({size_}, full, device) : Tensor();
  for (const Param& p : params_) bind(*p.entry(), *this);
  for (const auto& view : views_) {
    view->offset = view->whole->offset + view->first_row * (view->shape.numel() / view->shape[0]);
    bind(*view, *this);
  }
}

void ParamSet::sync() {
  if (copy.empty()) return;
  dispatch({"parameter copy"}, copy, [&](auto dev, auto t) {
    using T = decltype(t);
    cast(dev, ptr<T>(copy), ptr<const acc<T>>(master), size_);
  });
}

void ParamSet::zero_grad() { gradient.fill_zero(); }

int64_t ParamSet::count() const {
  int64_t n = 0;
  for (const Param& p : params_) n += p.shape().numel();
  return n;
}

void fill(const Param& p, double value) {
  fill_with(p, [&] { return static_cast<float>(value); });
}

void fill_truncated_normal(const Param& p, uint64_t seed, double std) {
  Rng rng(seed, p.name());
  fill_with(p, [&] { return static_cast<float>(std) * rng.truncated_normal(); });
}

void fill_xavier_uniform(const Param& p, uint64_t seed) {
  const auto m = as_matrix(p.master());
  const double bound = std::sqrt(6.0 / static_cast<double>(m.rows + m.cols));
  Rng rng(seed, p.name());
  fill_with(p, [&] { return static_cast<float>(bound * (2.0 * rng.uniform() - 1.0)); });
}

}  // namespace qfm
