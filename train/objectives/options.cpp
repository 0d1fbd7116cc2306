#include "train/objectives/options.h"

#include <algorithm>

#include "engine/base/error.h"

namespace qfm {
namespace {

const OptionField& field_of(std::string_view key) {
  const auto& fields = option_fields();
  const auto at = std::find_if(fields.begin(), fields.end(), [&](const auto& f) { return f.key == key; });
  QFM_CHECK(at != fields.end(), "no objective has an option '", key, "'");
  return *at;
}

template <class T>
const T& typed(const Options& options, std::string_view key) {
  const T* value = std::get_if<T>(&options.value(key));
  QFM_CHECK(value, "option '", key, "' is of another type");
  return *value;
}

}  // namespace

const OptionValue& Options::value(std::string_view key) const {
  const auto at = given_.find(key);
  return at == given_.end() ? field_of(key).standard : at->second;
}
bool Options::flag(std::string_view key) const { return typed<bool>(*this, key); }
int64_t Options::whole(std::string_view key) const { return typed<int64_t>(*this, key); }
double Options::number(std::string_view key) const { return typed<double>(*this, key); }
const std::string& Options::text(std::string_view key) const { return typed<std::string>(*this, key); }

bool Options::at_standard(std::string_view key) const { return value(key) == field_of(key).standard; }

Options& Options::set(std::string_view key, OptionValue value) {
  const OptionField& field = field_of(key);
  if (const auto* whole = std::get_if<int64_t>(&value); whole && std::holds_alternative<double>(field.standard))
    value = static_cast<double>(*whole);
  QFM_CHECK(value.index() == field.standard.index(), "option '", key, "' is of another type");
  given_.insert_or_assign(std::string(key), std::move(value));
  return *this;
}

bool operator==(const Options& a, const Options& b) {
  const auto& fields = option_fields();
  return std::all_of(fields.begin(), fields.end(), [&](const auto& f) { return a.value(f.key) == b.value(f.key); });
}

}  // namespace qfm
