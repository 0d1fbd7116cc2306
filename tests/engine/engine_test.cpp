// The engine's own promises: what backward refuses, what memory counts, numbers of Philox, files that lie, CPU paths.
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <thread>

#include "engine/base/cpu.h"
#include "engine/base/half.h"
#include "engine/base/io.h"
#include "engine/base/rng.h"
#include "engine/memory/memory.h"
#include "engine/packed_weight.h"
#include "engine/param.h"
#include "engine/safetensors.h"
#include "layers/pointwise.h"
#include "layers/linear.h"
#include "tests/support.h"

using namespace qfm;
using namespace qfm::test;

namespace {

Tensor vector_of(std::initializer_list<float> values) {
  return Tensor::from(std::vector<float>(values), {static_cast<int64_t>(values.size())});
}

// y = x with a backward of our choice.
Var with_backward(const Var& x, Backward backward) {
  return record("test op", x.value.clone(), {x}, std::move(backward));
}

void write_raw(const std::string& path, const std::string& header, const std::string& data,
               uint64_t announced = UINT64_MAX) {
  const uint64_t n = announced == UINT64_MAX ? header.size() : announced;
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(n >> 8 * i);
  write_file(path, bytes + header + data);
}

}  // namespace

TEST_CASE("backward refuses missing, misshapen and mistyped gradients, and says of which op") {
  const Var x = Var::leaf(vector_of({1, 2, 3}));
  const Tensor dy = vector_of({1, 1, 1});
  const auto message = [&](Backward b) {
    return message_of([&] { backward(with_backward(x, std::move(b)), dy); });
  };
  CHECK(message([](const Tensor&) { return Grads{Tensor()}; }) ==
        "test op: backward gave no gradient for input 0");
  CHECK(message([](const Tensor&) { return Grads{}; }) == "test op: backward gave 0 gradients for 1 inputs");
  CHECK(message([](const Tensor&) {
          return Grads{vector_of({1, 2})};
        }) == "test op: backward gave a gradient of shape (2) for input 0 of shape (3)");
  CHECK(message([](const Tensor& g) { return Grads{g.to(DType::F64)}; }) ==
        "test op: backward gave a F64 gradient for input 0, expected F32");
  const Var once = gelu(x);
  backward(once, dy);
  CHECK(contains(message_of([&] { backward(once, dy); }), "ran through this graph before"));
  CHECK(contains(message_of([&] { backward(Var(dy), dy); }), "no history"));
}

TEST_CASE("gradients of branches add up, also where they are shared, and NoGrad cuts history") {
  const Var x = Var::leaf(vector_of({1, 2, 3}));
  const auto pass = [](const Var& v) { return with_backward(v, [](const Tensor& g) { return Grads{g}; }); };
  const Var a = pass(x), b = pass(a), c = pass(a);
  const Var sum = record("sum", x.value.clone(), {b, c, a}, [](const Tensor& g) { return Grads{g, g, g}; });
  const Tensor dy = vector_of({1, 10, 100});
  backward(sum, dy);
  const auto g = x.grad().span<float>();
  CHECK((g[0] == 3 && g[1] == 30 && g[2] == 300));
  CHECK(dy.span<float>()[1] == 10);  // a shared gradient is not added into
  const NoGrad no_grad;
  CHECK_FALSE(gelu(x).needs_grad());
}

TEST_CASE("a closure is dropped as it runs, and a deep graph is neither run nor destroyed by recursion") {
  const auto witness = std::make_shared<int>(1);
  const Var x = Var::leaf(vector_of({1}));
  const Var y = with_backward(x, [witness](const Tensor& g) { return Grads{g}; });
  CHECK(witness.use_count() == 2);
  backward(y, vector_of({1}));
  CHECK(witness.use_count() == 1);
  const auto deep = [&] {
    Var v = x;
    for (int i = 0; i < 200000; ++i)
      v = record("step", x.value, {v}, [](const Tensor& g) { return Grads{g}; });
    return v;
  };
  deep();  // never run
  const Var v = deep();
  backward(v, vector_of({1}));
  CHECK(x.grad().span<float>()[0] == 2);
}

