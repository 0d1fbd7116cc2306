// Photos named on the command line.
#pragma once
#include <string>
#include <vector>

#include "train/image/photo_files.h"

namespace qfm {

// Files as given; of a folder its photos (entries_in); for "-" the names on standard input, each treated so: one a line, or
// ended by zero bytes where nul is set or there is one. A folder that cannot be read, a folder without photos, an empty list
// and one in UTF-16 are entries with an error.
std::vector<PhotoEntry> list_photos(const std::vector<std::string>& arguments, bool recursive, bool nul = false);

// How many threads should decode while threads() compute.
int decode_workers();

}  // namespace qfm
