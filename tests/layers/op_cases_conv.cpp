#include "tests/layers/op_cases.h"

namespace qfm::test {

void add_conv_cases(std::vector<OpCase>& /*table*/) {}

}  // namespace qfm::test
