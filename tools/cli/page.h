// A report that grows in two forms at once: Markdown, and the body of an HTML page.
#pragma once
#include <string>
#include <vector>

namespace qfm {

struct Page {
  std::string markdown, body;

  void heading(int level, const std::string& text);
  void paragraph(const std::string& text);
  // The first row names the columns.
  void table(const std::vector<std::vector<std::string>>& rows);
  void list(const std::vector<std::string>& items);
  // One self-contained file with the style that charts need.
  std::string html(const std::string& title) const;
};

}  // namespace qfm
