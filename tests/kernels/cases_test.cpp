// The table of kernels/cases on the CPU: every vector path against the plain code, one thread against
// several, an image alone against a batch, plain gradients against central differences.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "tests/kernels/case_runs.h"
#include "tests/tolerance.h"

namespace qfm::test {
namespace {

struct Size {
  int64_t batch, rows, width;
};

// f(case, its inputs) for each case of the table.
template <class F>
void for_each_of(const std::vector<KernelCase>& cases, F&& f) {
  const auto inputs = inputs_of(cases);
  for (size_t k = 0; k < cases.size(); ++k) {
    CAPTURE(cases[k].name);
    f(cases[k], inputs[k]);
  }
}
template <class F>
void for_cases(Size size, DType type, F&& f) {
  for_each_of(small_cases(size.batch, size.rows, size.width, type), f);
}

bool is_finite(const Doubles& x) {
  return std::all_of(x.begin(), x.end(), [](double v) { return std::isfinite(v); });
}

void compare_paths(Size size, DType type) {
  for_cases(size, type, [&](const KernelCase& c, const Values& in) {
    Values expected;
    {
      PathScope plain(CpuIsa::Plain);
      expected = run_case(c, cpu_device, in);
    }
    for (const CpuPath& path : simd_paths()) {
      PathScope scope(path);
      CAPTURE(name_of(path));
      const Values found = run_case(c, cpu_device, in);
      for (size_t i = 0; i < found.size(); ++i) {
        const CaseArray& a = c.arrays[i];
        CAPTURE(a.name);
        if (!is_written(a)) continue;
        const Doubles x = doubles_of(found[i], a.type), y = doubles_of(expected[i], a.type);
        if (is_floating(a.type)) CHECK(is_finite(x));
        if (is_floating(a.type))
          CHECK(within(tolerance_type(c, a), x, y, std::max({c.length, size.rows, size.width})));
        else CHECK(x == y);
      }
    }
  });
}

TEST_CASE("kernels: every vector path agrees with the plain code, forward and backward") {
  for (const Size size : {Size{1, 1, 1},
                          {1, 1, 13},
                          {1, 7, 1},
                          {3, 5, 16},
                          {1, 13, 197},
                          {2, 197, 33},
                          {1, 131, 192},
                          {1, 2, 1009}}) {
    CAPTURE(size.rows);
    CAPTURE(size.width);
    for (const DType type : {DType::F32, DType::BF16}) compare_paths(size, type);
  }
}

void compare_threads(const std::vector<KernelCase>& cases) {
  for_each_of(cases, [&](const KernelCase& c, const Values& in) {
    for (const CpuPath& path : all_paths()) {
      PathScope scope(path);
      ThreadScope one(1);
      const Values expected = run_case(c, cpu_device, in);
      for (int n : {2, 3}) {
        ThreadScope several(n);
        const Values found = run_case(c, cpu_device, in);
        for (size_t i = 0; i < found.size(); ++i)
          if (is_written(c.arrays[i])) CHECK(found[i] == expected[i]);
      }
    }
  });
}

TEST_CASE("kernels: any number of threads gives the same bits") {
  compare_threads(small_cases(1, 197, 197, DType::F32));
  compare_threads(small_cases(1, 131, 192, DType::BF16));
  compare_threads(int8_kernel_cases({.batch = 3, .tokens = 37, .patches = 36, .width = 66, .heads = 3}));
}

// Image i of an array that grows with the batch; another array as a whole.
Bytes image_of(const Bytes& x, int64_t size_alone, int64_t size, int64_t i, DType type) {
  if (size_alone == size) return x;
  const auto begin = x.begin() + i * size_alone * static_cast<int64_t>(size_of(type));
  return Bytes(begin, begin + size_alone * static_cast<int64_t>(size_of(type)));
}

void compare_batches(DType type) {
  constexpr int64_t kBatch = 5;
  const auto alone = small_cases(1, 3, 37, type);
  size_t k = 0, compared = 0;
  for_cases({kBatch, 3, 37}, type, [&](const KernelCase& c, const Values& in) {
    while (alone[k].name != c.name) ++k;
    if (c.group != "norm" && c.group != "pointwise" && c.group != "reduce" && c.group != "conv" &&
        c.group != "pool" && c.group != "sampling")
      return;
    // By the statistics of a batch: of these only what fixed ones serve.
    if (c.kernel == "batchnorm_forward" || (c.kernel == "batchnorm_backward" && c.name.ends_with(".backward")))
      return;
    const Values whole = run_case(c, cpu_device, in);
    for (int64_t i = 0; i < kBatch; ++i) {
      Values image;
      for (size_t a = 0; a < in.size(); ++a)
        image.push_back(
            in[a].empty() ? in[a]
                          : image_of(in[a], alone[k].arrays[a].size, c.arrays[a].size, i, c.arrays[a].type));
      const Values found = run_case(alone[k], cpu_device, image);
      for (size_t a = 0; a < found.size(); ++a) {
        const CaseArray &one = alone[k].arrays[a], &all = c.arrays[a];
        if (!is_written(all) || one.size == all.size) continue;  // a sum over the batch
        CAPTURE(all.name);
        CHECK(found[a] == image_of(whole[a], one.size, all.size, i, all.type));
        ++compared;
      }
    }
  });
  CHECK(compared > 25 * kBatch);
}

TEST_CASE("kernels: an image has the same bits alone and in any batch") {
  for (const CpuPath& path : all_paths()) {
    PathScope scope(path);
    for (const DType type : {DType::F32, DType::BF16}) compare_batches(type);
  }
}

// A forward with what gives its gradients, and d loss / d output of each.
class Gradients {
 public:
  Gradients(const KernelCase& forward, const Values& in, const KernelCase& backward,
            const Values& backward_in)
      : forward_(forward), in_(in) {
    const Values out = run_case(backward, cpu_device, backward_in);
    for (size_t i = 0; i < out.size(); ++i) {
      const CaseArray& a = backward.arrays[i];
      if (a.name[0] == 'd')
        (a.role == ArrayRole::Out ? found_ : upstream_)[a.name] =
            a.role == ArrayRole::Out ? doubles_of(out[i], a.type) : doubles_of(backward_in[i], a.type);
    }
    if (&backward == &forward) upstream_ = {{"dloss", {1.0}}};
  }

