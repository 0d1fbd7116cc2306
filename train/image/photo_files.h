// The photos of a folder.
#pragma once
#include <string>
#include <vector>

namespace qfm {

struct FolderEntry {
  std::string path;   // FOLDER/NAME of a photo, or of a folder that cannot be read
  std::string error;  // why it cannot be read; empty: a photo
};

// Photos by extension (jpg jpeg png bmp gif pgm ppm pnm tga, any letter case), sorted by name, hidden ones
// left out, of its folders too if `recursive` (links to folders are not followed).
std::vector<FolderEntry> entries_in(const std::string& folder, bool recursive);

// Their paths. Throws Error "FOLDER: reason" where a folder cannot be read.
std::vector<std::string> photos_in(const std::string& folder, bool recursive);

}  // namespace qfm
