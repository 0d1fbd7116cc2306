#include "engine/param.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/base/rng.h"
#include "engine/dispatch.h"
#include "engine/int8_matrix.h"
#include "engine/packed_weight.h"
#include "kernels/optim/adamw.h"
#include "kernels/pointwise/map.h"

namespace qfm {
namespace {

constexpr int64_t kAlign = 16;  // elements: 64 bytes of F32, 32 of BF16

Tensor slice(const Tensor& flat, const Param::Entry& e) {
  return flat.rows(e.offset, e.offset + e.shape.numel()).reshape(e.shape);
}

// Masters may lie on a device: values are drawn on the CPU and copied.
template <class Draw>
void fill_with(const Tensor& to, Draw&& draw) {
  Tensor host(to.shape(), DType::F32);
  for (float& v : host.span<float>()) v = draw();
  to.copy_from(host.to(to.dtype()));
}

void average_into(const Tensor& average, const Tensor& now, double decay, const StepState* updated) {
  const int64_t n = average.numel();
  dispatch({"moving average", 3.0 * static_cast<double>(n), 3.0 * static_cast<double>(average.bytes())}, average,
           [&](auto dev, auto t) {
             using T = decltype(t);
             if constexpr (!std::is_same_v<decltype(dev), Cpu>)
               moving_average(dev, updated, ptr<float>(average), ptr<const float>(now), decay, n);
             else if constexpr (!std::is_same_v<T, bf16>)
               moving_average<T>(dev, ptr<T>(average), ptr<const T>(now), decay, n);
           });
}

}  // namespace

Param Param::rows(int64_t begin, int64_t end) const {
  QFM_CHECK(views_ != nullptr && entry_->master.empty(), "parameter ", name(),
            ": rows are taken before allocation");
  std::vector<int64_t> dims(shape().begin(), shape().end());
  QFM_CHECK(!dims.empty() && 0 <= begin && begin < end && end <= dims[0], "parameter ", name(), " ", shape(),
            ": no rows ", begin, " to ", end);
  dims[0] = end - begin;
  auto view = std::make_shared<Entry>(*entry_);
  view->shape = Shape(dims), view->whole = entry_, view->first_row = begin;
  entry_->has_views = true, entry_->int8 = view->int8 = false;  // its parts are multiplied with, each by itself
  views_->push_back(view);
  return Param(view);
}

void ParamSet::check_new(const std::string& name) const {
  QFM_CHECK(master.empty(), "parameter ", name, ": added after allocation");
  for (const Param& p : params_) QFM_CHECK(p.name() != name, "parameter ", name, ": added twice");
  for (const Buffer& b : buffers_) QFM_CHECK(b.name() != name, "buffer ", name, ": added twice");
}

Param ParamSet::add(Param::Entry entry) {
  check_new(entry.name);
  params_.emplace_back(std::make_shared<Param::Entry>(std::move(entry)), &views_);
  return params_.back();
}

Buffer ParamSet::add(Buffer::Entry entry) {
  check_new(entry.name);
  buffers_.emplace_back(std::make_shared<Buffer::Entry>(std::move(entry)));
  return buffers_.back();
}

void ParamSet::set_trainable(std::string_view prefix, bool trainable) {
  QFM_CHECK(master.empty(), "parameters ", prefix, "*: set after allocation");
  bool found = false;
  for (const Param& p : params_)
    if (p.name().starts_with(prefix)) p.entry()->trainable = trainable, found = true;
  QFM_CHECK(found, "no parameter's name begins with '", prefix, "'");
}

void ParamSet::bind(Param::Entry& e) const {
  if (in_int8(e)) {
    e.master = Tensor::zeros(e.shape);  // by itself, so that it can go
    // Products find what is packed by it; nobody writes it, and memory that was never touched costs nothing.
    e.value = Tensor(e.shape, DType::I8), e.var = Var(e.value);
    return;
  }
  e.master = slice(master, e);
  e.value = copy.empty() ? e.master : slice(copy, e);
  const bool wanted = e.trainable && !gradient.empty();
  e.var = wanted ? Var::parameter(e.value, slice(gradient, e)) : Var(e.value);
}

void ParamSet::allocate(Device device, DType compute, bool training) {
  int8_ = compute == DType::I8;
  QFM_CHECK(!int8_ || (device == cpu_device && !training), "INT8 is for inference on the CPU");
  compute_ = compute = int8_ ? DType::F32 : compute;
  size_ = 0;
  const auto place = [&](bool trainable, Role role) {
    for (const Param& p : params_) {
      if (p.trainable() != trainable || p.entry()->role != role || in_int8(*p.entry())) continue;
      p.entry()->offset = size_;
      size_ += (p.shape().numel() + kAlign - 1) / kAlign * kAlign;
    }
    return size_;
  };
  decayed_ = place(true, Role::Matrix), trained_ = place(true, Role::Vector);
  place(false, Role::Matrix), place(false, Role::Vector);
  const DType full = acc_of(compute);
  master = Tensor::zeros({size_}, full, device);
  copy = compute == full ? Tensor() : Tensor::zeros({size_}, compute, device);
  gradient = training ? Tensor::zeros({trained_}, full, device) : Tensor();
  for (const Param& p : params_) bind(*p.entry());
  for (const auto& view : views_) {
    view->trainable = view->whole->trainable;
    view->offset = view->whole->offset + view->first_row * (view->shape.numel() / view->shape[0]);
    bind(*view);
  }
  for (const Buffer& b : buffers_) b.entry()->value = Tensor::zeros(b.shape(), DType::F32, device);
}

void ParamSet::initialise(uint64_t seed) {
  for (const Param& p : params_) fill(p, p.entry()->init, seed);
  for (const Buffer& b : buffers_)
    fill_with(b.value(), [&] { return static_cast<float>(b.entry()->initial); });
  sync();
}

void ParamSet::sync() {
  (copy.empty() ? master : copy).detach_all();
  if (copy.empty()) return;
  dispatch({"parameter copy"}, copy, [&](auto dev, auto t) {
    using T = decltype(t);
    cast(dev, ptr<T>(copy), ptr<const acc<T>>(master), size_);
  });
}

void ParamSet::pack_int8() {
  sync();
  for (const Param& p : params_) {
    Param::Entry& e = *p.entry();
    if (!e.saved || e.role != Role::Matrix || e.master.empty()) continue;
    const Int8Matrix m = to_int8(e.master, e.name);
    if (e.int8) pack_weight_int8(e.value, m), e.master = {};
    else copy_from_int8(e.master, m);
  }
}

void ParamSet::pack() {
  if (master.device() != cpu_device) return;
  if (int8_) pack_int8();
  for (const Param& p : params_) {
    const Param::Entry& e = *p.entry();
    if (e.role == Role::Matrix && e.packed && !e.has_views && !in_int8(e)) pack_weight(e.value);
  }
  for (const auto& view : views_)
    if (view->role == Role::Matrix && view->packed) pack_weight(view->value);
}

void ParamSet::zero_grad() { gradient.fill_zero(); }

// f(tensor here, tensor there) for all that is saved: in one piece where both lie alike.
template <class F>
void ParamSet::for_pairs(const ParamSet& other, F&& f) const {
  const NamedTensors here = saved(), there = other.saved();
  QFM_CHECK(here.size() == there.size(), "parameters: those of another model");
  const bool alike = std::equal(params_.begin(), params_.end(), other.params_.begin(), other.params_.end(),
                                [](const Param& a, const Param& b) {
                                  return a.entry()->offset == b.entry()->offset && a.shape() == b.shape();
                                });
  if (alike) f(master, other.master);
  for (size_t i = alike ? here.size() - buffers_.size() : 0; i < here.size(); ++i) f(here[i].second, there[i].second);
}

void ParamSet::copy_from(const ParamSet& other) {
  for_pairs(other, [](const Tensor& to, const Tensor& from) { to.copy_from(from); });
  sync();
}

void ParamSet::average(const ParamSet& other, double decay, const StepState* updated) {
  for_pairs(other, [&](const Tensor& average, const Tensor& now) { average_into(average, now, decay, updated); });
  sync();
}

NamedTensors ParamSet::saved() const {
  NamedTensors tensors;
  for (const Param& p : params_) {
    if (!p.saved()) continue;
    QFM_CHECK(!p.master().empty(), "parameter ", p.name(), ": its floats went when it was packed for INT8");
    tensors.emplace_back(p.name(), p.master());
  }
  for (const Buffer& b : buffers_) tensors.emplace_back(b.name(), b.value());
  return tensors;
}

NamedTensors ParamSet::buffer_tensors(const std::string& prefix) const {
  NamedTensors tensors;
  for (const Buffer& b : buffers_) tensors.emplace_back(prefix + b.name(), b.value());
  return tensors;
}

int64_t ParamSet::count() const {
  int64_t n = 0;
  for (const Param& p : params_)
    if (p.saved()) n += p.shape().numel();
  return n;
}

void fill(const Param& p, const Init& init, uint64_t seed) {
  Rng rng(seed, p.name());
  switch (init.kind) {
    case Init::Kind::Constant:
      return fill_with(p.master(), [&] { return static_cast<float>(init.value); });
    case Init::Kind::TruncatedNormal:
      return fill_with(p.master(), [&] { return static_cast<float>(init.value) * rng.truncated_normal(); });
    case Init::Kind::XavierUniform: {
      const auto m = as_matrix(p.master());
      const double bound = std::sqrt(6.0 / static_cast<double>(m.rows + m.cols));
      return fill_with(p.master(), [&] { return static_cast<float>(bound * (2.0 * rng.uniform() - 1.0)); });
    }
  }
}

}  // namespace qfm
