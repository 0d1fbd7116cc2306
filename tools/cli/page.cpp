#include "tools/cli/page.h"

#include "tools/cli/charts.h"
#include "tools/cli/console.h"

namespace qfm {

void Page::heading(int level, const std::string& text) {
  markdown += (level > 1 ? "\n" : "") + std::string(static_cast<size_t>(level), '#') + " " + text + "\n\n";
  body += format("<h%d>", level) + escaped(text) + format("</h%d>\n", level);
}

void Page::paragraph(const std::string& text) {
  markdown += text + "\n";
  body += "<p>" + escaped(text) + "</p>\n";
}

void Page::table(const std::vector<std::vector<std::string>>& rows) {
  body += "<table class=\"figures\">\n";
  for (const auto& row : rows) {
    const bool head = &row == &rows[0];
    const std::string cell = head ? "th>" : "td>";
    body += "<tr>";
    for (const auto& text : row) markdown += "| " + text + " ", body += "<" + cell + escaped(text) + "</" + cell;
    markdown += "|\n", body += "</tr>\n";
    if (!head) continue;
    for (size_t i = 0; i < row.size(); ++i) markdown += "|---";
    markdown += "|\n";
  }
  body += "</table>\n";
}

void Page::list(const std::vector<std::string>& items) {
  markdown += "\n", body += "<ul>\n";
  for (const auto& text : items) markdown += "- " + text + "\n", body += "<li>" + escaped(text) + "</li>\n";
  body += "</ul>\n";
}

std::string Page::html(const std::string& title) const {
  return "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" + escaped(title) + "</title>\n" +
         page_style() + "</head><body>\n" + body + "</body></html>\n";
}

}  // namespace qfm
