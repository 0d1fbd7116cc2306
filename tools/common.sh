# Shared by tools/build, tools/test and tools/demo: where the project is, what it needs, how to say it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
jobs=$(nproc)

say() { printf '\n== %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

needed="g++ cmake ninja-build libstb-dev libjpeg62-turbo-dev libcli11-dev nlohmann-json3-dev doctest-dev
  libmatio-dev zlib1g-dev libzip-dev libpugixml-dev libpng-dev libgif-dev libwebp-dev libtiff-dev libheif-dev libjxl-dev liblcms2-dev libutf8proc-dev"

# The commit of the sources, "-dirty" where a tracked file is not as committed; a copy that left .git behind is told by QFM_COMMIT.
commit() { git -C "$root" describe --always --dirty --abbrev=12 '--exclude=*' 2>/dev/null || echo "${QFM_COMMIT:-unknown}"; }

# Those of the given Debian packages that are not installed, each after a blank.
missing_of() {
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || printf ' %s' "$package"
  done
}

# Installs what is missing of the given Debian packages; asks for root only when something is.
install_missing() {
  local missing
  missing=$(missing_of "$@")
  [ -n "$missing" ] || return 0
  say "installing:$missing"
  local as_root=""
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "these Debian packages are missing and need root:$missing"
    as_root=sudo
  fi
  export DEBIAN_FRONTEND=noninteractive
  $as_root apt-get update -qq
  # shellcheck disable=SC2086
  $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# doctest_counts LOG EXIT_CODE: sets p, f and s, the cases that passed, failed and were skipped. One that says "skipped:
# why" has passed to doctest; a crash is one failure.
doctest_counts() {
  local line
  line=$(grep -a '^\[doctest\] test cases:' "$1" | tail -1 || true)
  p=0 f=0 s=0
  if [ -n "$line" ]; then
    f=$(sed -nE 's/.*\| *([0-9]+) failed.*/\1/p' <<<"$line") s=$(grep -ac 'skipped: ' "$1" || true)
    p=$(($(sed -nE 's/.*\| *([0-9]+) passed.*/\1/p' <<<"$line") - s))
  fi
  [ "$2" -eq 0 ] || [ "$f" -gt 0 ] || f=1
}

# build_tree FOLDER TARGETS -- CMAKE_ARGS: configures and builds, with both progress and errors in sight. In CI, whose
# compilers are known, warnings are errors; its trees are built once, so that the compiler reads several files of a
# library as one there, and their headers once.
build_tree() {
  local folder=$1 targets=$2 ci=OFF
  shift 3
  [ -z "${CI:-}" ] || ci=ON
  cmake -S "$root" -B "$folder" -G Ninja "-DQFM_WERROR=$ci" "-DCMAKE_UNITY_BUILD=$ci" "$@" >"$folder.configure.log" 2>&1 ||
    { cat "$folder.configure.log" >&2; die "configuring $folder failed"; }
  rm -f "$folder.configure.log"
  # shellcheck disable=SC2086
  ninja -C "$folder" -j "$jobs" $targets >&2
}
