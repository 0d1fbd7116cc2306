// Files of torch.save: numbers that PyTorch wrote (tests/golden/make_pytorch.py), and files that ask for what they shall
// not get.
#include <string_view>

#include "engine/base/half.h"
#include "engine/base/io.h"
#include "engine/base/rng.h"
#include "engine/tensor_file.h"
#include "tests/support.h"

using namespace qfm;
using namespace qfm::test;
using namespace std::string_literals;

namespace {

std::vector<double> numbers(const TensorFile& file, const std::string& name) {
  const Tensor exact = file.tensor(name).to(DType::F64);
  return {exact.span<double>().begin(), exact.span<double>().end()};
}

// Eighths from -1 on, as the script has them, at these places.
std::vector<double> eighths(const std::vector<int>& places) {
  std::vector<double> values;
  for (const int i : places) values.push_back(i / 8.0 - 1);
  return values;
}
std::vector<double> eighths(int n) {
  std::vector<int> places;
  for (int i = 0; i < n; ++i) places.push_back(i);
  return eighths(places);
}

std::string number(int64_t n) {
  std::string text = "\x8a\x08";
  for (int i = 0; i < 8; ++i) text += static_cast<char>(n >> 8 * i);
  return text;
}
std::string word(const std::string& text) {
  return "X" + std::string{static_cast<char>(text.size()), '\0', '\0', '\0'} + text;
}
std::string tuple(const std::vector<int64_t>& values) {
  std::string text = "(";
  for (const int64_t n : values) text += number(n);
  return text + "t";
}
std::string storage(int64_t elements) {
  return "(" + word("storage") + "ctorch\nFloatStorage\n" + word("0") + word("cpu") + number(elements) + "tQ";
}
// {"w": a tensor}
using Numbers = std::vector<int64_t>;
std::string tensor(int64_t elements, int64_t offset, const Numbers& shape, const Numbers& strides) {
  return "}" + word("w") + "ctorch._utils\n_rebuild_tensor_v2\n(" + storage(elements) + number(offset) + tuple(shape) +
         tuple(strides) + "\x89}tRs.";
}

// A file of bare pickles around this one, with a storage "0" of six numbers.
std::string bare(const std::string& pickle) {
  const std::string magic("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15);
  return magic + "\x80\x02M\xe9\x03." + "\x80\x02}" + word("little_endian") + "\x88s." + "\x80\x02" + pickle +
         "\x80\x02]" + word("0") + "a." + std::string("\x06\0\0\0\0\0\0\0", 8) + std::string(24, '\0');
}

}  // namespace

TEST_CASE("PyTorch's files, of each kind: every dtype, views, wrappers; what else is in them is left out") {
  for (const char* name : {"zip.pth", "bare.pth", "protocol4.pth"}) {
    CAPTURE(std::string(name));
    const TensorFile file = TensorFile::open(golden_path("pytorch/"s + name));
    CHECK(file.entries().size() == 11);
    CHECK(file.metadata().at("note") == "a text");
    for (const auto& [what, n] : {std::pair("f32", 6), std::pair("f16", 4), std::pair("bf16", 4), std::pair("f64", 3),
                                  std::pair("parameter", 2)})
      CHECK(numbers(file, "module."s + what) == eighths(n));
    CHECK(file.entry("module.f16").dtype == "F16");
    CHECK(file.tensor("module.bf16").dtype() == DType::BF16);
    std::vector<int> turned;  // (2, 3, 4) to (4, 2, 3)
    for (int k = 0; k < 4; ++k)
      for (int i = 0; i < 6; ++i) turned.push_back(4 * i + k);
    CHECK(file.tensor("module.turned").shape() == Shape{4, 2, 3});
    CHECK(numbers(file, "module.turned") == eighths(turned));
    CHECK(numbers(file, "module.column") == eighths({3, 8}));
    CHECK(numbers(file, "module.row") == eighths({5, 6, 7, 8, 9}));
    CHECK(file.tensor("module.empty").shape() == Shape{0, 4});
    CHECK(file.tensor("module.num_batches_tracked").span<int64_t>()[0] == 7);
    CHECK(file.entry("module.flags").dtype == "BOOL");
  }
}

TEST_CASE("PyTorch's files: nothing is executed, and each lie is one line with the file's name") {
  const TemporaryFolder folder;
  const std::string path = folder / "bad.pth";
  const auto refused = [&](const std::string& content, const std::string& reason) {
    write_file(path, content);
    const std::string message = message_of([&] { TensorFile::open(path); });
    CAPTURE(message);
    CAPTURE(reason);
    CHECK(message.starts_with(path + ": "));
    CHECK(contains(message, reason));
  };
  write_file(path, bare(tensor(6, 0, {2, 3}, {3, 1})));
  CHECK(numbers(TensorFile::open(path), "w") == std::vector<double>(6, 0.0));

  refused(bare("cos\nsystem\n" + word("ls") + "\x85R."), "pickle asks for os.system: refused");
  refused(bare(word("builtins") + word("eval") + "\x93" + word("1") + "\x85R."), "asks for builtins.eval: refused");
  refused(bare("ctorch\nload\n" + word("x") + "\x85R."), "pickle asks for torch.load: refused");
  refused(bare("ctorch.hub.os\nStorage\n."), "pickle asks for torch.hub.os.Storage: refused");
  refused(bare("ctorch\nFloatStorage\n" + word("x") + "\x85R."), "asks for a call of torch.FloatStorage: refused");
  std::string other = tensor(6, 0, {6}, {1});
  other.replace(other.find("Float"), 5, "QInt8");
  refused(bare(other), "torch.QInt8Storage: refused");
  refused(bare("icollections\nOrderedDict\n."), "pickle asks for instruction 105: refused");
  refused(bare("ccollections\nOrderedDict\n)\x81."), "pickle asks for instruction 129: refused");
  refused(bare("c" + std::string(300, 'x') + "\n."), "a name of more than 256 bytes");
  refused(bare("a."), "takes from an empty stack");
  refused(bare("h\x05."), "asks for what was not kept");
  refused(bare("NN."), "damaged");
  refused(bare("]q\0h\0a."s), "lists a storage that no tensor has");  // a list in itself
  refused(bare(std::string(100'000, ']') + std::string(99'999, 'a') + "."), "lists a storage that no tensor has");
  refused(bare(std::string(1'000'001, 'N') + "."), "more than 1000000 values");
  refused(bare("N" + std::string(1'000'001, '\x94') + "."), "keeps too many values");
  refused(bare("X\xff\xff\xff\x7f."), "truncated");  // before two gigabytes are taken
  refused(bare("\x8a\x09" + std::string(9, '1') + "."), "more than 64 bits");

