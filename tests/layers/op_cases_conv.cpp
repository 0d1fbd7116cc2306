#include "layers/conv2d.h"
#include "tests/layers/op_cases.h"

namespace qfm::test {
namespace {

using In = std::vector<Var>;

struct Sizes {
  std::string name;
  int64_t batch, in, height, width, out, kernel_height, kernel_width;
  ConvOptions options;
};

// With a bias, and without where there is one channel out.
void add(std::vector<OpCase>& t, const Sizes& s) {
  const int64_t group_in = s.in / s.options.groups;
  std::vector<OpInput> inputs{{{s.batch, s.in, s.height, s.width}},
                              {{s.out, group_in, s.kernel_height, s.kernel_width}, true}};
  if (s.out > 1) inputs.push_back({{s.out}, true});
  t.push_back(
      {"conv2d " + s.name, inputs,
       [o = s.options](const In& v) { return conv2d(v[0], v[1], v.size() > 2 ? v[2] : Var(), o); },
       std::max(s.batch * s.height * s.width, std::max(s.in, s.out) * s.kernel_height * s.kernel_width)});
}

}  // namespace

void add_conv_cases(std::vector<OpCase>& t) {
#if defined(QFM_CUDA_DEVICE) || defined(QFM_CUDA_HOST)
  return;  // until there is a conv2d.cu
#endif
  const auto square = [](int64_t stride, int64_t padding, int64_t groups = 1, int64_t dilation = 1) {
    return ConvOptions::square(stride, padding, groups, dilation);
  };
  add(t, {"of one value", 1, 1, 1, 1, 1, 1, 1, square(1, 0)});
  add(t, {"1x1", 2, 5, 3, 7, 13, 1, 1, square(1, 0)});
  add(t, {"1x1 stride 2", 1, 3, 5, 6, 7, 1, 1, square(2, 0)});
  add(t, {"3x3", 2, 3, 7, 5, 5, 3, 3, square(1, 1)});
  add(t, {"3x3 to one channel", 1, 17, 5, 19, 1, 3, 3, square(1, 1)});
  add(t, {"3x3 stride 2", 2, 3, 8, 7, 17, 3, 3, square(2, 1)});
  add(t, {"3x3 dilated", 1, 2, 7, 9, 3, 3, 3, square(1, 2, 1, 2)});
  add(t, {"3x3 dilated by 2, stride 3", 1, 2, 11, 13, 3, 3, 3, square(3, 2, 1, 2)});
  add(t, {"3x3 groups", 2, 6, 5, 7, 9, 3, 3, square(1, 1, 3)});
  add(t, {"7x7 stride 2", 1, 3, 13, 17, 5, 7, 7, square(2, 3)});
  add(t, {"3x3 depthwise", 2, 5, 7, 19, 5, 3, 3, square(1, 1, 5)});
  add(t, {"3x3 depthwise stride 2", 1, 3, 7, 37, 3, 3, 3, square(2, 1, 3)});
  add(t, {"5x5 depthwise", 1, 3, 7, 7, 3, 5, 5, square(1, 2, 3)});
  add(t, {"5x5 depthwise stride 2", 1, 2, 9, 11, 2, 5, 5, square(2, 2, 2)});
  add(t, {"depthwise, two a channel", 1, 3, 5, 5, 6, 3, 3, square(1, 1, 3)});
  add(t, {"2x3, asymmetric padding", 1, 3, 5, 7, 3, 2, 3, {{2, 1, 1, 0, 1}, {3, 2, 0, 2, 1}, 1}});
  add(t, {"1x5 padded beyond its size", 1, 2, 3, 4, 3, 1, 5, {{1, 1, 2, 1, 1}, {5, 3, 6, 7, 1}, 1}});
  add(t, {"3x3, stride larger than the image", 1, 2, 3, 4, 3, 3, 3, square(5, 1)});
}

}  // namespace qfm::test
