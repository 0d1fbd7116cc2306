#include "engine/pytorch/pytorch_file.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "engine/base/error.h"
#include "engine/pytorch/pickle.h"
#include "engine/pytorch/zip.h"

namespace qfm {
namespace {

using Kind = PickleValue::Kind;

// Begins the first of the bare pickles: protocol 2, the number that torch.save has there, stop.
constexpr std::string_view kLegacyMagic("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15);

struct StorageType {
  const char *name, *dtype;
  uint64_t bytes;
};
constexpr std::array kStorageTypes{
    StorageType{"torch.FloatStorage", "F32", 4}, StorageType{"torch.HalfStorage", "F16", 2},
    StorageType{"torch.BFloat16Storage", "BF16", 2}, StorageType{"torch.DoubleStorage", "F64", 8},
    StorageType{"torch.LongStorage", "I64", 8}, StorageType{"torch.IntStorage", "I32", 4},
    StorageType{"torch.ShortStorage", "I16", 2}, StorageType{"torch.CharStorage", "I8", 1},
    StorageType{"torch.ByteStorage", "U8", 1}, StorageType{"torch.BoolStorage", "BOOL", 1}};

const StorageType& type_of(const std::string& path, const Pickle& pickle, const PickleValue& storage) {
  const std::string& name = pickle[storage.items[0]].text;
  for (const StorageType& type : kStorageTypes)
    if (name == type.name) return type;
  QFM_FAIL(path, ": pickle asks for ", name, ": refused");
}

// A storage's bytes, by its key.
using Storages = std::map<std::string, ByteRange>;

bool product_within(const std::vector<int64_t>& factors, uint64_t most, uint64_t& product) {
  product = 1;
  if (std::find(factors.begin(), factors.end(), 0) != factors.end()) return product = 0, true;
  for (const int64_t f : factors) {
    if (f < 0 || static_cast<uint64_t>(f) > most / product) return false;
    product *= static_cast<uint64_t>(f);
  }
  return true;
}

// The elements from the first to the last one, both included; false: they are not within `most`.
bool extent_within(const PyTorchTensor& t, uint64_t most, uint64_t& extent) {
  extent = 1;
  for (size_t i = 0; i < t.shape.size(); ++i) {
    if (t.strides[i] < 0) return false;
    const uint64_t step = static_cast<uint64_t>(t.strides[i]), last = static_cast<uint64_t>(t.shape[i]) - 1;
    if (last > 0 && step > (most - extent) / last) return false;
    extent += step * last;
  }
  return extent <= most;
}

PyTorchTensor placed(const std::string& path, const std::string& name, const Pickle& pickle, const PickleValue& value,
                     const Storages& storages) {
  const auto fail = [&](const auto&... why) { QFM_FAIL(path, ": tensor '", name, "': ", why...); };
  const PickleValue& storage = pickle[value.items[0]];
  const StorageType& type = type_of(path, pickle, storage);
  PyTorchTensor t{type.dtype, {}, {}, 0, 0};
  for (const uint32_t i : pickle[value.items[2]].items) t.shape.push_back(pickle[i].number);
  for (const uint32_t i : pickle[value.items[3]].items) t.strides.push_back(pickle[i].number);
  const auto found = storages.find(storage.text);
  if (found == storages.end()) fail("its storage '", storage.text, "' is not there");
  const uint64_t there = found->second.size() / type.bytes,
                 offset = static_cast<uint64_t>(pickle[value.items[1]].number);
  if (found->second.size() % type.bytes != 0 || there != static_cast<uint64_t>(storage.number))
    fail("its storage has ", found->second.size(), " bytes, not ", storage.number, " elements of ", type.bytes);
  uint64_t elements, extent = 0;
  if (offset > there || !product_within(t.shape, there, elements) ||
      (elements > 0 && !extent_within(t, there - offset, extent)))
    fail("it does not lie within its storage of ", there, " elements, or has some of them more than once");
  t.begin = found->second.begin + offset * type.bytes, t.end = t.begin + extent * type.bytes;
  return t;
}

bool holds_tensors(const Pickle& pickle, const PickleValue& dict) {
  if (dict.kind != Kind::Dict) return false;
  for (size_t i = 0; i < dict.items.size(); i += 2)
    if (pickle[dict.items[i]].kind == Kind::Text && pickle[dict.items[i + 1]].kind == Kind::Tensor) return true;
  return false;
}

PyTorchContents contents(const std::string& path, const Pickle& pickle, const Storages& storages) {
  const PickleValue& top = pickle[pickle.top];
  const PickleValue* dict = holds_tensors(pickle, top) ? &top : nullptr;
  for (const char* wrapper : {"state_dict", "model", "params", "model_state_dict"})
    if (const auto* inner = pickle.find(top, wrapper); !dict && inner && holds_tensors(pickle, *inner)) dict = inner;
  QFM_CHECK(dict, path, ": holds no dict of tensors (looked at the outermost and at its state_dict, model, params)");
  PyTorchContents result;
  for (size_t i = 0; top.kind == Kind::Dict && i < top.items.size(); i += 2)
    if (const PickleValue &key = pickle[top.items[i]], &value = pickle[top.items[i + 1]];
        key.kind == Kind::Text && value.kind == Kind::Text)
      result.texts[key.text] = value.text;
  for (size_t i = 0; i < dict->items.size(); i += 2) {
    const PickleValue &key = pickle[dict->items[i]], &value = pickle[dict->items[i + 1]];
    if (key.kind != Kind::Text || value.kind != Kind::Tensor) continue;
    const PyTorchTensor tensor = placed(path, key.text, pickle, value, storages);
    QFM_CHECK(result.tensors.emplace(key.text, tensor).second, path, ": names '", key.text, "' twice");
  }
  return result;
}

// NAME/data.pkl, and a member NAME/data/KEY for each storage.
PyTorchContents read_zip(const InputFile& file) {
  const std::string kPickle = "/data.pkl";
  const auto members = zip_members(file);
  const auto main = std::find_if(members.begin(), members.end(), [&](const auto& m) {
    return m.first.ends_with(kPickle) && m.first.find('/') == m.first.size() - kPickle.size();
  });
  QFM_CHECK(main != members.end(), file.path(), ": a zip archive without data.pkl: torch.save did not write it");
  const std::string name = main->first.substr(0, main->first.size() - kPickle.size()), data = name + "/data/";
  if (const auto order = members.find(name + "/byteorder"); order != members.end()) {
    std::string text(std::min<uint64_t>(order->second.size(), 16), '\0');
    file.read(order->second.begin, text.data(), text.size());
    QFM_CHECK(text == "little", file.path(), ": its numbers are ", text, " endian, which is not read here");
  }
  Storages storages;
  for (const auto& [member, range] : members)
    if (member.starts_with(data)) storages[member.substr(data.size())] = range;
  return contents(file.path(), read_pickle(file, main->second), storages);
}

// By key, the size of an element of a storage, or 0 where a key has two.
std::map<std::string, uint64_t> element_sizes(const std::string& path, const Pickle& pickle) {
  std::map<std::string, uint64_t> sizes;
  for (const PickleValue& value : pickle.values) {
    if (value.kind != Kind::Storage) continue;
    const uint64_t bytes = type_of(path, pickle, value).bytes;
    const auto [place, fresh] = sizes.emplace(value.text, bytes);
    if (!fresh && place->second != bytes) place->second = 0;
  }
  return sizes;
}

// The keys in the order of their storages, then for each the count of its elements and these.
Storages storages_behind(const InputFile& file, const Pickle& pickle) {
  const auto sizes = element_sizes(file.path(), pickle);
  const Pickle keys = read_pickle(file, {pickle.end, file.size()});
  const auto check = [&](bool ok, const char* reason) { QFM_CHECK(ok, file.path(), ": ", reason); };
  check(keys[keys.top].kind == Kind::Sequence, "has no list of its storages");
  Storages storages;
  uint64_t at = keys.end;
  for (const uint32_t i : keys[keys.top].items) {
    const auto size = sizes.find(keys[i].text);
    check(keys[i].kind == Kind::Text && size != sizes.end() && size->second > 0, "lists a storage that no tensor has");
    std::array<unsigned char, 8> count;
    file.read(at, count.data(), count.size());
    at += count.size();
    uint64_t elements = 0;
    for (size_t b = count.size(); b-- > 0;) elements = elements << 8 | count[b];
    check(elements <= (file.size() - at) / size->second, "truncated");
    const ByteRange range{at, at + elements * size->second};
    check(storages.emplace(keys[i].text, range).second, "lists a storage twice");
    at = range.end;
  }
  return storages;
}

// Pickles of: a number, the version, the machine, the object, the keys of its storages; then the storages.
PyTorchContents read_bare(const InputFile& file) {
  std::string magic(std::min<uint64_t>(kLegacyMagic.size(), file.size()), '\0');
  file.read(0, magic.data(), magic.size());
  QFM_CHECK(magic == kLegacyMagic, file.path(), ": a pickle that torch.save did not write");
  const auto next = [&](uint64_t begin) { return read_pickle(file, {begin, file.size()}); };
  const Pickle version = next(magic.size());
  QFM_CHECK(version[version.top].number == 1001, file.path(), ": version ", version[version.top].number,
            " of torch.save's format is not known");
  const Pickle machine = next(version.end);
  const PickleValue* little = machine.find(machine[machine.top], "little_endian");
  QFM_CHECK(little && little->number == 1, file.path(), ": its numbers are not little endian, which is not read here");
  const Pickle object = next(machine.end);
  return contents(file.path(), object, storages_behind(file, object));
}

}  // namespace

bool looks_like_pytorch(const InputFile& file) {
  std::string start(std::min<uint64_t>(file.size(), 9), '\0');
  file.read(0, start.data(), start.size());
  if (start.size() == 9 && start[8] == '{') return false;  // the header of safetensors, whatever its length looks like
  return start.starts_with("PK\x03\x04") || (start.size() > 1 && start[0] == '\x80' && start[1] >= 1 && start[1] <= 5);
}

PyTorchContents read_pytorch(const InputFile& file) {
  char start = 0;
  file.read(0, &start, 1);
  return start == 'P' ? read_zip(file) : read_bare(file);
}

}  // namespace qfm