TEST_CASE("parameters: flat buffers, decayed ones first, rows as parameters of their own") {
  ParamSet set;
  const Param bias = Scope(set).vector("bias", {3}, constant(0.5)), weight = Scope(set).weight("weight", {6, 5}, xavier_uniform());
  const Param middle = weight.rows(2, 4);
  CHECK(contains(message_of([&] { Scope(set).vector("bias", {3}, constant(0)); }), "added twice"));
  set.allocate(cpu_device, DType::BF16, true);
  CHECK(set.decayed_size() == 32);  // 30 elements, on a boundary of 16
  CHECK(set.count() == 33);
  set.initialise(7);
  CHECK(bias.master().span<float>()[2] == 0.5f);
  CHECK(weight.value().dtype() == DType::BF16);
  CHECK(static_cast<float>(middle.value().span<bf16>()[0]) ==
        static_cast<float>(bf16(weight.master().span<float>()[10])));
  const Var x = Var(Tensor::from(std::vector<float>{1, 2, 3, 4, 5}, {1, 5}).to(DType::BF16));
  backward(linear(x, middle), Tensor::from(std::vector<float>{1, 1}, {1, 2}).to(DType::BF16));
  const auto grad = weight.grad().span<float>();
  CHECK(grad[0] == 0);
  CHECK(grad[10] == 1);
  CHECK(grad[19] == 5);
  CHECK(grad[20] == 0);
}

TEST_CASE("parameters: allocated as I8, pack() rounds matrices to eight bits and nothing else") {
  ParamSet set;
  const Scope scope(set);
  const Param weight = scope.in_int8().weight("weight", {2, 3}, constant(0));
  const Param filter = scope.filter("filter", {1, 1, 1, 3}, constant(0)), bias = scope.vector("bias", {3}, constant(0.3));
  CHECK(contains(message_of([&] { set.allocate(cpu_device, DType::I8, true); }), "for inference"));
  set.allocate(cpu_device, DType::I8, false);
  CHECK(set.compute() == DType::F32);
  set.initialise(0);
  weight.master().copy_from(Tensor::from(std::vector<float>{127, 0.7f, -1.5f, 0, 0, 0}, {2, 3}));
  filter.master().copy_from(Tensor::from(std::vector<float>{1.7f, 254, -2.2f}, {1, 1, 1, 3}));
  set.pack();
  const auto values = [](const Param& p) {
    const auto all = p.value().span<float>();
    return std::vector<float>(all.begin(), all.end());
  };
  CHECK(reads_int8(weight.value()));
  const Tensor y = linear(Var(Tensor::from(std::vector<float>{1, 0, 0, 0, 127, 0, 0, 0, 5}, {3, 3})), weight).value;
  CHECK(std::equal(y.span<float>().begin(), y.span<float>().end(), std::vector<float>{127, 0, 127, 0, -10, 0}.begin()));
  CHECK(values(filter) == std::vector<float>{2, 254, -2});
  CHECK(values(bias) == std::vector<float>(3, 0.3f));
  filter.master().span<float>()[1] = std::numeric_limits<float>::quiet_NaN();
  CHECK(contains(message_of([&] { set.pack(); }), "filter: has a number that is not finite"));
  CHECK(contains(message_of([&] { set.saved(); }), "weight: its floats went"));
}

