#include "kernels/cases/cases.h"

#include "kernels/cases/case_maker.h"

namespace qfm {

std::vector<KernelCase> kernel_cases(const CaseSizes& sizes, DType type) {
  CaseMaker make(sizes, type);
  add_algebra_cases(make);
  add_backbone_cases(make);
  add_training_cases(make);
  add_norm_pool_cases(make);
  add_conv_cases(make);
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

std::vector<KernelCase> int8_kernel_cases(const CaseSizes& sizes) {
  CaseMaker make(sizes, DType::F32);
  add_int8_cases(make);
  return make.take();
}

}  // namespace qfm
