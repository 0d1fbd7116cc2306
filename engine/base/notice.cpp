#include "engine/base/notice.h"

#include <mutex>
#include <set>
#include <utility>

namespace qfm {
namespace {

struct Told {
  std::mutex mutex;
  Notices to;
  std::set<std::string> texts;
};
Told& told() {
  static auto* all = new Told;  // never destroyed: static objects may give a notice at the end
  return *all;
}

}  // namespace

void set_notices(Notices to) {
  const std::lock_guard lock(told().mutex);
  told().to = std::move(to);
  told().texts.clear();
}

void notice(const std::string& text) {
  const std::lock_guard lock(told().mutex);
  if (told().to && told().texts.insert(text).second) told().to(text);
}

}  // namespace qfm
