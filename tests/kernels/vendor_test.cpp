// cuBLASLt and cuDNN: on a GPU against the plain functions; without one as far as they go.
#include "kernels/vendor/vendor.h"

#include <dlfcn.h>

#include <array>
#include <optional>

#include "engine/base/io.h"
#include "engine/cuda/cuda.h"
#include "kernels/attention/attention_cudnn.h"
#include "kernels/conv/conv2d_cudnn.h"
#include "kernels/gather/gather.h"
#include "kernels/gemm/gemm_cublas.h"
#include "kernels/image/patch_embed_cudnn.h"
#include "kernels/norm/layernorm.h"
#include "kernels/study/layernorm_cudnn.h"
#include "kernels/study/study.h"
#include "kernels/vendor/kernel_policy.h"
#include "kernels/vendor/vendor_case.h"
#include "tests/guarded.h"
#include "tests/kernels/gemm_problem.h"
#include "tests/support.h"
#include "tests/tolerance.h"

namespace qfm::test {
namespace {

TEST_CASE("the vendor's libraries are opened by name, or said to be absent") {
  for (const Vendor vendor : {Vendor::CublasLt, Vendor::Cudnn}) {
    const VendorLibrary& library = VendorLibrary::of(vendor);
    CHECK(&library == &VendorLibrary::of(vendor));
    CAPTURE(library.text());
    CHECK(library.open() == (library.version() > 0));
    if (!library.open()) CHECK(library.text().find_first_of("0123456789") == std::string::npos);
    void (*none)() = nullptr;
    CHECK(contains(message_of([&] { library.bind(none, "qfm_has_no_such_function"); }),
                   "has no qfm_has_no_such"));
  }
}

// Why a library cannot be tested; empty where it can.
std::string without_cublas() {
#ifdef QFM_WITH_CUBLAS
  const VendorLibrary& library = VendorLibrary::of(Vendor::CublasLt);
  return library.open() ? "" : library.text();
#else
  return "built without cublasLt.h";
#endif
}
std::string without_cudnn() {
#ifdef QFM_WITH_CUDNN
  const VendorLibrary& library = VendorLibrary::of(Vendor::Cudnn);
  if (!library.open()) return library.text();
  return library.version() >= 91600 ? "" : library.text() + ": older than 9.16";
#else
  return "built without cudnn.h";
#endif
}

// What our models ask for must be served. Of other shapes a library may have none, which is told and no
// failure of ours; wrong values are one whatever the shape.
void not_served(const std::string& what, bool demanded, std::string why = "") {
  for (const auto& [name, reason] : vendor_failures())
    if (name.starts_with(what)) why = reason;
  const std::string text = what + (why.empty() ? "" : ": " + why);
  if (demanded) FAIL_CHECK("not served: " << text);
  else MESSAGE("refused by the library: " << text);
}

#ifdef QFM_WITH_CUBLAS
template <class T, class Out>
struct Results {
  std::vector<Out> c;
  std::vector<T> pre_gelu;
  std::vector<acc<T>> sum_a;
  bool operator==(const Results& o) const {
    const auto same = [](const auto& x, const auto& y) {
      return x.size() == y.size() &&
             (x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(x[0])) == 0);
    };
    return same(c, o.c) && same(pre_gelu, o.pre_gelu) && same(sum_a, o.sum_a);
  }
};

// Rows of whole packs of 16 bytes, on their alignment: every product of a vision transformer of ours.
template <class T, class Out>
bool demanded(const GemmShape& s, size_t shift) {
  const auto whole = [](int64_t row, size_t size) { return row * static_cast<int64_t>(size) % 16 == 0; };
  return shift == 0 && whole(s.trans_a ? s.m : s.k, sizeof(T)) && whole(s.trans_b ? s.k : s.n, sizeof(T)) &&
         whole(s.n, sizeof(Out));
}

// Nothing where the library does not serve.
template <class T, class Out>
std::optional<Results<T, Out>> by_cublas(const Problem<T>& p, size_t shift) {
  const Device d = cuda_device;
  const auto size = static_cast<size_t>(p.s.m * p.s.n);
  Guarded<T> a(d, p.a, shift), b(d, p.b, shift), bias(d, p.bias), of(d, p.of), residual(d, p.residual, shift),
      pre(d, p.parts & PreGelu ? size : 0, shift);
  Guarded<Out> c(d, size, shift);
  Guarded<acc<T>> sum_a(d, p.parts & SumA ? static_cast<size_t>(p.s.m) : 0);
  GemmEpilogue<T> e;
  if (p.parts & Bias) e.bias = bias.data();
  if (p.parts & PreGelu) e.pre_gelu = pre.data();
  e.gelu = p.parts & Gelu;
  if (p.parts & GeluGrad) e.times_gelu_grad_of = of.data();
  if (p.parts & Residual) e.residual = residual.data();
  if (p.parts & SumA) e.sum_a = sum_a.data();
  const bool served = cublas::gemm_by(Cuda{cuda::compute_stream()}, 0, p.s, c.data(), a.data(), b.data(), e);
  if (!served)
    not_served(gemm_key(p.s, dtype_of<T>, dtype_of<Out>, fusion_of(e)), demanded<T, Out>(p.s, shift));
  for (auto* input : {&a, &b, &bias, &of, &residual}) input->values();
  if (!served) return std::nullopt;
  return Results<T, Out>{c.values(), pre.values(), sum_a.values()};
}

template <class T, class Out>
void compare(GemmShape s, int parts, size_t shift = 0) {
  CAPTURE(name_of(dtype_of<T>));
  CAPTURE(name_of(dtype_of<Out>));
  CAPTURE(s.m);
  CAPTURE(s.n);
  CAPTURE(s.k);
  CAPTURE(s.trans_a);
  CAPTURE(s.trans_b);
  CAPTURE(parts);
  const Problem<T> p(s, parts);
  const Problem<double> exact(p);
  Doubles c = unwritten<double>(s.m * s.n), pre = unwritten<double>(parts & PreGelu ? s.m * s.n : 0),
          sum_a = unwritten<double>(parts & SumA ? s.m : 0);
  GemmEpilogue<double> e = exact.epilogue(pre.data());
  if (parts & SumA) e.sum_a = sum_a.data();
  gemm(cpu, s, c.data(), exact.a.data(), exact.b.data(), e);
  const auto found = by_cublas<T, Out>(p, shift);
  if (!found) return;
  CHECK(within<Out>(converted<double>(found->c), c, s.k));
  CHECK(within<T>(converted<double>(found->pre_gelu), pre, s.k));
  CHECK(within<acc<T>>(converted<double>(found->sum_a), sum_a, s.k));
  CHECK(by_cublas<T, Out>(p, shift) == found);
}

TEST_CASE("products by cuBLASLt equal the plain functions in double, with the same bits every time") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  if (const auto why = without_cublas(); !why.empty()) QFM_SKIP(why);
  for (const auto& [m, n, k] :
       {std::array<int64_t, 3>{1, 1, 1}, {7, 13, 5}, {197, 384, 192}, {394, 576, 200}, {384, 192, 394}})
    for (const bool trans_a : {false, true})
      for (const bool trans_b : {false, true}) {
        const GemmShape s{m, n, k, trans_a, trans_b};
        for (const int parts : {0, int{Bias}, int{Residual}, Bias | Residual, Bias | Gelu,
                                Bias | Gelu | PreGelu, int{GeluGrad}}) {
          compare<float, float>(s, parts);
          compare<bf16, bf16>(s, parts);
        }
        compare<bf16, float>(s, 0);
        if (trans_a) compare<bf16, float>(s, SumA), compare<float, float>(s, SumA);
      }
  compare<bf16, bf16>({24, 40, 48, false, true}, Bias | Residual, 1);  // off the alignment
}

