#include "kernels/cases/cases.h"

#include "kernels/cases/case_maker.h"

namespace qfm {

std::vector<KernelCase> kernel_cases(const CaseSizes& sizes, DType type) {
  CaseMaker make(sizes, type);
  add_algebra_cases(make);
  add_backbone_cases(make);
  add_training_cases(make);
  add_norm_pool_cases(make);
#if !defined(QFM_CUDA_DEVICE) && !defined(QFM_CUDA_HOST)  // until there is a conv2d.cu
  add_conv_cases(make);
#endif
  add_sampling_cases(make);
  return make.take();
}

std::vector<KernelCase> conv_cases(const std::vector<NamedConv>& convolutions, DType type) {
  CaseMaker make({.batch = 0, .tokens = 0, .patches = 0, .width = 0, .convolutions = convolutions}, type);
  add_conv_cases(make);
  return make.take();
}

std::vector<KernelCase> sampling_cases(const std::vector<NamedSampling>& samplings, DType type) {
  CaseMaker make({.batch = 0, .tokens = 0, .patches = 0, .width = 0, .samplings = samplings}, type);
  add_sampling_cases(make);
  return make.take();
}

}  // namespace qfm