TEST_CASE("memory: counters, reuse, ordered failure, scratch") {
  const MemoryCount before = memory_count(cpu_device);
  {
    const Tensor t({1000, 1000});
    CHECK(memory_count(cpu_device).live >= before.live + 4'000'000);
    fail_allocation(2);
    const Tensor first({10});
    CHECK_THROWS_AS(Tensor({10}), OutOfMemory);
    const Tensor after({10});
    CHECK(after.raw() != nullptr);
  }
  CHECK(memory_count(cpu_device).live == before.live);
  CHECK(memory_count(cpu_device).cached >= 4'000'000);
  release_cached(cpu_device);
  CHECK(memory_count(cpu_device).cached == 0);
  CHECK_THROWS_AS(Tensor({int64_t{1} << 50}), OutOfMemory);
  CHECK_THROWS_AS(Tensor({int64_t{1} << 40, int64_t{1} << 40}), Error);
  const Scratch outer(100);
  std::memset(outer.as<char>(), 1, 100);
  {
    const Scratch inner(3 << 20);  // another block
    std::memset(inner.as<char>(), 2, 3 << 20);
    CHECK(reinterpret_cast<uintptr_t>(inner.as<char>()) % 64 == 0);
  }
  CHECK(outer.as<char>()[99] == 1);
}

TEST_CASE("Philox 4x32-10: the published test vectors, and streams that do not touch each other") {
  // Known answers of Random123 (kat_vectors): counter and key all zero, all ones, digits of pi.
  using Block = PhiloxBlock;
  const bool zeros =
      philox4x32({{0, 0, 0, 0}}, {{0, 0}}) == Block{{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}};
  const bool ones = philox4x32({{~0u, ~0u, ~0u, ~0u}}, {{~0u, ~0u}}) ==
                    Block{{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}};
  const bool pi =
      philox4x32({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, {{0xa4093822, 0x299f31d0}}) ==
      Block{{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}};
  CHECK(zeros);
  CHECK(ones);
  CHECK(pi);
  Rng a(1, "crop", 2, 3), b(1, "crop", 2, 3), other(1, "flip", 2, 3);
  CHECK(a.next() == b.next());
  CHECK(a.next() != other.next());
  double sum = 0, squares = 0;
  for (int i = 0; i < 20000; ++i) {
    const double n = a.normal();
    sum += n, squares += n * n;
    CHECK(a.below(7) < 7);
  }
  CHECK(std::fabs(sum / 20000) < 0.03);
  CHECK(std::fabs(squares / 20000 - 1) < 0.05);
}

TEST_CASE("bf16 and half round to nearest even and keep NaN, infinity and subnormals") {
  CHECK(bf16(1.00390625f).bits == 0x3f80);  // half way: to even
  CHECK(bf16(1.01171875f).bits == 0x3f82);  // half way: to even
  CHECK(std::isnan(static_cast<float>(bf16(NAN))));
  CHECK(std::isinf(static_cast<float>(bf16(3.4e38f))));
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const float f = half_to_float(static_cast<uint16_t>(h));
    if (std::isnan(f)) continue;
    if (float_to_half(f) != h) FAIL_CHECK("half ", h, " came back as ", float_to_half(f));
  }
  CHECK(float_to_half(65519.0f) == 0x7bff);
  CHECK(float_to_half(65520.0f) == 0x7c00);
  CHECK(float_to_half(2.98e-8f) == 0);
  CHECK(float_to_half(2.99e-8f) == 1);
  CHECK(std::isnan(half_to_float(float_to_half(NAN))));
}

TEST_CASE("safetensors: written and read back in every dtype") {
  const TemporaryFolder folder;
  const std::string path = folder / "t.safetensors";
  const Tensor f = Tensor::from(std::vector<float>{1.5f, -2, 0.1f}, {3}),
               i = Tensor::from(std::vector<int64_t>{1, -2}, {2, 1});
  write_safetensors(
      path,
      {{"f", f}, {"empty", Tensor({0, 4})}, {"i", i}, {"d", f.to(DType::F64)}, {"b", f.to(DType::BF16)}},
      {{"note", "ümlaut \"quoted\""}});
  const TensorFile file = TensorFile::open(path);
  CHECK(file.metadata().at("note") == "ümlaut \"quoted\"");
  CHECK(file.tensor("f").span<float>()[2] == 0.1f);
  CHECK(file.tensor("i").span<int64_t>()[1] == -2);
  CHECK(file.tensor("d").span<double>()[2] == static_cast<double>(0.1f));
  CHECK(file.tensor("b").dtype() == DType::BF16);
  CHECK(file.tensor("empty").shape() == Shape{0, 4});
  write_safetensors(path, {{"f", f}, {"i", i}}, {}, StoreAs::F16);
  CHECK(TensorFile::open(path).entry("f").dtype == "F16");
  CHECK(TensorFile::open(path).tensor("f").span<float>()[2] == half_to_float(float_to_half(0.1f)));
  CHECK(TensorFile::open(path).tensor("i").dtype() == DType::I64);
  const Tensor large = Tensor::from(std::vector<float>{1, 65519, -70000}, {3});  // a variance, say
  write_safetensors(path, {{"f", f}, {"large", large}, {"fits", large.rows(0, 2)}}, {}, StoreAs::F16);
  CHECK(TensorFile::open(path).tensor("large").span<float>()[2] == -70000);
  CHECK(TensorFile::open(path).entry("fits").dtype == "F16");
  CHECK_THROWS_AS(write_safetensors(path, {{"f", f}, {"f", f}}, {}), Error);
}