TEST_CASE("without a GPU cuBLASLt leaves products to our own kernels") {
  if (cuda::available()) QFM_SKIP("there is a GPU");
  float x = 0;
  CHECK(!cublas::gemm_by(Cuda{}, 0, {1, 1, 1}, &x, &x, &x, GemmEpilogue<float>{}));
  CHECK(!cublas::gemm(Cuda{}, {1, 1, 1}, &x, &x, &x, GemmEpilogue<float>{}));
}
#endif

#ifdef QFM_WITH_CUDNN
// The backbone's first. Our own kernels serve the decoder's queries, among themselves and to the patches, by rule.
const AttentionShape kShapes[] = {
    {28, 6, 197, 197, 64}, {2, 6, 197, 197, 32}, {2, 3, 6, 6, 64}, {28, 6, 6, 196, 64}};
bool demanded(const AttentionShape& s) { return s.queries == 197 && s.head_dim == 64; }

// cuDNN compiles kernels at run time and wants a libcuda.so.1 for that. Where there is no driver, the
// toolkit's stub has that name, and is found by it once it is loaded.
bool has_libcuda() {
  return ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL) ||
         ::dlopen(QFM_STUB_DRIVER, RTLD_NOW | RTLD_GLOBAL);
}

std::string h100() {
  const auto file = read_file(std::string(QFM_SOURCE_DIR) + "/tests/kernels/h100.json");
  return {file.begin(), file.end()};
}

