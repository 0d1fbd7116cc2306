#include "engine/pytorch/pickle.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_map>

#include "engine/base/error.h"

namespace qfm {
namespace {

using Kind = PickleValue::Kind;

constexpr uint64_t kMaxBytes = 64 << 20;
constexpr size_t kMaxValues = 1'000'000, kMaxName = 256, kMaxArguments = 16, kMaxRank = 8, kBuffer = 1 << 16;

// Bytes of a file one after the other.
class Bytes {
 public:
  Bytes(const InputFile& file, ByteRange range)
      : file_(file), at_(range.begin), end_(range.begin + std::min(range.size(), kMaxBytes)), cut_(end_ < range.end) {}

  void take(void* to, uint64_t count) {
    QFM_CHECK(count <= end_ - at_, file_.path(), cut_ ? ": a pickle of more than 64 MiB" : ": pickle: truncated");
    char* p = static_cast<char*>(to);
    while (count > 0) {
      if (at_ < begin_ || at_ >= begin_ + filled_) fill();
      const uint64_t from = at_ - begin_, n = std::min(count, filled_ - from);
      std::memcpy(p, buffer_.data() + from, n);
      p += n, at_ += n, count -= n;
    }
  }
  // Little endian.
  uint64_t number(size_t bytes) {
    std::array<unsigned char, 8> b{};
    take(b.data(), bytes);
    uint64_t value = 0;
    for (size_t i = bytes; i-- > 0;) value = value << 8 | b[i];
    return value;
  }
  std::string text(uint64_t count) {
    QFM_CHECK(count <= end_ - at_, file_.path(), ": pickle: truncated");  // before memory is taken
    std::string result(count, '\0');
    take(result.data(), count);
    return result;
  }
  std::string line() {
    std::string result;
    for (char c; take(&c, 1), c != '\n'; result += c)
      QFM_CHECK(result.size() < kMaxName, file_.path(), ": pickle: a name of more than ", kMaxName, " bytes");
    return result;
  }
  uint64_t at() const { return at_; }

 private:
  void fill() {
    begin_ = at_, filled_ = std::min<uint64_t>(kBuffer, end_ - at_);
    file_.read(begin_, buffer_.data(), filled_);
  }
  const InputFile& file_;
  uint64_t at_, end_, begin_ = 0, filled_ = 0;
  bool cut_;
  std::array<char, kBuffer> buffer_;
};

bool may_be_named(const std::string& name) {
  static const std::array<const char*, 5> callable{"collections.OrderedDict", "torch._utils._rebuild_tensor_v2",
                                                   "torch._utils._rebuild_tensor", "torch._utils._rebuild_parameter",
                                                   "torch.Size"};
  const bool storage =
      name.starts_with("torch.") && name.ends_with("Storage") && name.find('.', 6) == std::string::npos;
  return storage || std::find(callable.begin(), callable.end(), name) != callable.end();
}

class Machine {
 public:
  Machine(const InputFile& file, ByteRange range) : path_(file.path()), bytes_(file, range) {}

  Pickle run() {
    while (step(static_cast<unsigned char>(bytes_.number(1)))) {}
    check(marks_.empty() && stack_.size() == 1, "damaged");
    result_.top = stack_.back(), result_.end = bytes_.at();
    return std::move(result_);
  }

 private:
  void check(bool ok, const char* reason) const { QFM_CHECK(ok, path_, ": pickle: ", reason); }

  uint32_t made(PickleValue value) {
    QFM_CHECK(result_.values.size() < kMaxValues, path_, ": pickle: more than ", kMaxValues, " values");
    result_.values.push_back(std::move(value));
    return static_cast<uint32_t>(result_.values.size() - 1);
  }
  void push(PickleValue value) { stack_.push_back(made(std::move(value))); }
  void push_number(int64_t number) { push({Kind::Number, number, {}, {}}); }
  void push_text(uint64_t bytes) { push({Kind::Text, 0, bytes_.text(bytes), {}}); }
  void push_sequence(std::vector<uint32_t> items) { push({Kind::Sequence, 0, {}, std::move(items)}); }

  uint32_t pop() {
    check(stack_.size() > (marks_.empty() ? 0 : marks_.back()), "takes from an empty stack");
    const uint32_t place = stack_.back();
    stack_.pop_back();
    return place;
  }
  std::vector<uint32_t> pop(size_t count) {
    std::vector<uint32_t> items(count);
    for (size_t i = count; i-- > 0;) items[i] = pop();
    return items;
  }
  std::vector<uint32_t> pop_to_mark() {
    check(!marks_.empty(), "has no mark");
    std::vector<uint32_t> items = pop(stack_.size() - marks_.back());
    marks_.pop_back();
    return items;
  }
  PickleValue& top(Kind kind) {
    check(stack_.size() > (marks_.empty() ? 0 : marks_.back()), "takes from an empty stack");
    PickleValue& value = result_.values[stack_.back()];
    check(value.kind == kind, "fills what is no list or dict");
    return value;
  }
  void append(const std::vector<uint32_t>& items, Kind to) {
    check(to != Kind::Dict || items.size() % 2 == 0, "a key has no value");
    std::vector<uint32_t>& all = top(to).items;
    all.insert(all.end(), items.begin(), items.end());
  }

