// A file of scores that outlives the run that writes it.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "engine/base/io.h"
#include "tools/cli/results.h"

namespace qfm {

// -o FILE of `score`: .jsonl (a line a photo), .json ({"header": ..., "results": [...]}) or .csv (the header as lines
// "# key: value", then csv_line's columns). Until finish() it is FILE.part, a row a line below the header: readable while it
// grows, and what an interrupted run leaves for the next.
class ResultFile {
 public:
  // Goes on with FILE.part where its header is this one, else begins it anew. Throws Error "PATH: reason", also where
  // another run is writing it.
  ResultFile(const std::string& path, const std::string& extension, const Json& header);

  // What FILE.part had of a photo that has not changed since it was begun; null: nothing, or an error.
  const ScoredPhoto* kept(const std::string& photo) const;
  // How many those are, or why FILE.part is begun anew; empty where there was none.
  const std::string& found() const { return found_; }

  void add(const ScoredPhoto& result);
  // All results, in the order that they shall have: FILE with them, FILE.part gone.
  void finish(const std::vector<ScoredPhoto>& all);

 private:
  std::string row(const ScoredPhoto& result) const;
  void resume(const std::string& text);

  const std::string path_, part_, extension_;
  const std::string header_;  // as text above the rows of `part_`
  FileDescriptor file_;
  std::map<std::string, ScoredPhoto> kept_;
  std::string found_;
};

}  // namespace qfm
