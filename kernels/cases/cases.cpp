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

std::vector<KernelCase> image_kernel_cases(const CaseSizes& sizes, DType type) {
  CaseMaker make(sizes, type);
  add_conv_cases(make);
  add_norm_pool_cases(make);
  add_sampling_cases(make);
  return make.take();
}

}  // namespace qfm