  void store(uint64_t place) {
    check(!stack_.empty() && memo_.size() < kMaxValues, "keeps too many values, or none");
    memo_[place] = stack_.back();
  }
  void load(uint64_t place) {
    const auto found = memo_.find(place);
    check(found != memo_.end(), "asks for what was not kept");
    stack_.push_back(found->second);
  }

  const PickleValue& at(uint32_t place) const { return result_.values[place]; }
  [[noreturn]] void refuse(const std::string& what) const { QFM_FAIL(path_, ": pickle asks for ", what, ": refused"); }
  void push_name(const std::string& module, const std::string& name) {
    const std::string full = module + "." + name;
    if (!may_be_named(full)) refuse(full);
    push({Kind::Name, 0, full, {}});
  }
  void push_long(uint64_t bytes) {
    check(bytes <= 8, "a number of more than 64 bits");
    uint64_t value = bytes_.number(bytes);
    if (bytes > 0 && bytes < 8 && value >> (8 * bytes - 1)) value -= uint64_t{1} << 8 * bytes;  // below zero
    push_number(static_cast<int64_t>(value));
  }

  bool step(int opcode);
  void persistent();
  void reduce();
  void build();
  void tensor(const std::vector<uint32_t>& arguments);
  void ordered_dict(const std::vector<uint32_t>& arguments);
  bool numbers(const PickleValue& v) const {
    return v.kind == Kind::Sequence && v.items.size() <= kMaxRank &&
           std::all_of(v.items.begin(), v.items.end(), [&](uint32_t i) { return at(i).kind == Kind::Number; });
  }

