// Cases of batch normalisation and of pooling.
#include "kernels/cases/case_maker.h"

namespace qfm {
namespace {

constexpr auto kRounding = Equal::Rounding;

CaseArray running(const char* name, ArrayRole role, int64_t size) {
  return {name, role, DType::F32, size, kRounding};
}

// The results of a residual block's last normalisation have a residual, those of the others none (null).
void add_batchnorm(CaseMaker& make, const NamedNorm& norm) {
  const BatchNormShape s = norm.shape;
  const int64_t c = s.channels, area = s.batch * c * s.places, n = s.batch * s.places;
  const bool with = norm.residual, activated = s.activation != Activation::None;
  const std::vector<int64_t> dims{s.batch, c, s.places};
  const int64_t other = with ? area : 1, dother = with && activated ? area : 1;
  make.add({norm.name, dims, n, 0, make.bytes((with ? 3 : 2) * area)},
           {make.out("y", area, kRounding), make.acc_out("mean", c), make.acc_out("rstd", c),
            running("running_mean", ArrayRole::InOut, c), running("running_var", ArrayRole::InOut, c),
            make.in("x", area), make.in("residual", other), make.in("gain", c), make.in("bias", c)},
           "batchnorm_forward",
           [=]<class T>(auto dev, T, auto y, auto mean, auto rstd, auto running_mean, auto running_var,
                        auto x, auto residual, auto gain, auto bias) {
             const T* added = residual;
             batchnorm_forward<T>(dev, s, y, mean, rstd, running_mean, running_var, 0.1, x,
                                  with ? added : nullptr, gain, bias);
           });
  const auto backward = [=]<class T>(BatchNormShape shape, auto dev, T, auto dx, auto dresidual, auto dgain,
                                     auto dbias, auto dy, auto x, auto residual, auto gain, auto bias,
                                     auto mean, auto rstd) {
    const T* added = residual;
    T* dadded = dresidual;
    batchnorm_backward<T>(dev, shape, dx, with && activated ? dadded : nullptr, dgain, dbias, dy, x,
                          with ? added : nullptr, gain, bias, mean, rstd);
  };
  CaseArray dadded = make.out("dresidual", dother, kRounding);
  if (dother == 1) dadded.role = ArrayRole::Scratch;  // not written
  const double bytes = make.bytes((dother > 1 ? 5 : 3) * area);
  for (const bool fixed : {false, true}) {
    BatchNormShape shape = s;
    shape.fixed = fixed;
    make.add({norm.name + (fixed ? ".backward_fixed" : ".backward"), dims, n, 0, bytes},
             {make.out("dx", area, kRounding), dadded, make.acc_out("dgain", c), make.acc_out("dbias", c),
              make.in("dy", area), make.in("x", area), make.in("residual", other), make.in("gain", c),
              make.in("bias", c), make.acc_in("mean", c), make.acc_in("rstd", c)},
             "batchnorm_backward", [=](auto... arguments) { backward(shape, arguments...); });
  }
}

void add_fixed(CaseMaker& make, const NamedNorm& norm) {
  const BatchNormShape s = norm.shape;
  const int64_t c = s.channels, area = s.batch * c * s.places;
  const bool with = norm.residual;
  make.add(
      {norm.name + ".fold", {c}},
      {make.acc_out("scale", c), make.acc_out("shift", c), make.acc_out("mean", c), make.acc_out("rstd", c),
       make.in("gain", c), make.in("bias", c), running("running_mean", ArrayRole::In, c),
       CaseMaker::numbers<float>("running_var", ArrayRole::In, c,
                                 [](int64_t i) { return 0.25 + 0.01 * double(i % 97); })},
      "batchnorm_fold", [=]<class T>(auto dev, T, auto scale, auto shift, auto mean, auto rstd, auto... in) {
        batchnorm_fold<T>(dev, c, 1e-5, scale, shift, mean, rstd, in...);
      });
  make.add({norm.name + ".scale_shift", {s.batch, c, s.places}, 1, 0, make.bytes((with ? 3 : 2) * area)},
           {make.out("y", area, kRounding), make.in("x", area), make.in("residual", with ? area : 1),
            make.acc_in("scale", c), make.acc_in("shift", c)},
           "scale_shift_forward",
           [=]<class T>(auto dev, T, auto y, auto x, auto residual, auto scale, auto shift) {
             const T* added = residual;
             scale_shift_forward<T>(dev, s, y, x, with ? added : nullptr, scale, shift);
           });
}

// Where some element of window i lies, as the maximum may.
int64_t place_in_window(const PoolShape& s, int64_t i) {
  const int64_t row = i / s.out_width() % s.out_height(), column = i % s.out_width();
  int64_t place = 0, seen = 0;
  for (int64_t u = 0; u < s.y.size; ++u)
    for (int64_t v = 0; v < s.x.size; ++v) {
      const int64_t y = s.y.at(row, u), x = s.x.at(column, v);
      if (y >= 0 && y < s.height && x >= 0 && x < s.width && (seen++ == 0 || (i + u + v) % 3 == 0))
        place = y * s.width + x;
    }
  return place;
}

void add_pool(CaseMaker& make, const NamedPool& pool) {
  const PoolShape s = pool.shape;
  const int64_t in = s.planes * s.height * s.width, out = s.planes * s.out_height() * s.out_width();
  const int64_t window = s.y.size * s.x.size;
  const std::vector<int64_t> dims{s.planes, s.height, s.width};
  const double bytes = make.bytes(in + out), indices = 4.0 * static_cast<double>(out);
  make.add({"max_pool" + pool.name, dims, 1, 0, bytes + indices},
           {make.out("y", out), {"at", ArrayRole::Out, DType::I32, out}, make.in("x", in)},
           "max_pool_forward",
           [=]<class T>(auto dev, T, auto y, auto at, auto x) { max_pool_forward<T>(dev, s, y, at, x); });
  make.add({"max_pool" + pool.name + ".dx", dims, window, 0, bytes + indices},
           {make.out("dx", in, kRounding), make.in("dy", out),
            CaseMaker::numbers<int32_t>(
                "at", ArrayRole::In, out,
                [=](int64_t i) { return place_in_window(s, i % (s.out_height() * s.out_width())); })},
           "max_pool_backward", [=]<class T>(auto dev, T, auto dx, auto dy, auto at) {
             max_pool_backward<T>(dev, s, dx, dy, at);
           });
  make.add({"mean_pool" + pool.name, dims, window, 0, bytes},
           {make.out("y", out, kRounding), make.in("x", in)}, "mean_pool_forward",
           [=]<class T>(auto dev, T, auto y, auto x) { mean_pool_forward<T>(dev, s, y, x); });
  make.add({"mean_pool" + pool.name + ".dx", dims, window, 0, bytes},
           {make.out("dx", in, kRounding), make.in("dy", out)}, "mean_pool_backward",
           [=]<class T>(auto dev, T, auto dx, auto dy) { mean_pool_backward<T>(dev, s, dx, dy); });
}

void add_adaptive_pool(CaseMaker& make, const NamedAdaptivePool& pool) {
  const AdaptivePoolShape s = pool.shape;
  const int64_t in = s.planes * s.height * s.width, out = s.planes * s.out_height * s.out_width;
  const std::vector<int64_t> dims{s.planes, s.height, s.width};
  const int64_t length = (s.height / s.out_height + 2) * (s.width / s.out_width + 2);
  make.add({pool.name, dims, length, 0, make.bytes(in + out)},
           {make.out("y", out, kRounding), make.in("x", in)}, "adaptive_pool_forward",
           [=]<class T>(auto dev, T, auto y, auto x) { adaptive_pool_forward<T>(dev, s, y, x); });
  make.add({pool.name + ".dx", dims, length, 0, make.bytes(in + out)},
           {make.out("dx", in, kRounding), make.in("dy", out)}, "adaptive_pool_backward",
           [=]<class T>(auto dev, T, auto dx, auto dy) { adaptive_pool_backward<T>(dev, s, dx, dy); });
}

}  // namespace

void add_norm_pool_cases(CaseMaker& make) {
  make.group = "norm";
  for (const NamedNorm& norm : make.s.norms) add_batchnorm(make, norm), add_fixed(make, norm);
  make.group = "pool";
  for (const NamedPool& pool : make.s.pools) add_pool(make, pool);
  for (const NamedAdaptivePool& pool : make.s.adaptive_pools) add_adaptive_pool(make, pool);
}

}  // namespace qfm
