// Arrays of MATLAB's .mat files (version 5, also compressed), by libmatio.
#pragma once
#include <memory>
#include <string>
#include <vector>

namespace qfm {

// Every Error is "PATH: reason". A build without libmatio (QFM_MAT=OFF) throws on opening, with that reason.
class MatFile {
 public:
  // Refuses a file that is above 64 MiB, is cut short, or claims more bytes than it has.
  explicit MatFile(const std::string& path);
  ~MatFile();
  bool has(const std::string& name) const;
  // A real numeric or logical array of any shape, column by column. Throws Error where it is something else.
  std::vector<double> numbers(const std::string& name) const;
  // A cell array of texts, as UTF-8.
  std::vector<std::string> texts(const std::string& name) const;
  const std::string& path() const { return path_; }

 private:
  struct Handle;
  std::string path_;
  std::unique_ptr<Handle> handle_;
};

}  // namespace qfm
