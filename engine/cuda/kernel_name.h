// The kernel's name for messages, taken from the signature of a launch<kernel>.
#pragma once
#include <string>
#include <string_view>

namespace qfm::cuda {

// "void launch(...) [with auto kernel = qfm::{anonymous}::scale<float, 4>; ...]" -> "scale<float, 4>";
// without namespaces
inline std::string kernel_name(std::string_view signature) {
  constexpr std::string_view mark = "kernel = ";
  const size_t begin = signature.find(mark);
  if (begin == std::string_view::npos) return std::string(signature);
  std::string_view name = signature.substr(begin + mark.size());
  name = name.substr(0, name.find_first_of(";]"));
  const size_t scope = name.substr(0, name.find('<')).rfind("::");
  if (scope != std::string_view::npos) name.remove_prefix(scope + 2);
  std::string text(name);
  for (const std::string_view part : {"qfm::", "{anonymous}::", "<unnamed>::"})
    for (size_t at; (at = text.find(part)) != std::string::npos;) text.erase(at, part.size());
  return text;
}

}  // namespace qfm::cuda