template <class Build>
void check_graph(const AttentionShape& s, const char* direction, size_t operations, const Build& build) {
  const std::string key = cudnn::attention_key(direction, s);
  cudnn::GraphReport graph{};
  const std::string refusal = message_of([&] { graph = build(); });
  if (!refusal.empty() || graph.deterministic == 0)
    return not_served(key, demanded(s), refusal.empty() ? "no deterministic suggestion" : refusal);
  CHECK(graph.operations == operations);
  MESSAGE(key << ": " << graph.suggestions << " engine configurations, " << graph.deterministic
              << " deterministic");
}

TEST_CASE("cuDNN takes our attention graphs for an H100, without a GPU") {
  if (const auto why = without_cudnn(); !why.empty()) QFM_SKIP(why);
  cuda::available();  // looks for the driver before its stub is there
  if (!has_libcuda()) QFM_SKIP("no libcuda.so.1, not even the toolkit's stub");
  for (const AttentionShape& s : kShapes) {
    CAPTURE(cudnn::attention_key("attention", s));
    check_graph(s, "attention_forward", 1, [&] { return cudnn::build_attention_forward(s, false, h100()); });
    check_graph(s, "attention_forward", 1, [&] { return cudnn::build_attention_forward(s, true, h100()); });
    check_graph(s, "attention_backward", 17, [&] { return cudnn::build_attention_backward(s, h100()); });
  }
}

TEST_CASE("cuDNN takes our patch embedding for an H100, without a GPU") {
  if (const auto why = without_cudnn(); !why.empty()) QFM_SKIP(why);
  cuda::available();
  if (!has_libcuda()) QFM_SKIP("no libcuda.so.1, not even the toolkit's stub");
  for (const PatchShape& s :
       {PatchShape{28, 3, 224, 224, 16}, PatchShape{1, 3, 224, 224, 16}, PatchShape{2, 3, 32, 48, 8}}) {
    size_t deterministic = 0;
    const std::string refusal = message_of([&] { deterministic = cudnn::build_patch_embed(s, 384, h100()); });
    if (deterministic == 0)
      not_served(concat("patch_embed ", s.height, "x", s.width), s.height == 224, refusal);
  }
}

TEST_CASE("cuDNN takes our layer normalisation for an H100, without a GPU") {
  if (const auto why = without_cudnn(); !why.empty()) QFM_SKIP(why);
  cuda::available();
  if (!has_libcuda()) QFM_SKIP("no libcuda.so.1, not even the toolkit's stub");
  for (const auto& [rows, cols] : {std::pair{50432, 384}, {197, 192}, {1, 1024}})
    CHECK(cudnn::build_layernorm(rows, cols, h100()) > 0);
}

const Window kThree{3, 1, 1, 1, 1}, kThreeBy2{3, 2, 1, 1, 1}, kSevenBy2{7, 2, 3, 3, 1};
// The model's: those of ResNet-50, EfficientNet-Lite0's window of a channel each, and one of no model.
const std::pair<ConvShape, bool> kConvolutions[] = {{{8, 3, 224, 224, 64, 1, kSevenBy2, kSevenBy2}, true},
                                                    {{8, 64, 56, 56, 256, 1, {}, {}}, true},
                                                    {{8, 64, 56, 56, 64, 1, kThree, kThree}, true},
                                                    {{8, 128, 56, 56, 128, 1, kThreeBy2, kThreeBy2}, true},
                                                    {{8, 512, 7, 7, 512, 1, kThree, kThree}, true},
                                                    {{8, 96, 112, 112, 96, 96, kThreeBy2, kThreeBy2}, false},
                                                    {{2, 5, 9, 11, 7, 1, {3, 1, 2, 0, 2}, kThree}, false}};