  const std::string path_;
  Bytes bytes_;
  Pickle result_;
  std::vector<uint32_t> stack_;
  std::vector<size_t> marks_;  // heights of the stack
  std::unordered_map<uint64_t, uint32_t> memo_;
  size_t copied_ = 0;  // from lists to dicts: the same list may be named again and again
};

// One instruction; false: the last one. Names as in Python's pickletools.
bool Machine::step(int opcode) {
  switch (opcode) {
    case 0x80: check(bytes_.number(1) <= 5, "of an unknown protocol"); break;     // PROTO
    case 0x95: bytes_.number(8); break;                                           // FRAME
    case '.': return false;                                                       // STOP
    case '(': marks_.push_back(stack_.size()); check(marks_.size() < kMaxValues, "too many marks"); break;  // MARK
    case '0': pop(); break;                                                       // POP
    case '1': pop_to_mark(); break;                                               // POP_MARK
    case 'N': push({}); break;                                                    // NONE
    case 0x88: push_number(1); break;                                             // NEWTRUE
    case 0x89: push_number(0); break;                                             // NEWFALSE
    case 'J': push_number(static_cast<int32_t>(bytes_.number(4))); break;         // BININT
    case 'K': push_number(static_cast<int64_t>(bytes_.number(1))); break;         // BININT1
    case 'M': push_number(static_cast<int64_t>(bytes_.number(2))); break;         // BININT2
    case 0x8a: push_long(bytes_.number(1)); break;                                // LONG1
    case 'G': bytes_.number(8), push({}); break;                                  // BINFLOAT: nothing here wants one
    case 'X': case 'T': push_text(bytes_.number(4)); break;                       // BINUNICODE, BINSTRING
    case 0x8c: case 'U': push_text(bytes_.number(1)); break;                      // SHORT_BINUNICODE, SHORT_BINSTRING
    case 0x8d: push_text(bytes_.number(8)); break;                                // BINUNICODE8
    case ')': case ']': push_sequence({}); break;                                 // EMPTY_TUPLE, EMPTY_LIST
    case 0x85: push_sequence(pop(1)); break;                                      // TUPLE1
    case 0x86: push_sequence(pop(2)); break;                                      // TUPLE2
    case 0x87: push_sequence(pop(3)); break;                                      // TUPLE3
    case 't': case 'l': push_sequence(pop_to_mark()); break;                      // TUPLE, LIST
    case 'a': append(pop(1), Kind::Sequence); break;                              // APPEND
    case 'e': append(pop_to_mark(), Kind::Sequence); break;                       // APPENDS
    case '}': push({Kind::Dict, 0, {}, {}}); break;                               // EMPTY_DICT
    case 's': append(pop(2), Kind::Dict); break;                                  // SETITEM
    case 'u': append(pop_to_mark(), Kind::Dict); break;                           // SETITEMS
    case 'q': store(bytes_.number(1)); break;                                     // BINPUT
    case 'r': store(bytes_.number(4)); break;                                     // LONG_BINPUT
    case 0x94: store(memo_.size()); break;                                        // MEMOIZE
    case 'h': load(bytes_.number(1)); break;                                      // BINGET
    case 'j': load(bytes_.number(4)); break;                                      // LONG_BINGET
    case 'c': {                                                                   // GLOBAL
      const std::string module = bytes_.line();
      push_name(module, bytes_.line());
      break;
    }
    case 0x93: {                                                                  // STACK_GLOBAL
      const auto words = pop(2);
      check(at(words[0]).kind == Kind::Text && at(words[1]).kind == Kind::Text, "a name that is no text");
      push_name(at(words[0]).text.substr(0, kMaxName), at(words[1]).text.substr(0, kMaxName));
      break;
    }
    case 'Q': persistent(); break;                                                // BINPERSID
    case 'R': reduce(); break;                                                    // REDUCE
    case 'b': build(); break;                                                     // BUILD
    default: refuse(concat("instruction ", opcode));
  }
  return true;
}

// ("storage", type, key, device, elements[, view])
void Machine::persistent() {
  const PickleValue& id = at(pop());
  const auto item = [&](size_t i) -> const PickleValue& { return at(id.items[i]); };
  check(id.kind == Kind::Sequence && id.items.size() >= 5 && item(0).text == "storage" && item(1).kind == Kind::Name &&
            item(1).text.ends_with("Storage") && item(2).kind == Kind::Text && item(4).kind == Kind::Number &&
            item(4).number >= 0,
        "what stands beside it is no storage");
  check(id.items.size() == 5 || item(5).kind == Kind::None, "a storage that is part of another");
  push({Kind::Storage, item(4).number, item(2).text, {id.items[1]}});
}

// What a name makes of its arguments: only those of may_be_named, and those by their meaning, not by their code.
void Machine::reduce() {
  const uint32_t given = pop(), called = pop();
  check(at(called).kind == Kind::Name && at(given).kind == Kind::Sequence, "calls what has no name");
  const std::string name = at(called).text;
  check(at(given).items.size() <= kMaxArguments, "a call with too many arguments");
  const std::vector<uint32_t> arguments = at(given).items;
  if (name == "collections.OrderedDict") return ordered_dict(arguments);
  if (name == "torch._utils._rebuild_tensor_v2" || name == "torch._utils._rebuild_tensor") return tensor(arguments);
  check(!arguments.empty(), "a call without arguments");
  const Kind kind = at(arguments[0]).kind;
  if (name == "torch._utils._rebuild_parameter" && kind == Kind::Tensor) return stack_.push_back(arguments[0]);
  if (name == "torch.Size" && kind == Kind::Sequence) return stack_.push_back(arguments[0]);
  refuse("a call of " + name);
}

void Machine::tensor(const std::vector<uint32_t>& arguments) {
  check(arguments.size() >= 4 && at(arguments[0]).kind == Kind::Storage && at(arguments[1]).kind == Kind::Number &&
            numbers(at(arguments[2])) && numbers(at(arguments[3])) &&
            at(arguments[2]).items.size() == at(arguments[3]).items.size(),
        "a tensor without storage, size or stride");
  push({Kind::Tensor, 0, {}, {arguments.begin(), arguments.begin() + 4}});
}

void Machine::ordered_dict(const std::vector<uint32_t>& arguments) {
  PickleValue dict{Kind::Dict, 0, {}, {}};
  if (!arguments.empty()) {
    check(at(arguments[0]).kind == Kind::Sequence, "a dict of what is no list of pairs");
    check((copied_ += at(arguments[0]).items.size()) <= kMaxValues, "too many values");
    for (const uint32_t pair : at(arguments[0]).items) {
      check(at(pair).kind == Kind::Sequence && at(pair).items.size() == 2, "a dict of what is no list of pairs");
      dict.items.insert(dict.items.end(), at(pair).items.begin(), at(pair).items.end());
    }
  }
  push(std::move(dict));
}

// A state_dict has versions of its modules as an attribute, which nothing here wants.
void Machine::build() {
  pop();
  top(Kind::Dict);
}

}  // namespace

const PickleValue* Pickle::find(const PickleValue& dict, const std::string& key) const {
  if (dict.kind != Kind::Dict) return nullptr;
  for (size_t i = dict.items.size(); i >= 2; i -= 2) {
    const PickleValue& k = values[dict.items[i - 2]];
    if (k.kind == Kind::Text && k.text == key) return &values[dict.items[i - 1]];
  }
  return nullptr;
}

Pickle read_pickle(const InputFile& file, ByteRange range) { return Machine(file, range).run(); }

}  // namespace qfm