  const std::string outside = "does not lie within its storage";
  refused(bare(tensor(6, 0, {7}, {1})), outside);
  refused(bare(tensor(6, 1, {6}, {1})), outside);
  refused(bare(tensor(6, -1, {6}, {1})), outside);
  refused(bare(tensor(6, 0, {2, 3}, {4, 1})), outside);
  refused(bare(tensor(6, 0, {2}, {int64_t{1} << 62})), outside);
  refused(bare(tensor(6, 0, {2}, {-1})), outside);
  refused(bare(tensor(6, 0, {-2, -3}, {3, 1})), outside);
  refused(bare(tensor(6, 0, {int64_t{1} << 40, int64_t{1} << 40}, {0, 0})), outside);  // one number, 2^80 times
  refused(bare(tensor(6, 0, {0, -1}, {1, 1})), "tensor 'w': ");
  refused(bare(tensor(7, 0, {6}, {1})), "24 bytes, not 7 elements");
  refused(bare(tensor(int64_t{1} << 62, 0, {6}, {1})), "24 bytes, not");
  refused(bare("}" + word("w") + "ctorch._utils\n_rebuild_tensor_v2\n" + tuple({1, 2, 3, 4}) + "Rs."), "without storage");
  refused("\x80\x04\x95", "a pickle that torch.save did not write");
}

TEST_CASE("PyTorch's files: a zip archive is one of torch.save, uncompressed and whole") {
  const TemporaryFolder folder;
  const std::string path = folder / "bad.pth", good = read_text(golden_path("pytorch/zip.pth"));
  const auto refused = [&](const std::string& content, const std::string& reason) {
    write_file(path, content);
    const std::string message = message_of([&] { TensorFile::open(path); });
    CAPTURE(message);
    CHECK(message.starts_with(path + ": "));
    CHECK(contains(message, reason));
  };
  const size_t entry = good.find("PK\x01\x02");
  const auto with = [&](size_t at, const std::string& bytes) {
    return std::string(good).replace(at, bytes.size(), bytes);
  };
  refused(with(entry + 10, "\x08"), "is compressed");
  refused(with(entry + 8, "\x01"), "is encrypted");
  refused(with(entry + 20, "\xf0\xff\xff\x7f\xf0\xff\xff\x7f"), "lies outside the file");
  refused(with(entry + 42, "\xf0\xff\xff\x7f"), "lies outside the file");
  refused(with(good.rfind("PK\x06\x06") + 40, "\xff\xff\xff\xff\xff\xff\xff\x7f"), "outside the file");
  refused(with(good.find("little"), "big   "), "not read here");
  const size_t name = good.find("data.pkl", entry);
  refused(with(name, "Data.pkl"), "without data.pkl");
  refused(read_text(golden_path("pytorch/whole_module.pth")), "asks for torch.nn.modules.linear.Linear: refused");
}

TEST_CASE("PyTorch's files: damaged copies of good ones are read or refused, never worse") {
  const TemporaryFolder folder;
  const std::string bad = folder / "bad.pth";
  for (const char* name : {"zip.pth", "bare.pth"}) {
    const std::string good = read_text(golden_path("pytorch/"s + name));
    int refused = 0;
    const auto attempt = [&](const std::string& content) {
      write_file(bad, content);
      try {
        const TensorFile file = TensorFile::open(bad);
        for (const auto& [tensor, e] : file.entries()) file.bytes(tensor);
      } catch (const Error& e) {
        ++refused;
        CHECK(contains(e.what(), bad));
      }
    };
    const int step = kSanitized ? 29 : 7;
    int cuts = 0;
    for (size_t cut = 0; cut < good.size(); cut += static_cast<size_t>(step)) attempt(good.substr(0, cut)), ++cuts;
    CHECK(refused == cuts);  // each is noticed
    Rng rng(5, "damage");
    for (int i = 0; i < 300; ++i) {
      std::string damaged = good;
      for (int k = 0; k < 3; ++k)
        damaged[rng.below(static_cast<uint32_t>(good.size()))] = static_cast<char>(rng.below(256));
      attempt(damaged);
    }
  }
}
