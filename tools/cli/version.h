// Which build this is.
#pragma once
#include <string>

namespace qfm {

const char* version();  // "0.1.0"
// The commit of the sources when CMake was run: by git, "-dirty" with changes, else $QFM_COMMIT, else "unknown".
const char* commit();
// "qfm 0.1.0 (commit 0123abcd)" the backends and formats of photos built in. Opens cuBLASLt and cuDNN to see which are there.
std::string version_text();

}  // namespace qfm
