#include "tests/kernel_tally.h"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "engine/base/host_cuda.h"

namespace qfm::test {
namespace {

// The names after __global__ in kernels/ and below.
std::set<std::string> defined_kernels() {
  const std::regex kernel(
      R"(__global__\s+(?:__launch_bounds__\([^;{]*?\)\s*)?void\s+(?:__launch_bounds__\([^;{]*?\)\s*)?(\w+)\()");
  std::set<std::string> names;
  for (const auto& file :
       std::filesystem::recursive_directory_iterator(std::string(QFM_SOURCE_DIR) + "/kernels")) {
    const std::string type = file.path().extension();
    if (type != ".cu" && type != ".cuh") continue;
    std::stringstream text;
    text << std::ifstream(file.path()).rdbuf();
    const std::string source = text.str();
    for (std::sregex_iterator m(source.begin(), source.end(), kernel), end; m != end; ++m)
      names.insert((*m)[1]);
  }
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
