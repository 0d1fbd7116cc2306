// Where an access is in the source, for the messages of the race detector.
#include <link.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <mutex>

#include "engine/cuda/host/block.h"
#include "engine/cuda/host/race/detector.h"

namespace qfm::host_cuda {
namespace {

constexpr Site kLine = 1u << 31;  // the rest is an index of lines(), else an address in the program

std::mutex sites_mutex;
std::vector<Where>& lines() {
  static std::vector<Where> all;
  return all;
}

uintptr_t load_address() {
  static const uintptr_t address = [] {
    uintptr_t first = 0;
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* result) {
          *static_cast<uintptr_t*>(result) = info->dlpi_addr;
          return 1;
        },
        &first);
    return first;
  }();
  return address;
}

// The innermost function inlined at the address that is not of engine/base: a kernel's line rather than that
// of load().
std::string source_line(Site offset) {
  char program[4096] = {}, line[4096];
  if (readlink("/proc/self/exe", program, sizeof program - 1) < 0) return "";
  FILE* out =
      popen(concat("addr2line -i -e '", program, "' 0x", std::hex, offset, " 2>/dev/null").c_str(), "r");
  if (!out) return "";
  std::string found;
  while (fgets(line, sizeof line, out)) {
    std::string text = line;
    text = text.substr(0, text.find_first_of(" \n"));
    if (text.compare(0, 2, "??") == 0) continue;
    const size_t up = text.rfind("/../");
    if (up != std::string::npos) text.erase(0, up + 4);
    if (found.empty() || found.find("engine/base/") != std::string::npos) found = text;
  }
  pclose(out);
  return found;
}

}  // namespace

Site site_of(const void* return_address) {
  return static_cast<Site>(reinterpret_cast<uintptr_t>(return_address) - 1 - load_address()) & ~kLine;
}

Site site_of(Where where) {
  const std::lock_guard lock(sites_mutex);
  static std::map<std::pair<const char*, unsigned>, Site> known;
  const auto [at, is_new] = known.try_emplace({where.file_name(), where.line()}, lines().size() | kLine);
  if (is_new) lines().push_back(where);
  return at->second;
}

std::string text_of(Site site) {
  const std::lock_guard lock(sites_mutex);
  if (site & kLine) return place(lines()[site & ~kLine]);
  static std::map<Site, std::string> known;
  std::string& text = known[site];
  if (text.empty()) text = source_line(site);
  if (text.empty()) text = concat("0x", std::hex, site, " of the program");
  return text;
}

}  // namespace qfm::host_cuda
