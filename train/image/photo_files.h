// The photos of a folder.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace qfm {

// What was found where photos were looked for.
struct PhotoEntry {
  std::string path;   // a photo, or what cannot be read
  std::string error;  // why there is no photo to be had; empty: not tried yet
};

// How many files of a kind were left out, by the kind's name.
using LeftOut = std::map<std::string, int64_t, std::less<>>;

// Photos that this build reads by what they are (file_kind.h) whatever their name, and by extension (formats.h, any
// letter case) whatever they are, so that a damaged one is told; sorted by name, hidden ones left out, of its folders
// too if `recursive` (links to folders are not followed): FOLDER/NAME. Folders that cannot be read are entries with an
// error. left_out, unless null, gets the others.
std::vector<PhotoEntry> entries_in(const std::string& folder, bool recursive, LeftOut* left_out = nullptr);

// Their paths. Throws Error "FOLDER: reason" where a folder cannot be read.
std::vector<std::string> photos_in(const std::string& folder, bool recursive);

}  // namespace qfm
