#include "tools/cli/photo_pairs.h"

#include <filesystem>
#include <map>
#include <optional>

#include "tools/cli/command.h"
#include "tools/cli/photos.h"

namespace qfm {
namespace {

namespace fs = std::filesystem;

bool is_folder(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

// The photos of a folder by what they are matched by.
using Keyed = std::multimap<std::string, PhotoEntry>;
enum class Key { Name, Stem };

std::string key_of(const std::string& path, const std::string& folder, Key key) {
  fs::path below = fs::path(path).lexically_relative(folder);
  if (key == Key::Stem) below.replace_extension();
  return below.string();
}

// Takes those of `left` and `right` that alone have their key, and gives them to f.
template <class F>
void take_matches(std::vector<PhotoEntry>& left, const std::string& left_folder,
                  std::vector<PhotoEntry>& right, const std::string& right_folder, Key key, F&& f) {
  Keyed of_left, of_right;
  for (auto& photo : left) of_left.emplace(key_of(photo.path, left_folder, key), std::move(photo));
  for (auto& photo : right) of_right.emplace(key_of(photo.path, right_folder, key), std::move(photo));
  left.clear(), right.clear();
  for (auto& [name, photo] : of_left) {
    const auto partner = of_right.find(name);
    if (of_left.count(name) != 1 || of_right.count(name) != 1) {
      left.push_back(std::move(photo));
      continue;
    }
    f(photo, partner->second);
    of_right.erase(partner);
  }
  for (auto& [name, photo] : of_right) right.push_back(std::move(photo));
}

void add_folders(const std::string& reference, const std::string& other, bool recursive,
                 std::vector<PhotoPair>& pairs) {
  auto left = list_photos({reference}, recursive), right = list_photos({other}, recursive);
  for (const Key key : {Key::Name, Key::Stem})
    take_matches(left, reference, right, other, key, [&](const PhotoEntry& a, const PhotoEntry& b) {
      pairs.push_back({a.path, b.path, a.error.empty() ? b.error : a.path + ": " + a.error});
    });
  const auto reason = [](const PhotoEntry& photo, const std::string& folder) {
    return photo.error.empty() ? "no photo of this name in " + folder : photo.error;
  };
  for (const auto& photo : right) pairs.push_back({"", photo.path, reason(photo, reference)});
  for (const auto& photo : left) pairs.push_back({photo.path, "", reason(photo, other)});
}

}  // namespace

std::vector<PhotoPair> list_pairs(const std::string& reference, const std::vector<std::string>& others,
                                  bool recursive) {
  std::vector<PhotoPair> pairs;
  if (!is_folder(reference)) {
    for (const auto& photo : list_photos(others, recursive))
      pairs.push_back({reference, photo.path, photo.error});
    return pairs;
  }
  for (const auto& other : others) {
    if (!is_folder(other)) throw UsageError(other + ": is no folder, but " + reference + " is one");
    add_folders(reference, other, recursive, pairs);
  }
  return pairs;
}

}  // namespace qfm
