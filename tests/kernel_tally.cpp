#include "tests/kernel_tally.h"

#include <cctype>
#include <cstdio>
#include <filesystem>
#include <set>
#include <string_view>

#include "engine/base/io.h"
#include "engine/cuda/host/language.h"

namespace qfm::test {
namespace {

// The name of the kernel whose __global__ ends at `at`: the first word before a '(' that is no launch
// bound's. Empty where no function follows.
std::string name_after(const std::string& source, size_t at) {
  const auto blank = [&] { return std::isspace(static_cast<unsigned char>(source[at])) != 0; };
  const auto letter = [&] {
    return std::isalnum(static_cast<unsigned char>(source[at])) || source[at] == '_';
  };
  for (;;) {
    while (at < source.size() && blank()) ++at;
    const size_t begin = at;
    while (at < source.size() && letter()) ++at;
    const std::string word = source.substr(begin, at - begin);
    if (word.empty() || at == source.size()) return "";
    if (source[at] != '(') continue;
    if (word != "__launch_bounds__") return word;
    for (int open = 0; at < source.size();) {
      open += source[at] == '(', open -= source[at] == ')';
      ++at;
      if (open == 0) break;
    }
  }
}

// The kernels in kernels/ and below.
std::set<std::string> defined_kernels() {
  constexpr std::string_view kMark = "__global__";
  std::set<std::string> names;
  for (const auto& file :
       std::filesystem::recursive_directory_iterator(std::string(QFM_SOURCE_DIR) + "/kernels")) {
    const std::string type = file.path().extension();
    if (type != ".cu" && type != ".cuh") continue;
    const std::string source = read_text(file.path());
    for (size_t at = 0; (at = source.find(kMark, at)) != std::string::npos;)
      names.insert(name_after(source, at += kMark.size()));
  }
  names.erase("");
  return names;
}

std::string base_name(const std::string& name) { return name.substr(0, name.find('<')); }

}  // namespace

void print_kernel_tally() {
  const std::set<std::string> ours = defined_kernels();
  for (const auto& [name, count] : host_cuda::launches())
    if (count > 0 && ours.count(base_name(name)) > 0)
      std::printf("kernel %s: %lld launches\n", name.c_str(), static_cast<long long>(count));
}

bool all_kernels_ran() {
  const std::set<std::string> ours = defined_kernels();
  std::set<std::string> missing = ours;
  bool all = !missing.empty();
  for (const auto& [name, count] : host_cuda::launches()) {
    if (ours.count(base_name(name)) == 0) continue;  // a test's own
    missing.erase(base_name(name));
    if (count == 0) std::printf("FAILED: kernel %s never ran\n", name.c_str());
    all = all && count > 0;
  }
  for (const std::string& name : missing) std::printf("FAILED: kernel %s never ran\n", name.c_str());
  return all && missing.empty();
}

}  // namespace qfm::test
