// Which build this is.
#pragma once
#include <string>

namespace qfm {

const char* version();       // "0.1.0"
const char* commit();        // of the sources, when CMake was run; "unknown" without git
std::string version_text();  // "qfm 0.1.0 (commit 0123abcd)" and the backends built in

}  // namespace qfm
