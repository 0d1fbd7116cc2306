// oneDNN's matrix products, to compare ours with (Debian's 2.6, built for OpenMP: on its own threads).
#include <omp.h>

#include <cstdio>
#include <oneapi/dnnl/dnnl.hpp>

#include "engine/base/threads.h"
#include "tools/bench/cold_buffers.h"
#include "tools/bench/model_cases.h"

namespace qfm {

TimedRun prepared_by_onednn(const KernelCase& c) {
  using dnnl::memory;
  if (c.kernel != "gemm" || c.type != DType::F32) return nullptr;
  long long m = 0, n = 0, k = 0;
  QFM_CHECK(std::sscanf(c.shape.c_str(), "%lldx%lldx%lld", &m, &n, &k) == 3, c.name, ": shape ", c.shape);
  const bool dw = c.name.ends_with(".dw"), dx = c.name.ends_with(".dx");
  const auto matrix = [](long long rows, long long cols, bool transposed) {
    return memory::desc({rows, cols}, memory::data_type::f32,
                        transposed ? memory::dims{1, rows} : memory::dims{cols, 1});
  };
  const auto a = matrix(m, k, dw), b = matrix(k, n, !dw && !dx), to = matrix(m, n, false);
  omp_set_num_threads(threads());
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const dnnl::matmul product(dnnl::matmul::primitive_desc(dnnl::matmul::desc(a, b, to), engine));
  const auto made = [](long long size) { return BufferTurns({size}, DType::F32, cpu_device, 1); };
  return [=, c0 = made(m * n), a0 = made(m * k), b0 = made(k * n),
          stream = dnnl::stream(engine)](size_t turn) mutable {
    product.execute(stream, {{DNNL_ARG_SRC, memory(a, engine, a0[turn].raw())},
                             {DNNL_ARG_WEIGHTS, memory(b, engine, b0[turn].raw())},
                             {DNNL_ARG_DST, memory(to, engine, c0[turn].raw())}});
    stream.wait();
  };
}

}  // namespace qfm
