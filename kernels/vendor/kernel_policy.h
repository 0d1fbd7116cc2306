// Own kernel or the vendor's: read from a table, never measured, while the program works. `qfm bench tune`
// writes such a table, QFM_KERNELS=FILE reads it.
#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <string>

namespace qfm {

struct Choice {
  bool vendor = false;
  int algorithm = 0;  // which of the vendor's suggestions, 0 the first
  friend bool operator==(const Choice&, const Choice&) = default;
};

// A text file. What was measured on, `device: NAME`, `cublaslt: 13.1.0`, `cudnn: 9.19.0`; then one line an
// operation, `KEY = own` or `KEY = vendor N`. A # begins a comment. Spaces around : and = do not matter.
struct PolicyTable {
  std::map<std::string, std::string> about;
  std::map<std::string, Choice> choices;

  // Throws Error "PATH:LINE: reason".
  static PolicyTable parse(const std::string& text, const std::string& path);
  std::string text() const;
};

// What decides: QFM_KERNELS=own|vendor (as far as the vendor has the operation) or the table of
// QFM_KERNELS=FILE; without one, or without a line in it, the rule of the caller. Read once. `policy` throws
// Error for a table that cannot be used.
struct KernelPolicy {
  enum class Prefer : unsigned char { Table, Own, Vendor } prefer = Prefer::Table;
  PolicyTable table;
  std::string hash;                        // SHA-256 of the table's file; empty without one
  std::set<std::string>* asked = nullptr;  // where given, gets the name of each operation that asks
};
const KernelPolicy& policy();
// For tests and `bench tune`: replaces it from now on.
void set_policy(KernelPolicy by);

// key() is the operation's name in a table; it is not asked for where there is none.
template <class Key>
Choice choose(const Key& key, bool vendor_by_rule) {
  const KernelPolicy& by = policy();
  if (by.asked) by.asked->insert(key());
  if (by.prefer != KernelPolicy::Prefer::Table) return {by.prefer == KernelPolicy::Prefer::Vendor};
  if (!by.table.choices.empty())
    if (const auto at = by.table.choices.find(key()); at != by.table.choices.end()) return at->second;
  return {vendor_by_rule};
}

// QFM_TF32=on: the vendor's products of F32 may round their operands to TF32 (10 bits). Read once. Throws
// Error for another value than on or off.
bool tf32_wanted();

// How often the vendor has served so far: a choice of it that cannot be followed leaves the work to
// our own kernels.
uint64_t vendor_calls();
void count_vendor_call();

// For the header of results of a CUDA run, which these decide the bits of: "by rule, cublaslt 13.1.0, cudnn
// absent", "own, ...", "vendor, ...", "table 0a1b..., ..."; ", tf32" where wanted. Without vendors in the
// build only the first part.
std::string policy_text();
// "cublaslt 13.1.0, cudnn absent": opens them. Empty where the build has neither.
std::string vendors_text();

}  // namespace qfm
