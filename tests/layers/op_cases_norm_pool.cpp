#include "tests/layers/op_cases.h"

namespace qfm::test {

void add_norm_pool_cases(std::vector<OpCase>& /*table*/) {}

}  // namespace qfm::test
