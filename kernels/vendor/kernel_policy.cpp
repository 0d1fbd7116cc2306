#include "kernels/vendor/kernel_policy.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <optional>

#include "engine/base/error.h"
#include "engine/base/io.h"
#include "engine/base/sha256.h"
#include "engine/cuda/cuda.h"
#ifdef QFM_WITH_VENDORS
#include "kernels/vendor/vendor.h"
#endif

namespace qfm {
namespace {

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r"), end = text.find_last_not_of(" \t\r");
  return begin == std::string::npos ? "" : text.substr(begin, end - begin + 1);
}

std::optional<Choice> choice_of(const std::string& text) {
  if (text == "own") return Choice{};
  constexpr std::string_view vendor = "vendor ";
  if (!text.starts_with(vendor)) return std::nullopt;
  const std::string number = text.substr(vendor.size());
  if (number.empty() || number.size() > 3 || number.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  return Choice{true, std::atoi(number.c_str())};
}

// Algorithms are numbered by one version of one library for one device, so the table is good for no other.
void check_vendors([[maybe_unused]] const PolicyTable& table, [[maybe_unused]] const std::string& path) {
#ifdef QFM_WITH_VENDORS
  if (const auto at = table.about.find("device"); at != table.about.end() && cuda::available())
    QFM_CHECK(at->second == cuda::device_name(), "QFM_KERNELS=", path, ": measured on ", at->second,
              ", here is ", cuda::device_name(), ": run qfm bench tune again");
  for (const Vendor vendor : {Vendor::CublasLt, Vendor::Cudnn}) {
    const VendorLibrary& library = VendorLibrary::of(vendor);
    if (!library.open()) continue;
    const std::string& here = library.text();
    const std::string name = here.substr(0, here.find(' '));
    const auto at = table.about.find(name);
    QFM_CHECK(at != table.about.end() && name + " " + at->second == here, "QFM_KERNELS=", path,
              ": measured with ", name, " ", at == table.about.end() ? "absent" : at->second, ", here is ",
              here, ": run qfm bench tune again");
  }
#endif
}

KernelPolicy from_environment() {
  const char* value = std::getenv("QFM_KERNELS");
  const std::string wanted = value ? value : "";
  KernelPolicy by;
  if (wanted == "own") by.prefer = KernelPolicy::Prefer::Own;
  else if (wanted == "vendor") by.prefer = KernelPolicy::Prefer::Vendor;
  else if (!wanted.empty()) {
    const auto bytes = read_file(wanted, size_t{1} << 24);
    by.table = PolicyTable::parse(std::string(bytes.begin(), bytes.end()), wanted);
    by.hash = sha256(bytes);
    check_vendors(by.table, wanted);
  }
  return by;
}

std::optional<KernelPolicy>& current() {
  static std::optional<KernelPolicy> by;
  return by;
}

}  // namespace

PolicyTable PolicyTable::parse(const std::string& text, const std::string& path) {
  PolicyTable table;
  int number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    const std::string content = trimmed(line.substr(0, line.find('#')));
    begin = end + 1, ++number;
    if (content.empty()) continue;
    const size_t equals = content.find('='), colon = content.find(':');
    if (equals == std::string::npos && colon != std::string::npos) {
      table.about[trimmed(content.substr(0, colon))] = trimmed(content.substr(colon + 1));
      continue;
    }
    const auto choice =
        equals == std::string::npos ? std::nullopt : choice_of(trimmed(content.substr(equals + 1)));
    QFM_CHECK(choice, path, ":", number, ": expected 'KEY = own', 'KEY = vendor N' or 'NAME: VALUE'");
    const std::string key = trimmed(content.substr(0, equals));
    QFM_CHECK(table.choices.emplace(key, *choice).second, path, ":", number, ": '", key,
              "' stands here twice");
  }
  return table;
}

std::string PolicyTable::text() const {
  std::string text;
  for (const auto& [name, value] : about) text += concat(name, ": ", value, "\n");
  for (const auto& [key, choice] : choices)
    text += choice.vendor ? concat(key, " = vendor ", choice.algorithm, "\n") : key + " = own\n";
  return text;
}

bool tf32_wanted() {
  static const bool wanted = [] {
    const char* value = std::getenv("QFM_TF32");
    const std::string text = value ? value : "";
    QFM_CHECK(text.empty() || text == "on" || text == "off", "QFM_TF32=", text, ": expected on or off");
    return text == "on";
  }();
  return wanted;
}

const KernelPolicy& policy() {
  if (!current()) current() = from_environment();
  return *current();
}
void set_policy(KernelPolicy by) { current() = std::move(by); }

namespace {
std::atomic<uint64_t> calls{0};
}  // namespace
uint64_t vendor_calls() { return calls; }
void count_vendor_call() { ++calls; }

std::string vendors_text() {
#ifdef QFM_WITH_VENDORS
  return VendorLibrary::of(Vendor::CublasLt).text() + ", " + VendorLibrary::of(Vendor::Cudnn).text();
#else
  return "";
#endif
}

std::string policy_text() {
  const KernelPolicy& by = policy();
  const std::string what = by.prefer == KernelPolicy::Prefer::Own      ? "own"
                           : by.prefer == KernelPolicy::Prefer::Vendor ? "vendor"
                           : by.hash.empty()                           ? "by rule"
                                                                       : "table " + by.hash;
  const std::string vendors = vendors_text();
  return vendors.empty() ? what : what + ", " + vendors + (tf32_wanted() ? ", tf32" : "");
}

}  // namespace qfm
