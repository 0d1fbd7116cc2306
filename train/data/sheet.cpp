#include "train/data/sheet.h"

#include <zip.h>

#include <algorithm>
#include <pugixml.hpp>
#include <string_view>

#include "engine/base/error.h"
#include "train/data/sample_list.h"

namespace qfm {
namespace {

// A part of the workbook, unpacked. "/xl/x.xml" and "xl/x.xml" are the same part.
std::string read_part(zip_t* archive, const std::string& path, std::string name) {
  if (name.starts_with('/')) name.erase(0, 1);
  zip_stat_t stat;
  QFM_CHECK(zip_stat(archive, name.c_str(), 0, &stat) == 0 && (stat.valid & ZIP_STAT_SIZE), path,
            ": no part ", name, ": not an Excel workbook");
  QFM_CHECK(stat.size <= size_t{256} << 20, path, ": ", name, " claims ", stat.size, " bytes");
  const std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> file(zip_fopen(archive, name.c_str(), 0),
                                                               zip_fclose);
  QFM_CHECK(file, path, ": ", name, " cannot be unpacked");
  std::string text(stat.size, '\0');
  const auto got = zip_fread(file.get(), text.data(), text.size());
  QFM_CHECK(got == static_cast<zip_int64_t>(text.size()), path, ": ", name, " is damaged");
  return text;
}

// "x:row" is "row" and "r:id" is "id": which prefix a program writes for which of the few namespaces is its own choice.
struct DropPrefixes : pugi::xml_tree_walker {
  template <class Named>
  static void drop(Named named) {
    const std::string_view name = named.name();
    const size_t colon = name.find(':');
    if (colon != name.npos && !name.starts_with("xmlns")) named.set_name(std::string(name.substr(colon + 1)).c_str());
  }
  bool for_each(pugi::xml_node& node) override {
    drop(node);
    for (const pugi::xml_attribute& attribute : node.attributes()) drop(attribute);
    return true;
  }
};

// The text of a shared or inline string: plain, or in pieces of different fonts. Phonetic hints are none.
std::string text_in(const pugi::xml_node& node) {
  std::string text = node.child("t").text().get();
  for (const auto& piece : node.children("r")) text += piece.child("t").text().get();
  return text;
}

// The column of a cell: 3 for "D4"; -1 where there is no letter.
int column_of(std::string_view reference) {
  int column = 0;
  for (char c : reference) {
    if (c < 'A' || c > 'Z' || column > 100000) break;
    column = 26 * column + (c - 'A' + 1);
  }
  return column - 1;
}

}  // namespace

struct SheetReader::Workbook {
  const std::string& path;
  std::unique_ptr<zip_t, void (*)(zip_t*)> archive{nullptr, zip_discard};
  pugi::xml_document sheet;
  std::vector<std::string> shared;
  pugi::xml_node row;           // the next one
  size_t first = 0, width = 0;  // the table's columns
  std::vector<std::string> header;

  explicit Workbook(const std::string& file) : path(file) {
    int code = 0;
    archive.reset(zip_open(path.c_str(), ZIP_RDONLY, &code));
    if (archive) return;
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    const std::string reason = zip_error_strerror(&error);
    zip_error_fini(&error);
    QFM_FAIL(path, ": ", reason);
  }

  void parse(pugi::xml_document& document, const std::string& part) const {
    const std::string text = read_part(archive.get(), path, part);
    const auto result =
        document.load_buffer(text.data(), text.size(), pugi::parse_default | pugi::parse_ws_pcdata_single);
    QFM_CHECK(result, path, ": ", part, ": ", result.description(), " at byte ", result.offset);
    DropPrefixes walker;
    document.traverse(walker);
  }

