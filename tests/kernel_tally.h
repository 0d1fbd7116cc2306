// host-CUDA counts launches: what ran in this test binary, and whether each kernel did.
#pragma once

namespace qfm::test {

// One line for each kernel of kernels/ and its template arguments: "kernel add_kernel<float, 4>: 12 launches".
void print_kernel_tally();
// Whether every kernel that kernels/ defines was launched, in each form that it is compiled in; prints
// which were not.
bool all_kernels_ran();

}  // namespace qfm::test
