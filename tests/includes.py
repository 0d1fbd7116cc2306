#!/usr/bin/env python3
"""Every name that a file uses comes from a header that it, or a header of ours that it includes, asks for: no standard one
is there only because one standard library happens to include another header, none of ours only because a compiler that
reads several files as one has read the header for another. Prints what is missing."""
import os, re, subprocess, sys

NAMES = {
    "algorithm": r"std::(?:ranges::)?(?:sort|stable_sort|find|find_if|any_of|all_of|none_of|count|count_if|copy|copy_n|fill|fill_n"
                 r"|min|max|minmax|clamp|max_element|min_element|minmax_element|reverse|rotate|lower_bound|upper_bound|nth_element"
                 r"|partial_sort|transform|equal|includes|unique|remove_if|generate|set_difference|adjacent_find|mismatch)\s*[(<]",
    "array": r"std::array\b", "atomic": r"std::(atomic|memory_order)\w*\b", "charconv": r"std::(from|to)_chars\b",
    "bit": r"std::(bit_cast|countr_zero|popcount|bit_width|bit_ceil|has_single_bit|countl_zero)\b", "cerrno": r"\berrno\b",
    "chrono": r"std::chrono\b", "condition_variable": r"std::condition_variable\b",
    "cmath": r"std::(sqrt|exp|log|pow|abs|isnan|isfinite|isinf|l?lround|round|floor|ceil|tanh|erf|cos|sin|log2|log10|exp2|hypot"
             r"|nearbyint|fma|fmod|nextafter|ldexp|copysign)\b",
    "csignal": r"std::(signal|raise)\b", "cstdlib": r"std::(getenv|abort|exit|free|malloc|realloc|calloc)\b",
    "cstring": r"std::(memcpy|memset|memcmp|strlen|strcmp|strerror|memmove)\b", "deque": r"std::deque\b",
    "filesystem": r"std::filesystem\b", "fstream": r"std::[io]?fstream\b", "functional": r"std::(function|less|greater|hash)\b",
    "initializer_list": r"std::initializer_list\b", "limits": r"std::numeric_limits\b", "map": r"std::(multi)?map\b",
    "memory": r"std::(unique_ptr|shared_ptr|make_unique|make_shared|weak_ptr)\b",
    "mutex": r"std::(mutex|lock_guard|unique_lock|scoped_lock|once_flag|call_once)\b", "new": r"std::(bad_alloc|nothrow|align_val_t)\b",
    "numbers": r"std::numbers\b", "numeric": r"std::(accumulate|iota|inner_product|partial_sum|reduce|gcd|midpoint)\b",
    "optional": r"std::(optional|nullopt)\b", "set": r"std::(multi)?set\b", "source_location": r"std::source_location\b",
    "span": r"std::span\b", "sstream": r"std::[io]?stringstream\b", "string": r"std::(string|to_string|stoi|stod|getline)\b",
    "string_view": r"std::string_view\b", "thread": r"std::(j?thread|this_thread)\b", "tuple": r"std::(tuple|tie|make_tuple|apply)\b",
    "type_traits": r"std::(is_same_v|conditional_t|remove_\w+_t|decay_t|integral_constant|bool_constant|true_type|false_type)\b",
    "utility": r"std::(pair|move|forward|exchange|swap|make_pair)\b", "variant": r"std::(variant|visit|holds_alternative|get_if)\b",
    "vector": r"std::vector\b",
}
# The standard itself promises these names with other headers too.
ALSO = {"utility": {"map", "vector", "tuple", "memory", "algorithm", "functional", "string", "optional"},
        "initializer_list": {"vector", "string", "map", "algorithm", "array", "set"}, "type_traits": {"utility", "tuple"},
        "string": {"sstream", "fstream"}}


def code(path):
    with open(path) as file:
        text = re.sub(r"//[^\n]*", "", file.read())
    return re.sub(r'R"\((.|\n)*?\)"|"(?:\\.|[^"\\\n])*"', '""', re.sub(r'#include "([^"]+)"', r"#include <\1>", text))


def headers(path, seen):
    """What `path` includes, through headers of ours."""
    found = set()
    for name in re.findall(r"#include <([^>]+)>", code(path)):
        if name in seen:
            continue
        found.add(name)
        if os.path.exists(name):
            seen.add(name)
            found |= headers(name, seen)
    return found


# What a header declares in its namespace, whose lines are not indented; and what a file declares for itself anywhere.
DECLARED = re.compile(r"^(?:template ?<.*> ?)?(?:(?:struct|class|enum class|enum)(?: alignas\(\w+\))? (\w+)|using (\w+) ="
                      r"|(?:inline )?constexpr [\w:<>, ]+ (k[A-Z]\w*)|#define (QFM_\w+))", re.M)
USED = re.compile(r"(?<![\w.>:~])(k?[A-Z]\w*)\b")
OWN = re.compile(r"\b(?:struct|class|using|typename|int|int64_t|size_t|auto|double|float|uint8_t) (\w+)|, (k[A-Z]\w*) = ")
ENUMERATORS = re.compile(r"\benum [^{;]*\{([^}]*)\}")


def words(pattern, text):
    return {word for match in pattern.finditer(text) for word in match.groups() if word}


def own_missing(path, text, homes):
    """Names of ours in `text` that no header which `path` reaches mentions, each with one that declares it."""
    reached = headers(path, set())
    for name in sorted((words(USED, text) & set(homes)) - words(OWN, text) - set(re.findall(r"\w+", " ".join(ENUMERATORS.findall(text))))):
        if path not in homes[name] and not reached & mentions[name]:
            yield name, min(homes[name])


os.chdir(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
files = [os.path.join(folder, name) for top in ("engine", "kernels", "layers", "models", "train", "tools", "tests")
         for folder, _, names in os.walk(top) for name in names if name.endswith((".h", ".cpp", ".cu", ".cuh"))]
missing, homes, mentions = 0, {}, {}  # the headers that declare a name of ours, and those in which its word stands
headers_of_ours = {path: code(path) for path in files if path.endswith((".h", ".cuh"))}
for path, text in headers_of_ours.items():
    for name in words(DECLARED, text):
        homes.setdefault(name, set()).add(path)
    for word in set(re.findall(r"\w+", text)):
        mentions.setdefault(word, set()).add(path)
for path in sorted(files):
    text, have = code(path), headers(path, set())
    for header, names in NAMES.items():
        if header not in have and not ALSO.get(header, set()) & have and (use := re.search(names, text)):
            missing += 1
            print(f"{path}: {use[0]} without <{header}>")
    for name, header in own_missing(path, text, homes):
        missing += 1
        print(f"{path}: {name} without {header}")
print(f"{len(files)} files, {missing} headers missing")
sys.exit(missing > 0)
