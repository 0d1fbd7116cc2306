// The flags of objectives: each objective declares its own (OptionField), Options holds what was typed.
#pragma once
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace qfm {

using OptionValue = std::variant<bool, int64_t, double, std::string>;

struct OptionField {
  std::string_view key;  // the flag --key, and the name in the config file
  OptionValue standard;
  std::string_view help;
  std::vector<std::string_view> choices = {};  // what a text may be
  double low = std::numeric_limits<double>::lowest(),
         high = std::numeric_limits<double>::max();  // limits of a number, inclusive
  bool or_off = false;                               // a number for which "off" may be typed: 0
};

// Values by key; where none was set, the field's standard. All throw Error for a key that no objective declares, and
// for another type than its own.
class Options {
 public:
  bool flag(std::string_view key) const;
  int64_t whole(std::string_view key) const;
  double number(std::string_view key) const;
  const std::string& text(std::string_view key) const;
  const OptionValue& value(std::string_view key) const;
  bool at_standard(std::string_view key) const;
  // A whole number also where the field is a double.
  Options& set(std::string_view key, OptionValue value);
  friend bool operator==(const Options& a, const Options& b);

 private:
  std::map<std::string, OptionValue, std::less<>> given_;
};

// The fields of all objectives, in the order of registry.cpp.
const std::vector<OptionField>& option_fields();

}  // namespace qfm
