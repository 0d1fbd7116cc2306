#include "kernels/cases/cases.h"

#include "kernels/cases/case_maker.h"

namespace qfm {

std::vector<KernelCase> kernel_cases(const CaseSizes& sizes, DType type) {
  CaseMaker make(sizes, type);
  add_backbone_cases(make);
  add_training_cases(make);
  return make.take();
}

}  // namespace qfm
