#include "tools/cli/photo_groups.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace qfm {
namespace {

constexpr int64_t kBurstSeconds = 10;

bool same_scene(const PhotoGlance& a, const PhotoGlance& b) {
  if (near_duplicate(a.look, b.look)) return true;
  return a.taken && b.taken && std::abs(*a.taken - *b.taken) <= kBurstSeconds && look_alike(a.look, b.look);
}

// Each photo's representative: the first photo of its group.
std::vector<size_t> connected(const std::vector<PhotoGlance>& photos) {
  std::vector<size_t> first(photos.size());
  std::iota(first.begin(), first.end(), size_t{0});
  const auto root = [&](size_t i) {
    while (first[i] != i) i = first[i] = first[first[i]];
    return i;
  };
  for (size_t i = 0; i < photos.size(); ++i)
    for (size_t k = 0; k < i; ++k)
      if (same_scene(photos[i], photos[k])) {
        const size_t a = root(i), b = root(k);
        first[std::max(a, b)] = std::min(a, b);
      }
  for (size_t i = 0; i < photos.size(); ++i) first[i] = root(i);
  return first;
}

}  // namespace

std::vector<size_t> group_photos(Grouping how, const std::vector<PhotoGlance>& photos) {
  std::vector<size_t> group;
  if (how == Grouping::Burst) {
    std::map<size_t, size_t> numbers;
    for (const size_t first : connected(photos))
      group.push_back(numbers.emplace(first, numbers.size()).first->second);
    return group;
  }
  std::map<std::string, size_t> numbers;
  for (const PhotoGlance& photo : photos) {
    const size_t slash = how == Grouping::Folder ? photo.path.find_last_of('/') : std::string::npos;
    const std::string folder = slash == std::string::npos ? "" : photo.path.substr(0, slash + 1);
    group.push_back(numbers.emplace(folder, numbers.size()).first->second);
  }
  return group;
}

}  // namespace qfm