  void check() {
    size_t checked = 0;
    for (size_t i = 0; i < in_.size(); ++i) {
      const auto gradient = found_.find("d" + forward_.arrays[i].name);
      if (forward_.arrays[i].role != ArrayRole::In || gradient == found_.end()) continue;
      CAPTURE(gradient->first);
      check_input(i, gradient->second);
      ++checked;
    }
    CHECK(checked == found_.size());
  }

 private:
  double value() const {
    const Values out = run_case(forward_, cpu_device, in_);
    double sum = 0;
    for (size_t i = 0; i < out.size(); ++i) {
      const auto dy = upstream_.find("d" + forward_.arrays[i].name);
      if (forward_.arrays[i].role != ArrayRole::Out || dy == upstream_.end()) continue;
      const Doubles y = doubles_of(out[i], DType::F64);
      for (size_t e = 0; e < y.size(); ++e) sum += dy->second[e] * y[e];
    }
    return sum;
  }
  void check_input(size_t i, const Doubles& gradient) {
    constexpr double h = 1e-5;
    double worst = 0, scale = 1;
    REQUIRE(gradient.size() * sizeof(double) == in_[i].size());
    const size_t stride = std::max<size_t>(1, gradient.size() / 211);
    for (size_t e = 0; e < gradient.size(); e += stride) {
      double* x = reinterpret_cast<double*>(in_[i].data()) + e;
      const double kept = *x;
      *x = kept + h;
      const double above = value();
      *x = kept - h;
      const double difference = (above - value()) / (2 * h);
      *x = kept;
      worst = std::max(worst, std::fabs(difference - gradient[e]));
      scale = std::max(scale, std::fabs(difference));
    }
    CHECK(is_finite(gradient));
    CHECK(worst <= 1e-6 * scale);
  }

  const KernelCase& forward_;
  Values in_;
  std::map<std::string, Doubles> found_, upstream_;
};

TEST_CASE("kernels: plain gradients equal central differences") {
  PathScope plain(CpuIsa::Plain);
  for (const Size size : {Size{1, 1, 1}, {1, 3, 7}, {2, 2, 13}, {1, 71, 3}}) {
    const auto cases = small_cases(size.batch, size.rows, size.width, DType::F64);
    const auto inputs = inputs_of(cases);
    size_t found = 0;
    for (size_t k = 0; k < cases.size(); ++k) {
      const KernelCase& c = cases[k];
      CAPTURE(c.name);
      // Their inputs are no normal numbers: tests/layers/op_cases.cpp has them.
      if (c.name == "selection_loss" || c.name == "similarity_cross_entropy") continue;
      const auto backward = std::find_if(cases.begin(), cases.end(),
                                         [&](const KernelCase& b) { return b.name == c.name + ".backward"; });
      const bool itself = c.arrays[0].name == "loss";
      if (!itself && backward == cases.end()) continue;
      const size_t b = itself ? k : static_cast<size_t>(backward - cases.begin());
      Gradients(c, inputs[k], cases[b], inputs[b]).check();
      ++found;
    }
    CHECK(found == 16);
  }
}

TEST_CASE("kernels: sizes of zero touch nothing") {
  for (const CpuPath& path : all_paths()) {
    PathScope scope(path);
    for (const Size size : {Size{0, 0, 0}, {3, 0, 5}, {3, 5, 0}, {0, 3, 4}})
      for_cases(size, DType::F32,
                [](const KernelCase& c, const Values& in) { CHECK_NOTHROW(run_case(c, cpu_device, in)); });
  }
}

}  // namespace
}  // namespace qfm::test
