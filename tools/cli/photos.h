// Photos named on the command line.
#pragma once
#include <string>
#include <vector>

#include "train/image/photo_files.h"

namespace qfm {

// Files as given; of a folder its photos (entries_in); for "-" the lines of standard input, each treated so.
// A folder that cannot be read, a folder without photos and an empty list are entries with an error.
std::vector<PhotoEntry> list_photos(const std::vector<std::string>& arguments, bool recursive);

// How many threads should decode while threads() compute.
int decode_workers();

}  // namespace qfm