constexpr cudnn::ConvDirection kDirections[] = {cudnn::ConvDirection::Forward, cudnn::ConvDirection::Dx,
                                                cudnn::ConvDirection::Dw};

TEST_CASE("cuDNN takes our convolutions for an H100, without a GPU") {
  if (const auto why = without_cudnn(); !why.empty()) QFM_SKIP(why);
  cuda::available();
  if (!has_libcuda()) QFM_SKIP("no libcuda.so.1, not even the toolkit's stub");
  for (const auto& [s, demanded] : kConvolutions)
    for (const DType type : {DType::BF16, DType::F32})
      for (const cudnn::ConvDirection direction : kDirections) {
        // Of a BF16 weight gradient that is summed in F32 cuDNN has none that is deterministic.
        const bool sums = direction == cudnn::ConvDirection::Dw;
        size_t deterministic = 0;
        const std::string refusal =
            message_of([&, &s = s] { deterministic = cudnn::build_conv2d(direction, s, type, h100()); });
        if (deterministic == 0)
          not_served(cudnn::conv2d_key(direction, s, type), demanded && !(sums && type == DType::BF16),
                     refusal);
      }
}

TEST_CASE("convolutions by cuDNN equal our own") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  if (const auto why = without_cudnn(); !why.empty()) QFM_SKIP(why);
  const Cuda cuda{cuda::compute_stream()};
  const ConvShape s{2, 64, 14, 14, 64, 1, kThreeBy2, kThreeBy2};
  const auto x = random<bf16>("x", 0, 2 * 64 * 14 * 14), w = random<bf16>("w", 1, 64 * 64 * 9),
             dy = random<bf16>("dy", 2, 2 * 64 * 7 * 7);
  Guarded<bf16> on_x(cuda_device, x), on_w(cuda_device, w), on_dy(cuda_device, dy);
  const auto check = [&](cudnn::ConvDirection direction, auto zero, const auto& inputs, const auto& own,
                         size_t size, int64_t length) {
    using Out = decltype(zero);
    Guarded<Out> by_cudnn(cuda_device, size), by_own(cuda_device, size);
    own(by_own.data());
    if (!inputs(direction, by_cudnn.data()))
      return not_served(cudnn::conv2d_key(direction, s, DType::BF16), false, "");
    CHECK(within<Out>(converted<double>(by_cudnn.values()), converted<double>(by_own.values()), length));
  };
  const auto by = [&](cudnn::ConvDirection direction, void* out) {
    const bool dx = direction == cudnn::ConvDirection::Dx, dw = direction == cudnn::ConvDirection::Dw;
    return cudnn::conv2d_by<bf16>(cuda, direction, s, dx || dw ? on_dy.data() : out, dx ? out : on_x.data(),
                                  dw ? out : on_w.data());
  };
  check(
      kDirections[0], bf16{}, by, [&](bf16* y) { conv2d_forward_own(cuda, s, y, on_x.data(), on_w.data()); },
      dy.size(), 576);
  check(
      kDirections[1], bf16{}, by, [&](bf16* dx) { conv2d_dx_own(cuda, s, dx, on_dy.data(), on_w.data()); },
      x.size(), 576);
  check(
      kDirections[2], 0.0f, by,
      [&](float* dw) { conv2d_dw_own<bf16>(cuda, s, dw, nullptr, on_dy.data(), on_x.data()); }, w.size(), 98);
}

