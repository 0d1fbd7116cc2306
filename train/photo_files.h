// The photos of a folder.
#pragma once
#include <string>
#include <vector>

namespace qfm {

// Paths FOLDER/NAME by extension (jpg jpeg png bmp gif pgm ppm pnm tga, any letter case), sorted by name,
// hidden ones left out, of its folders too if `recursive` (links to folders are not followed). Throws Error
// "FOLDER: reason" where it cannot be read.
std::vector<std::string> photos_in(const std::string& folder, bool recursive);

}  // namespace qfm
