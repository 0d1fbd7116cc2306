// kernels/vendor/kernel_policy.h: the table of own kernels and the vendor's.
#include "kernels/vendor/kernel_policy.h"

#include "tests/scopes.h"
#include "tests/support.h"

namespace qfm::test {
namespace {

const char* const kTable =
    "# talk\n"
    "device: NVIDIA H100 80GB HBM3\n"
    "cublaslt: 13.1.0\n"
    "\n"
    "gemm BF16 50432x1152x384 NT bias = vendor 2   # own 120.1 us, vendor 98.2 us\r\n"
    "  attention_forward BF16 256x6 197x197 d64=own\n";

TEST_CASE("a table of choices is read, and written as it is read") {
  const PolicyTable table = PolicyTable::parse(kTable, "t");
  CHECK(table.about.at("device") == "NVIDIA H100 80GB HBM3");
  CHECK(table.about.at("cublaslt") == "13.1.0");
  CHECK(table.choices.size() == 2);
  CHECK(table.choices.at("gemm BF16 50432x1152x384 NT bias") == Choice{true, 2});
  CHECK(table.choices.at("attention_forward BF16 256x6 197x197 d64") == Choice{false, 0});
  const PolicyTable again = PolicyTable::parse(table.text(), "t");
  CHECK(again.about == table.about);
  CHECK(again.choices == table.choices);
  CHECK(PolicyTable::parse("", "t").choices.empty());
}

TEST_CASE("a damaged table of choices is refused with its line") {
  const auto refused = [](const std::string& text) {
    return message_of([&] { PolicyTable::parse(text, "t.txt"); });
  };
  for (const char* bad : {"gemm", "gemm = ", "gemm = vendor", "gemm = vendor x", "gemm = vendor -1",
                          "gemm = vendor 1000", "gemm = Own"})
    CHECK_MESSAGE(contains(refused(std::string("a = own\n") + bad), "t.txt:2: expected 'KEY = own'"), bad);
  CHECK(refused("a = own\n\na = vendor 0\n") == "t.txt:3: 'a' stands here twice");
}

TEST_CASE("a preference goes before the table, the table before the rule") {
  const auto chosen = [](const std::string& key, bool rule) { return choose([&] { return key; }, rule); };
  using Prefer = KernelPolicy::Prefer;
  {
    const DecidingScope scope({Prefer::Table, PolicyTable::parse("a = vendor 3\nb = own\n", "t"), "0a1b"});
    CHECK(chosen("a", false) == Choice{true, 3});
    CHECK(chosen("b", true) == Choice{false, 0});
    CHECK(chosen("c", true) == Choice{true, 0});
    CHECK(policy_text().starts_with("table 0a1b"));
  }
  {
    const DecidingScope scope({Prefer::Own, PolicyTable::parse("a = vendor 3\n", "t"), "0a1b"});
    CHECK(chosen("a", true) == Choice{false, 0});
    CHECK(policy_text().starts_with("own"));
  }
  const DecidingScope scope({Prefer::Vendor, PolicyTable::parse("b = own\n", "t"), "0a1b"});
  CHECK(chosen("b", false) == Choice{true, 0});
}

}  // namespace
}  // namespace qfm::test