TEST_CASE("patch embedding by cuDNN equals the plain functions, with the same bits every time") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  if (const auto why = without_cudnn(); !why.empty()) QFM_SKIP(why);
  const PatchShape s{1, 3, 224, 224, 16};
  const int64_t width = 192, out = s.batch * s.tokens() * width;
  const auto images = random<bf16>("images", 0, s.batch * s.channels * s.height * s.width),
             w = random<bf16>("w", 1, width * s.cols(), 0.1), b = random<bf16>("b", 2, width);
  Doubles rows(static_cast<size_t>(s.batch * s.tokens() * s.cols())), expected(static_cast<size_t>(out));
  const Doubles exact_w = converted<double>(w), exact_b = converted<double>(b);
  const int64_t n = s.height / s.patch, p = s.patch;
  const CopySpace patches{5,
                          {n, n, s.channels, p, p},
                          {n * s.cols(), s.cols(), p * p, p, 1},
                          {p * s.width, p, s.height * s.width, s.width, 1}};
  strided_copy(cpu, patches, rows.data(), converted<double>(images).data());
  GemmEpilogue<double> e;
  e.bias = exact_b.data();
  gemm(cpu, {s.batch * s.tokens(), width, s.cols(), false, true}, expected.data(), rows.data(),
       exact_w.data(), e);
  const auto run = [&] {
    Guarded<bf16> on_images(cuda_device, images), on_w(cuda_device, w), on_b(cuda_device, b),
        y(cuda_device, out);
    CHECK(cudnn::patch_embed_by(Cuda{cuda::compute_stream()}, s, width, y.data(), on_images.data(),
                                on_w.data(), on_b.data()));
    return converted<double>(y.values());
  };
  const Doubles found = run();
  CHECK(within<bf16>(found, expected, s.cols()));
  CHECK(run() == found);
}

TEST_CASE("cuDNN refuses what is no device, in one line") {
  if (const auto why = without_cudnn(); !why.empty()) QFM_SKIP(why);
  CHECK(contains(message_of([] { cudnn::build_attention_forward(kShapes[0], true, "{}"); }),
                 "cudnn: device from JSON"));
}

TEST_CASE("attention by cuDNN equals our own, with the same bits every time") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  if (const auto why = without_cudnn(); !why.empty()) QFM_SKIP(why);
  const Cuda cuda{cuda::compute_stream()};
  for (const AttentionShape& s : kShapes) {
    CAPTURE(cudnn::attention_key("attention", s));
    const int64_t d = s.heads * s.head_dim, queries = s.batch * s.queries * d, keys = s.batch * s.keys * d;
    const Device on = cuda_device;
    Guarded<bf16> q(on, random<bf16>("q", 0, queries)), kv(on, random<bf16>("kv", 1, 2 * keys)),
        d_o(on, random<bf16>("do", 2, queries));
    struct Outputs {
      Guarded<bf16> o, dq, dkv;
      Guarded<float> lse;
      Outputs(int64_t queries, int64_t keys, int64_t rows)
          : o(cuda_device, queries),
            dq(cuda_device, queries),
            dkv(cuda_device, 2 * keys),
            lse(cuda_device, rows) {}
      std::vector<Doubles> values() {
        return {converted<double>(o.values()), converted<double>(lse.values()),
                converted<double>(dq.values()), converted<double>(dkv.values())};
      }
    };
    const auto view = [](Guarded<bf16>& memory, int64_t at, int64_t ld) {
      return Heads<bf16>{memory.data() + at, ld};
    };
    const auto input = [](Guarded<bf16>& memory, int64_t at, int64_t ld) {
      return Heads<const bf16>{memory.data() + at, ld};
    };
    const auto run = [&](bool vendor) {
      Outputs r(queries, keys, s.batch * s.heads * s.queries);
      const auto o = view(r.o, 0, d), dq = view(r.dq, 0, d), dk = view(r.dkv, 0, 2 * d),
                 dv = view(r.dkv, d, 2 * d);
      const auto k = input(kv, 0, 2 * d), v = input(kv, d, 2 * d);
      // What the library refuses is done by our own, as in the program.
      const auto asked = [&](const char* direction, bool served) {
        if (vendor && !served) not_served(cudnn::attention_key(direction, s), demanded(s));
        return served;
      };
      if (!asked("attention_forward",
                 vendor && cudnn::attention_forward_by(cuda, s, o, r.lse.data(), input(q, 0, d), k, v)))
        attention_forward_own<bf16>(cuda, s, o, r.lse.data(), input(q, 0, d), k, v);
      if (!asked("attention_backward",
                 vendor && cudnn::attention_backward_by(cuda, s, dq, dk, dv, input(d_o, 0, d), input(q, 0, d),
                                                        k, v, input(r.o, 0, d), r.lse.data())))
        attention_backward_own<bf16>(cuda, s, dq, dk, dv, input(d_o, 0, d), input(q, 0, d), k, v,
                                     input(r.o, 0, d), r.lse.data());
      return r.values();
    };
    const auto own = run(false), found = run(true);
    const int64_t forward = s.keys + s.head_dim, backward = forward + s.queries;
    CHECK(within<bf16>(found[0], own[0], forward));
    CHECK(within<bf16>(found[1], own[1], forward));  // cuDNN's exponentials are not exact to F32
    CHECK(within<bf16>(found[2], own[2], backward));
    CHECK(within<bf16>(found[3], own[3], backward));
    CHECK(run(true) == found);
  }
}
#endif