TEST_CASE("safetensors: each lie of a header is one line with the file's name") {
  const TemporaryFolder folder;
  const std::string path = folder / "bad.safetensors", data(16, '\0');
  const auto refused = [&](const std::string& header, const std::string& reason,
                           uint64_t announced = UINT64_MAX) {
    write_raw(path, header, data, announced);
    const std::string message = message_of([&] { TensorFile::open(path); });
    CAPTURE(header);
    CAPTURE(message);
    CHECK(contains(message, path + ": "));
    CHECK(contains(message, reason));
    CHECK_FALSE(contains(message, "\n"));
  };
  const auto entry = [](const std::string& name, const std::string& dtype, const std::string& shape,
                        const std::string& offsets) {
    return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
           ",\"data_offsets\":" + offsets + "}";
  };
  refused("{", "not valid JSON");
  refused("[]", "not a JSON object");
  refused("\xEF\xBB\xBF{" + entry("a", "F32", "[4]", "[0,16]") + "}", "begins with a byte-order mark");
  refused("{}", "truncated in the header", 1000);
  refused("{}", "not a safetensors file", uint64_t{1} << 60);
  refused("{}", "data after the last tensor");
  refused("{" + entry("a", "F32", "[4]", "[0,16]") + "," + entry("a", "F32", "[4]", "[0,16]") + "}",
          "'a' twice");
  refused("{" + entry("a", "F32", "[2]", "[0,16]") + "}", "does not fill");
  refused("{" + entry("a", "F32", "[8]", "[0,32]") + "}", "outside the file");
  refused("{" + entry("a", "F32", "[4]", "[16,0]") + "}", "outside the file");
  refused("{" + entry("a", "Q4", "[4]", "[0,16]") + "}", "unknown dtype");
  refused("{" + entry("a", "F32", "[-4]", "[0,16]") + "}", "not valid");
  refused("{" + entry("a", "F32", "[4.5]", "[0,16]") + "}", "not valid");
  refused("{" + entry("a", "F32", "[4294967296,4294967296,16]", "[0,16]") + "}", "too many elements");
  refused("{" + entry("a", "F32", "[1,1,1,1,1,1,4]", "[0,16]") + "}", "at most 6");
  refused("{" + entry("a", "F32", "[2]", "[0,8]") + "," + entry("b", "F32", "[3]", "[4,16]") + "}",
          "overlap");
  refused("{" + entry("a", "F32", "[1]", "[0,4]") + "," + entry("b", "F32", "[1]", "[12,16]") + "}", "hole");
  refused("{\"a\":{\"dtype\":\"F32\"}}", "needs dtype, shape and data_offsets");
  refused("{\"a\":3}", "needs dtype, shape and data_offsets");
  refused("{\"__metadata__\":{\"k\":1}," + entry("a", "F32", "[4]", "[0,16]") + "}", "not a text");
  write_file(path, "short");
  CHECK(contains(message_of([&] { TensorFile::open(path); }), "too short"));
  CHECK(contains(message_of([&] { TensorFile::open(folder / "nowhere"); }), "No such file"));
  CHECK(contains(message_of([&] { TensorFile::open(folder.path.string()); }), folder.path.string()));
}

