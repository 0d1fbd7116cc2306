// Photos beside their originals, as named on the command line.
#pragma once
#include <string>
#include <vector>

namespace qfm {

struct PhotoPair {
  std::string reference, path;  // empty: there is none
  std::string error;            // why they cannot be compared; empty: not tried yet
};

// reference is a photo: it beside each photo of `others`, files or folders. reference is a folder: `others` are folders
// too, and their photos stand beside those of the same path below the folder; what is left over then beside one of the
// same path but for the extension, where both sides have only one such. Photos without partner come last, with an
// error. Throws UsageError where a folder and a photo are to be compared.
std::vector<PhotoPair> list_pairs(const std::string& reference, const std::vector<std::string>& others,
                                  bool recursive);

}  // namespace qfm
