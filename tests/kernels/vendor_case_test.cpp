// kernels/vendor/vendor_case.h: what becomes of a case that a vendor's library fails at.
#include "kernels/vendor/vendor_case.h"

#include <vector>

#include "tests/scopes.h"
#include "tests/support.h"

namespace qfm::test {
namespace {

struct Watched : Notes {
  Watched() { forget_vendor_failures(); }
  ~Watched() { forget_vendor_failures(); }
};

bool serve(const std::string& name, const std::function<bool()>& run) {
  return served_by_vendor([&] { return name; }, run);
}
bool fail() { throw VendorError("library: run: its reason", "file", 1); }

TEST_CASE("a case that a library serves is counted, one that it does not have is neither counted nor kept") {
  const Watched notes;
  const uint64_t before = vendor_calls();
  CHECK(serve("a", [] { return true; }));
  CHECK(vendor_calls() == before + 1);
  CHECK_FALSE(serve("a", [] { return false; }));
  CHECK(serve("a", [] { return true; }));
  CHECK(vendor_calls() == before + 2);
  CHECK(notes.texts.empty());
  CHECK(vendor_failures().empty());
}

TEST_CASE("a case that a library fails at is told once and not tried again; others are") {
  const Watched notes;
  const uint64_t before = vendor_calls();
  CHECK_FALSE(serve("a", fail));
  int tried = 0;
  const auto well = [&] { return ++tried > 0; };
  CHECK_FALSE(serve("a", well));
  CHECK(tried == 0);
  CHECK(serve("b", well));
  CHECK(vendor_calls() == before + 1);
  CHECK(notes.texts == std::vector<std::string>{"a: library: run: its reason; it is not tried again"});
  CHECK(vendor_failures() == std::map<std::string, std::string>{{"a", "library: run: its reason"}});
}

TEST_CASE("where nothing has failed no case is named") {
  const Watched notes;
  const auto name = []() -> std::string { QFM_FAIL("was named"); };
  CHECK(served_by_vendor(name, [] { return true; }));
  CHECK_FALSE(served_by_vendor(name, [] { return false; }));
}

TEST_CASE("memory that ran out and errors of our own say nothing of the case") {
  const Watched notes;
  const auto out_of_memory = []() -> bool { throw OutOfMemory("out of memory", "file", 1); };
  CHECK_THROWS_AS(serve("a", out_of_memory), OutOfMemory);
  CHECK(message_of([] { serve("a", []() -> bool { QFM_FAIL("cuda: lost"); }); }) == "cuda: lost");
  CHECK(serve("a", [] { return true; }));
  CHECK(notes.texts.empty());
}

}  // namespace
}  // namespace qfm::test