TEST_CASE("safetensors: damaged copies of a good file are read or refused, never worse") {
  const TemporaryFolder folder;
  const std::string good = folder / "good.safetensors", bad = folder / "bad.safetensors";
  write_safetensors(good, {{"a", Tensor::zeros({3, 5})}, {"b", Tensor::zeros({2}, DType::BF16)}},
                    {{"k", "v"}});
  const auto bytes = read_file(good);
  const std::string text(bytes.begin(), bytes.end());
  int refused = 0;
  const auto attempt = [&](const std::string& content) {
    write_file(bad, content);
    try {
      const TensorFile file = TensorFile::open(bad);
      for (const auto& [name, e] : file.entries()) file.bytes(name);
    } catch (const Error& e) {
      ++refused;
      CHECK(contains(e.what(), bad));
    }
  };
  for (size_t cut = 0; cut < text.size(); cut += 3) attempt(text.substr(0, cut));
  CHECK(refused == static_cast<int>((text.size() + 2) / 3));  // every cut is noticed
  Rng rng(5, "damage");
  for (int i = 0; i < 300; ++i) {
    std::string damaged = text;
    for (int k = 0; k < 3; ++k)
      damaged[rng.below(static_cast<uint32_t>(text.size()))] = static_cast<char>(rng.below(256));
    attempt(damaged);
  }
}

TEST_CASE("an atomic write leaves the old file when it fails") {
  const TemporaryFolder folder;
  const std::string path = folder / "f";
  write_file(path, "old");
  {
    AtomicFile file(path);
    file.write("half of the n");
  }  // never committed
  const auto now = read_file(path);
  CHECK(std::string(now.begin(), now.end()) == "old");
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path), {}) == 1);
  CHECK(contains(message_of([&] { write_file(folder / "no/such/folder", "x"); }), "cannot be written"));
  CHECK(contains(message_of([&] { read_file("/dev/zero"); }), "neither a regular file nor a pipe"));
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const std::string through(100000, 'x');
  std::thread writer([&] { write_all(ends[1], through), ::close(ends[1]); });
  CHECK(read_text(concat("/dev/fd/", ends[0])) == through);
  writer.join(), ::close(ends[0]);
  REQUIRE(::pipe(ends) == 0);
  write_all(ends[1], "too long"), ::close(ends[1]);
  CHECK(contains(message_of([&] { read_file(concat("/dev/fd/", ends[0]), 7); }), "a pipe of more than the 7 bytes allowed"));
  ::close(ends[0]);
}

TEST_CASE("QFM_CPU: each path has its name; another, and one that the processor lacks, is refused in one line") {
  const std::pair<std::string, CpuPath> paths[] = {{"avx512+int8", {CpuIsa::Avx512, CpuDot::Int8}},
                                                   {"avx512", {CpuIsa::Avx512}},
                                                   {"avx2+int8", {CpuIsa::Avx2, CpuDot::Int8}},
                                                   {"avx2", {CpuIsa::Avx2}},
                                                   {"plain", {}},
                                                   {"avx512+bf16", {CpuIsa::Avx512, CpuDot::Bf16}}};
  std::string names;
  for (const auto& [name, path] : paths) {
    CAPTURE(name);
    CHECK(name_of(path) == name);
    if (available(path.isa, path.dot)) CHECK(path_of(name) == path);
    else CHECK(message_of([&] { path_of(name); }) == concat("QFM_CPU=", name, ": not available on this processor"));
    names += (names.empty() ? "" : ", ") + name;
  }
  CHECK(path_of(name_of(cpu())) == cpu());
  for (const char* name : {"avx", "AVX2", "plain+int8", "avx2+bf16", "avx512+", "avx512+int8 "})
    CHECK(message_of([&] { path_of(name); }) == concat("QFM_CPU=", name, ": expected one of ", names));
}