TEST_CASE("without a GPU the ladders have no row 0") {
  if (cuda::available()) QFM_SKIP("there is a GPU");
  CHECK(!gemm_by_vendor(Cuda{}, 8, 8, 8, nullptr, nullptr, nullptr));
  CHECK(!bias_gelu_by_vendor(Cuda{}, 8, 8, 8, nullptr, nullptr, nullptr, nullptr));
  CHECK(
      !attention_by_vendor(Cuda{}, {1, 1, 8, 8, 8}, {nullptr, 8}, {nullptr, 8}, {nullptr, 8}, {nullptr, 8}));
  CHECK(!conv_by_vendor(Cuda{}, {1, 8, 8, 8, 8, 1, {}, {}}, nullptr, nullptr, nullptr));
  CHECK(!layernorm_by_vendor(Cuda{}, 8, 8, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr));
}

TEST_CASE("row 0 of the products' ladders, by cuBLASLt, equals the plain functions in double") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  if (const auto why = without_cublas(); !why.empty()) QFM_SKIP(why);
  const Cuda cuda{cuda::compute_stream()};
  const GemmShape s{394, 576, 200, false, true};
  for (const int parts : {0, Bias | Gelu}) {
    const Problem<bf16> p(s, parts);
    const Problem<double> exact(p);
    Doubles expected = unwritten<double>(s.m * s.n);
    gemm(cpu, s, expected.data(), exact.a.data(), exact.b.data(), exact.epilogue(nullptr));
    Guarded<bf16> x(cuda_device, p.a), w(cuda_device, p.b), bias(cuda_device, p.bias),
        y(cuda_device, static_cast<size_t>(s.m * s.n));
    CHECK(parts ? bias_gelu_by_vendor(cuda, s.m, s.n, s.k, y.data(), x.data(), w.data(), bias.data())
                : gemm_by_vendor(cuda, s.m, s.n, s.k, y.data(), x.data(), w.data()));
    CHECK(within<bf16>(converted<double>(y.values()), expected, s.k));
  }
}

TEST_CASE("row 0 of the layer normalisation's ladder, by cuDNN, equals the plain function in double") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  if (const auto why = without_cudnn(); !why.empty()) QFM_SKIP(why);
  const int64_t rows = 197, cols = 384;
  const auto x = random<bf16>("x", 0, rows * cols), w = random<bf16>("w", 1, cols),
             b = random<bf16>("b", 2, cols);
  Doubles y(static_cast<size_t>(rows * cols)), mean(rows), rstd(rows);
  layernorm_forward(cpu, y.data(), mean.data(), rstd.data(), converted<double>(x).data(),
                    converted<double>(w).data(), converted<double>(b).data(), rows, cols, 1e-6);
  Guarded<bf16> on_x(cuda_device, x), on_w(cuda_device, w), on_b(cuda_device, b), on_y(cuda_device, y.size());
  Guarded<float> on_mean(cuda_device, mean.size()), on_rstd(cuda_device, rstd.size());
  CHECK(layernorm_by_vendor(Cuda{cuda::compute_stream()}, rows, cols, on_y.data(), on_mean.data(),
                            on_rstd.data(), on_x.data(), on_w.data(), on_b.data()));
  CHECK(within<bf16>(converted<double>(on_y.values()), y, cols));
  CHECK(within<float>(converted<double>(on_mean.values()), mean, cols));
  CHECK(within<float>(converted<double>(on_rstd.values()), rstd, cols));
}

}  // namespace
}  // namespace qfm::test
