// What a user should know although the work goes on. Library code never prints: the program decides where a notice
// goes.
#pragma once
#include <functional>
#include <string>

namespace qfm {

// `to` gets each text once in the life of the program, one line without its end, on the thread that gives the notice.
// Null, as at the start: dropped.
using Notices = std::function<void(const std::string& text)>;
void set_notices(Notices to);
void notice(const std::string& text);

}  // namespace qfm
