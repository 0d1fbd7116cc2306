// The photos of a folder.
#pragma once
#include <string>
#include <vector>

namespace qfm {

// What was found where photos were looked for.
struct PhotoEntry {
  std::string path;   // a photo, or what cannot be read
  std::string error;  // why there is no photo to be had; empty: not tried yet
};

// Photos by extension (jpg jpeg png bmp gif pgm ppm pnm tga, any letter case), sorted by name, hidden ones
// left out, of its folders too if `recursive` (links to folders are not followed): FOLDER/NAME. Folders that
// cannot be read are entries with an error.
std::vector<PhotoEntry> entries_in(const std::string& folder, bool recursive);

// Their paths. Throws Error "FOLDER: reason" where a folder cannot be read.
std::vector<std::string> photos_in(const std::string& folder, bool recursive);

}  // namespace qfm
