#include "kernels/gemm/gemm_onednn.h"

#include <omp.h>

#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <tuple>
#include <unordered_map>

#include "engine/base/error.h"
#include "engine/base/threads.h"

namespace qfm::onednn {
namespace {

using dnnl::memory;

// Rows of a task. oneDNN runs on the thread that calls it, so that there is one pool of threads, ours.
constexpr int64_t kRows = 99;

memory::desc matrix(int64_t rows, int64_t columns, memory::dims strides) {
  return {{rows, columns}, memory::data_type::f32, std::move(strides)};
}
memory::desc dense(int64_t rows, int64_t columns) { return matrix(rows, columns, {columns, 1}); }

// A matmul for one height of the rows of a shape, with the memories it is executed on.
struct Product {
  dnnl::matmul primitive;
  std::unordered_map<int, memory> arguments;
};

// Everything that decides which primitive serves.
using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, bool, bool, bool, bool, bool, bool>;

Product build(const dnnl::engine& engine, const GemmShape& s, int64_t rows, const GemmEpilogue<float>& e) {
  const auto a = matrix(rows, s.k, s.trans_a ? memory::dims{1, s.m} : memory::dims{s.k, 1});
  const auto b = matrix(s.k, s.n, s.trans_b ? memory::dims{1, s.k} : memory::dims{s.n, 1});
  const auto row = dense(1, s.n), c = dense(rows, s.n);
  Product p;
  const auto argument = [&](int name, const memory::desc& d) {
    p.arguments.emplace(name, memory(d, engine, nullptr));
  };
  argument(DNNL_ARG_SRC, a);
  argument(DNNL_ARG_WEIGHTS, b);
  argument(DNNL_ARG_DST, c);
  if (e.bias) argument(DNNL_ARG_BIAS, row);
  dnnl::post_ops after;
  if (e.gelu) after.append_eltwise(1.0f, dnnl::algorithm::eltwise_gelu_erf, 0.0f, 0.0f);
  if (e.scale) {
    argument(DNNL_ARG_ATTR_MULTIPLE_POST_OP(after.len()) | DNNL_ARG_SRC_1, row);
    after.append_binary(dnnl::algorithm::binary_mul, row);
  }
  if (e.residual) {
    argument(DNNL_ARG_ATTR_MULTIPLE_POST_OP(after.len()) | DNNL_ARG_SRC_1, c);
    after.append_binary(dnnl::algorithm::binary_add, c);
  }
  dnnl::primitive_attr attributes;
  attributes.set_post_ops(after);
  const auto description = e.bias ? dnnl::matmul::desc(a, b, row, c) : dnnl::matmul::desc(a, b, c);
  p.primitive = dnnl::matmul(dnnl::matmul::primitive_desc(description, attributes, engine));
  return p;
}

// What a thread keeps: a primitive must not run on two threads at once.
struct ThreadState {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::map<Key, Product> products;
  ThreadState() { omp_set_num_threads(1); }  // of this thread only

  Product& product(const GemmShape& s, int64_t rows, const GemmEpilogue<float>& e) {
    constexpr size_t most = 256;
    const Key key{rows,      s.n,         s.k,    s.trans_a ? s.m : 0, s.trans_a,
                  s.trans_b, e.bias != 0, e.gelu, e.scale != 0,        e.residual != 0};
    auto at = products.find(key);
    if (at == products.end()) {
      if (products.size() >= most) products.clear();
      at = products.emplace(key, build(engine, s, rows, e)).first;
    }
    return at->second;
  }
};

void run_rows(const GemmShape& s, float* c, const float* a, const float* b, const GemmEpilogue<float>& e,
              int64_t row, int64_t rows) {
  thread_local ThreadState state;
  Product& p = state.product(s, rows, e);
  const auto set = [&](int name, const float* data) {
    p.arguments.at(name).set_data_handle(const_cast<float*>(data), state.stream);
  };
  set(DNNL_ARG_SRC, a + row * (s.trans_a ? 1 : s.k));
  set(DNNL_ARG_WEIGHTS, b);
  set(DNNL_ARG_DST, c + row * s.n);
  if (e.bias) set(DNNL_ARG_BIAS, e.bias);
  int position = e.gelu;
  if (e.scale) set(DNNL_ARG_ATTR_MULTIPLE_POST_OP(position++) | DNNL_ARG_SRC_1, e.scale);
  if (e.residual) set(DNNL_ARG_ATTR_MULTIPLE_POST_OP(position) | DNNL_ARG_SRC_1, e.residual + row * s.n);
  p.primitive.execute(state.stream, p.arguments);
  state.stream.wait();
}

}  // namespace

bool covers(const GemmShape& s, const GemmEpilogue<float>& e) {
  return s.m > 0 && s.n > 0 && s.k > 0 && !e.pre_gelu && !e.times_gelu_grad_of;
}

void gemm(const GemmShape& s, float* c, const float* a, const float* b, const GemmEpilogue<float>& e) {
  const int64_t blocks = (s.m + kRows - 1) / kRows;
  try {
    parallel_for(blocks, [&](int64_t i) {
      const int64_t row = s.m * i / blocks;
      run_rows(s, c, a, b, e, row, s.m * (i + 1) / blocks - row);
    });
  } catch (const dnnl::error& error) {
    QFM_FAIL("oneDNN: ", error.what());
  }
}

}  // namespace qfm::onednn
