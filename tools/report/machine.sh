# What the machine has: the GPU, the headers, the vendor's libraries.

asked() { nvidia-smi --query-gpu="$1" --format=csv,noheader | head -1; }
# Sets gpu, driver, chip (of CMAKE_CUDA_ARCHITECTURES) and name (of the report's files).
find_gpu() {
  command -v nvidia-smi >/dev/null ||
    die "no nvidia-smi: this machine has no NVIDIA driver; tools/test runs the CUDA kernels on the CPU"
  gpu=$(asked name) driver=$(asked driver_version) chip=$(asked compute_cap | tr -d .) || die "nvidia-smi finds no GPU"
  [ -n "$chip" ] || die "nvidia-smi finds no GPU"
  [ "$chip" != 90 ] || chip=90a
  name=gpu-$(tr '[:upper:]' '[:lower:]' <<<"${gpu#NVIDIA }" | tr -cs '[:alnum:]\n' -)
}

# CMake's options for the libraries that are not headers alone. Nothing is installed here: such a machine is not ours.
optional_parts() {
  local base=/usr/include
  [ ! -d headers ] || base=headers
  for header in CLI/CLI.hpp nlohmann/json.hpp stb/stb_image.h doctest/doctest.h; do
    [ -e "$base/$header" ] || die "no $base/$header: run tools/fetch-headers on a Debian machine and carry headers/ here"
  done
  # shellcheck disable=SC2086
  if [ -d headers ] || [ -n "$(missing_of $needed)" ]; then
    echo -DQFM_LIBRARIES=OFF
  fi
}

# Whether the toolkit or the system has both.
in_toolkit() { # header library
  local toolkit
  toolkit=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")
  compgen -G "$toolkit/include/$1" >/dev/null || compgen -G "/usr/include/$1" >/dev/null ||
    compgen -G "/usr/include/*-linux-gnu/$1" >/dev/null || return 1
  compgen -G "$toolkit/lib*/$2" >/dev/null || compgen -G "$toolkit/targets/*/lib/$2" >/dev/null ||
    compgen -G "/usr/lib*/$2" >/dev/null || compgen -G "/usr/lib/*-linux-gnu/$2" >/dev/null
}

# The folder of NVIDIA's Python wheels that has both: nvidia/cudnn, nvidia/cu13.
wheel_with() { # header library
  python3 - "$1" "$2" 2>/dev/null <<'END' || true
import glob, nvidia, os, sys
for base in nvidia.__path__:
    for root in sorted(glob.glob(os.path.join(base, "*"))):
        if all(map(os.path.exists, (os.path.join(root, "include", sys.argv[1]), os.path.join(root, "lib", sys.argv[2])))):
            sys.exit(print(root))
END
}

# Where a library of the vendor's is, for CMake, which also has the program open it there; and in words.
cuda_parts=() found=""
look_for() { # name variable header library
  local root=${!2:-} where="with the toolkit"
  if [ -n "$root" ]; then
    where="in $root ($2)"
  elif ! in_toolkit "$3" "$4"; then
    root=$(wheel_with "$3" "$4")
    where="not found, neither with the toolkit nor in a Python wheel ($2 names its folder): own kernels only"
    [ -z "$root" ] || where="in a Python wheel, $root"
  fi
  [ -z "$root" ] || cuda_parts+=("-D$2=$root")
  found+="$1 $where. "
}
