#!/usr/bin/env bash
# Takes `tools/device-report all` through its dry run, then, with that run's figures given back by stand-ins for the
# programs, through what can go wrong on a GPU machine.
#   tests/tools/device_report.sh ROOT [BUILD [PROGRAM]]     BUILD: a tree of a host-CUDA build; without one the dry run makes its
#   own. PROGRAM: an optimised qfm, where there is one, for whole models, which a sanitized one would take minutes for.
set -euo pipefail
root=$(cd "$1" && pwd)
command -v python3 >/dev/null || { echo "skipped: no python3 to read the reports" >&2 && exit 0; }
given=()
[ $# -lt 2 ] || given=(--build "$(cd "$2" && pwd)")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work
file=gpu-fake-gpu-all
whole="build tests scores speed tune pytorch kernels comparison sanitizer"

wrong() { # what
  printf 'device_report.sh: %s\n' "$*" >&2
  tail -n 30 "$work/log" >&2
  exit 1
}
# Whether a folder's report, Markdown, JSON and archive alike, has exactly these parts, and those given as PART=STATE so.
holds() { # folder complete parts part=state...
  python3 - "$file" "$@" <<'END' || wrong "the report in $1 is not as it should be"
import json, sys, tarfile
file, folder, complete, parts, *states = sys.argv[1:]
with open(f"{folder}/{file}.json") as f: report = json.load(f)
with open(f"{folder}/{file}.md") as f: text = f.read()
assert report["dry_run"].startswith("DRY RUN: no GPU, figures mean nothing") and report["dry_run"] in text.split("\n## ")[0]
assert report["complete"] == (complete == "complete"), report["complete"]
found = {p["part"]: p for p in report["parts"]}
assert sorted(found) == sorted(parts.split()), sorted(found)
for name, part in found.items():
    assert part["state"] in ("done", "failed", "left out", "refused"), part
    assert part["state"] == "done" or part["why"], part
    assert part["seconds"] >= 0 and isinstance(part["results"], dict)
    assert f"\n## Part: {name}\n" in text and f"\n| {name} | {part['state']} |" in text, name
for name, state in (s.split("=") for s in states): assert found[name]["state"] == state, found[name]
with tarfile.open(f"{folder}/{file}.tar.gz") as archive: inside = json.load(archive.extractfile(f"{file}/report.json"))
assert complete != "complete" or inside == report
END
}
# Runs the report; its exit code must be as given.
report() { # exit_code folder options...
  local expected=$1 out=$work/$2 code=0
  shift 2
  "$root/tools/device-report" all --dry-run --out "$out" "$@" >"$work/log" 2>&1 || code=$?
  [ "$code" -eq "$expected" ] || wrong "exit code $code, not $expected: $*"
}

[ ! -x "${3:-}" ] || export QFM_MODELS_BY=$3
report 0 dry "${given[@]}" --seconds 1200 # a busy machine takes long
holds "$work/dry" complete "$whole" build=done tests=done scores=done speed=done "tune=left out" kernels=done comparison=done
unset QFM_MODELS_BY
tar -C "$work" -xzf "$work/dry/$file.tar.gz"

# --- The same with stand-ins ---

mkdir -p "$work/bin" "$work/tree/tests" "$work/python"
echo 'raise ImportError' >"$work/python/torch.py"
cat >"$work/bin/ninja" <<'END'
#!/usr/bin/env bash
exit "${NINJA:-0}"
END
# The tool runs the tests; its verdict is the one that is wanted.
cat >"$work/bin/compute-sanitizer" <<'END'
#!/usr/bin/env bash
"$5"
echo "========= ${SANITIZER:-ERROR SUMMARY: 0 errors}"
[ -z "${SANITIZER:-}" ] || exit 9
END
cat >"$work/tree/tests/qfm_cuda_tests" <<'END'
#!/usr/bin/env bash
sleep "${TESTS_SLEEP:-0}"
echo "[doctest] test cases: 3 | 3 passed | 0 failed | 0 skipped"
END
cp "$work/tree/tests/qfm_cuda_tests" "$work/tree/tests/qfm_train_tests"
cp "$work/tree/tests/qfm_cuda_tests" "$work/tree/tests/qfm_model_tests"
cat >"$work/tree/qfm" <<'END'
#!/usr/bin/env bash
[ "$1 $2" != "${FAILS:-}" ] || { echo "qfm: as it was wanted to" >&2 && exit 3; }
[ "$1 $2" != "${HANGS:-}" ] || sleep 20
case $1 in
  --version) echo "qfm stand-in" ;;
  score) echo '{"score": 50.0}' ;;
  bench)
    while [ $# -gt 1 ] && [ "$1" != -o ]; do shift; done
    cp "$FIGURES/$(basename "$2")" "$2"
    ;;
esac
END
chmod +x "$work"/bin/* "$work"/tree/qfm "$work"/tree/tests/*
export PATH=$work/bin:$PATH PYTHONPATH=$work/python FIGURES=$work/$file
tree=(--build "$work/tree")

report 0 well "${tree[@]}"
holds "$work/well" complete "$whole" speed=done "pytorch=left out" sanitizer=done

FAILS="bench model" report 1 failing "${tree[@]}"
holds "$work/failing" complete "$whole" scores=done speed=failed kernels=done comparison=done sanitizer=done

NINJA=1 report 1 unbuilt "${tree[@]}"
holds "$work/unbuilt" complete "$whole" build=failed "tests=left out" "kernels=left out" "sanitizer=left out"

TESTS_SLEEP=20 report 1 late "${tree[@]}" --seconds 16
holds "$work/late" complete "$whole" build=done tests=failed "speed=left out" "sanitizer=left out"

SANITIZER="ERROR SUMMARY: 3 errors" report 1 errors "${tree[@]}"
holds "$work/errors" complete "$whole" kernels=done sanitizer=failed
SANITIZER="Error: Device not supported" report 0 refused "${tree[@]}"
holds "$work/refused" complete "$whole" sanitizer=refused

# Killed at a moment when the kernels are being timed: what was done before stands.
HANGS="bench kernels" setsid "$root/tools/device-report" all --dry-run --out "$work/killed" "${tree[@]}" >"$work/log" 2>&1 &
killed=$!
for _ in $(seq 100); do
  sleep 0.2
  ! grep -q '"part": "comparison"' "$work/killed/$file.json" 2>/dev/null || break
done
kill -KILL -- "-$killed"
wait "$killed" 2>/dev/null || true
holds "$work/killed" cut "build tests scores speed tune pytorch comparison" speed=done

! "$root/tools/device-report" bench --dry-run >"$work/log" 2>&1 || wrong "only the stage all has a dry run"
! "$root/tools/device-report" --dry-run >"$work/log" 2>&1 || wrong "a stage must be named"
echo "the report's dry run has its $(wc -w <<<"$whole") parts; failing, late, refused, unbuilt and killed it says so"