  // The part that holds a sheet: from its name over the relation of its id.
  std::string part_of(const std::string& name) const {
    pugi::xml_document book, relations;
    parse(book, "xl/workbook.xml");
    parse(relations, "xl/_rels/workbook.xml.rels");
    std::string id, found;
    for (const auto& s : book.child("workbook").child("sheets").children("sheet")) {
      const std::string title = s.attribute("name").value();
      found += (found.empty() ? "" : ", ") + title;
      if (id.empty() && (name.empty() || title == name)) id = s.attribute("id").value();
    }
    QFM_CHECK(!id.empty(), path, ": no sheet ", name, " (found: ", shown(found), ")");
    for (const auto& relation : relations.child("Relationships").children("Relationship")) {
      const std::string target = relation.attribute("Target").value();
      if (relation.attribute("Id").value() == id) return target.starts_with('/') ? target : "xl/" + target;
    }
    QFM_FAIL(path, ": sheet ", name, " has no part ", id);
  }

  void read_shared() {
    if (zip_name_locate(archive.get(), "xl/sharedStrings.xml", 0) < 0) return;
    pugi::xml_document document;
    parse(document, "xl/sharedStrings.xml");
    for (const auto& entry : document.child("sst").children("si")) shared.push_back(text_in(entry));
  }

  std::string value(const pugi::xml_node& cell) const {
    const std::string type = cell.attribute("t").value(), text = cell.child("v").text().get();
    if (type == "inlineStr") return text_in(cell.child("is"));
    if (type != "s") return text;
    const size_t index = cell.child("v").text().as_uint(~0u);
    QFM_CHECK(index < shared.size(), path, ": cell ", cell.attribute("r").value(), " names text ", text,
              " of ", shared.size());
    return shared[index];
  }

  // All cells of a row from column A on; cells without a reference follow the one before.
  std::vector<std::string> cells(const pugi::xml_node& from) const {
    std::vector<std::string> texts;
    for (const auto& cell : from.children("c")) {
      const int named = column_of(cell.attribute("r").value());
      const size_t column = named < 0 ? texts.size() : static_cast<size_t>(named);
      QFM_CHECK(column < 16384, path, ": cell ", cell.attribute("r").value(), " is beyond the last column");
      if (texts.size() <= column) texts.resize(column + 1);
      texts[column] = value(cell);
    }
    return texts;
  }

  static bool empty(const std::vector<std::string>& texts) {
    return std::all_of(texts.begin(), texts.end(), [](const auto& text) { return text.empty(); });
  }

  void find_header(const std::string& mark) {
    const auto rows = sheet.child("worksheet").child("sheetData").children("row");
    pugi::xml_node top;
    for (const auto& candidate : rows) {
      const auto texts = cells(candidate);
      if (!top && !empty(texts)) top = candidate;
      if (std::none_of(texts.begin(), texts.end(), [&](const auto& text) { return lower(text) == mark; }))
        continue;
      top = candidate;
      break;
    }
    QFM_CHECK(top, path, ": the sheet is empty");
    header = cells(top);
    while (header[first].empty()) ++first;
    while (header.back().empty()) header.pop_back();
    header.erase(header.begin(), header.begin() + static_cast<ptrdiff_t>(first));
    width = header.size();
    row = top.next_sibling("row");
  }
};

SheetReader::SheetReader(const std::string& path, const std::string& sheet, const std::string& mark)
    : RowReader(path), book_(std::make_unique<Workbook>(path_)) {
  book_->parse(book_->sheet, book_->part_of(sheet));
  book_->read_shared();
  book_->find_header(mark);
}

SheetReader::~SheetReader() = default;

bool SheetReader::next(std::vector<std::string>& fields) {
  if (row_ < 0) {
    fields = book_->header;
    ++row_;
    return true;
  }
  for (; book_->row; book_->row = book_->row.next_sibling("row")) {
    fields = book_->cells(book_->row);
    fields.resize(book_->first + book_->width);
    fields.erase(fields.begin(), fields.begin() + static_cast<ptrdiff_t>(book_->first));
    if (Workbook::empty(fields)) continue;
    ++row_;
    book_->row = book_->row.next_sibling("row");
    return true;
  }
  return false;
}

}  // namespace qfm
