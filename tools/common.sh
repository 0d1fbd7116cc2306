# Shared by tools/build, tools/test and tools/demo: where the project is, what it needs, how to say it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
jobs=$(nproc)

say() { printf '\n== %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

needed="g++ cmake ninja-build libstb-dev libjpeg62-turbo-dev libcli11-dev nlohmann-json3-dev libdnnl-dev doctest-dev
  libmatio-dev libzip-dev libpugixml-dev"

# Installs what is missing of the given Debian packages; asks for root only when something is.
install_missing() {
  local missing=""
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
  done
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

# build_tree FOLDER TARGETS -- CMAKE_ARGS: configures and builds, with both progress and errors in sight.
build_tree() {
  local folder=$1 targets=$2
  shift 3
  cmake -S "$root" -B "$folder" -G Ninja "$@" >"$folder.configure.log" 2>&1 ||
    { cat "$folder.configure.log" >&2; die "configuring $folder failed"; }
  rm -f "$folder.configure.log"
  # shellcheck disable=SC2086
  ninja -C "$folder" -j "$jobs" $targets >&2
}
