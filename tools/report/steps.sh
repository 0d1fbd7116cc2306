# What is built, checked and measured, shared by the stages and the one report of everything. Figures go to $figures-*.

# A dry run takes the smallest of everything: scores and kernels by CUDA's kernels on the CPU, whole models, which would
# take minutes so, by the CPU's own.
set_sizes() {
  arch=vit-small batch=256 photos=(tools/demo_photos) only_kernels="" noise=(--match matched --adversarial 4) models_on=cuda
  models_by=""
  sanitized_few=(
    "-tc=AdamW on CUDA equals*,attention on CUDA: more keys*,gemm on CUDA: weight gradients*,gemm on CUDA serves*,repeated vectors on CUDA*,permutations on CUDA*,residual_layernorm*,functions of rows on CUDA*,nearest_match on CUDA*,the noise on CUDA*,crop_normalise on CUDA*"
  )
  gpu_tests=(
    "qfm_cuda_tests"
    "qfm_train_tests|-sf=*_cuda_test.cpp"
    "qfm_model_tests|-sf=*op_test.cpp|-tc=CUDA*"
  )
  [ -n "$dry" ] || return 0
  arch=vit-tiny batch=1 photos=(tools/demo_photos/cid22_1029604.jpg --crops center) only_kernels=layernorm noise=(--match gaussian) models_on=cpu
  models_by=${QFM_MODELS_BY:-}
  sanitized_few=("-tc=AdamW on CUDA equals*")
  gpu_tests=(
    "qfm_cuda_tests|-tc=AdamW on CUDA equals*"
    "qfm_train_tests|-tc=a step on CUDA that is not finite*"
    "qfm_model_tests|-tc=Philox*"
  )
}

# --- Build ---

configuration() { # CMake's options, a line each
  if [ -n "$dry" ]; then
    printf '%s\n' -DCMAKE_BUILD_TYPE=Release -DQFM_TESTS=ON -DQFM_CUDA=host
  else
    printf '%s\n' -DCMAKE_BUILD_TYPE=Release -DQFM_TESTS=ON -DQFM_CUDA=device -DQFM_WERROR=OFF "-DQFM_CUDA_ARCHITECTURES=$chip-real" \
      -UQFM_CUBLAS_INCLUDE -UQFM_CUDNN_INCLUDE "${cuda_parts[@]}" $optional
  fi
}

# Ends the stage where it does not work.
build_for_gpu() { # targets
  local limit code=0 options=()
  limit=$(left)
  if [ -n "$given_build" ]; then
    # shellcheck disable=SC2086
    timeout --kill-after=5 "$limit" ninja -C "$build" -j "$jobs" $1 2>&1 | tee "$log" >&2 || code=$?
  else
    mapfile -t options < <(configuration)
    timeout --kill-after=5 "$limit" bash -c 'source "$0" && build_tree "$@"' tools/common.sh "$build" "$1" -- \
      "${options[@]}" 2>&1 | tee "$log" >&2 || code=$?
  fi
  [ "$code" -ne 0 ] || return 0
  printf '```\n'
  tail -n 30 "$log"
  printf '```\n\n'
  if [ "$code" -eq 124 ]; then
    fail "the build was not finished in $limit s: run the stage again, it goes on from there"
  else
    fail "the build ended with exit code $code"
  fi
  exit 1
}

# --- Tests ---

# One line, and what a binary said that failed. Sets p, f and s as doctest_counts does.
say_tests() { # binary log exit_code
  local blind
  doctest_counts "$2" "$3"
  blind=$(grep -ac 'skipped: no GPU' "$2" || true)
  printf '%-24s %4d passed, %d failed, %d skipped\n' "$1" "$p" "$f" "$s"
  case $3 in 124 | 137) echo "    not finished in its time" ;; esac
  [ "$blind" -eq 0 ] || { echo "    $blind tests saw no GPU, where nvidia-smi does" && f=$((f + 1)); }
  [ "$f" -eq 0 ] || tail -n 40 "$2"
}

# --- Scores ---

scores() { # device dtype: of the photos, into $work
  : >"$work/$1-$2"
  shown 60 "$build/qfm" score --json --quiet --device "$1" --dtype "$2" "${photos[@]}" || return 0
  sed -nE 's/.*"score": *(-?[0-9.]+).*/\1/p' "$log" >"$work/$1-$2"
}
worst_difference() { # dtype; "null" where a score is missing
  local expected=1
  [ ! -d "${photos[0]}" ] || expected=$(ls "${photos[0]}"/*.jpg | wc -l)
  paste "$work/cpu-f32" "$work/cuda-$1" 2>/dev/null | awk -v photos="$expected" '
    NF == 2 {d = $1 - $2; if (d < 0) d = -d; if (d > worst) worst = d; n++}
    END {if (n == photos) printf "%.4f", worst; else printf "null"}'
}
judge_difference() { # dtype allowed
  local difference
  difference=$(worst_difference "$1")
  tell "Scores of the shipped model on the demo photos, GPU in ${1^^} against CPU in F32: worst difference $difference, allowed $2."
  result "worst_score_difference_$1" "$difference"
  awk -v d="$difference" -v allowed="$2" 'BEGIN {exit !(d != "null" && d <= allowed + 0)}' ||
    fail "scores in ${1^^}: $difference apart, allowed $2"
}
compare_scores() {
  scores cpu f32
  scores cuda f32
  scores cuda bf16
  judge_difference f32 0.05
  judge_difference bf16 0.3
}

# --- Sanitizer ---

# What a tool's output means. Clean is only what it calls so itself after tests that ran on the GPU.
verdict() { # exit code of the tool
  local p f s refusal
  local cannot='Device not supported|[Pp]ermission denied|[Oo]peration not permitted|[Ii]nsufficient (privileges|permissions)'
  doctest_counts "$log" "$1"
  refusal=$(grep -aEm1 "$cannot" "$log" || true)
  if [ "$1" -eq 0 ] && [ "$p" -gt 0 ] && [ "$f" -eq 0 ] && ! grep -aq 'skipped: no GPU' "$log" &&
    grep -aqE '(ERROR SUMMARY: 0 errors|RACECHECK SUMMARY: 0 hazards)' "$log"; then
    echo "clean, $p tests"
  elif [ -n "$refusal" ]; then echo "refused by this machine: ${refusal#========= }"
  elif grep -aqE 'SUMMARY: [1-9]' "$log"; then echo "found errors"
  elif [ "$1" -eq 124 ] || [ "$1" -eq 137 ]; then echo "not finished in its time"
  elif grep -aq 'skipped: no GPU' "$log"; then echo "nothing was checked: under this tool the tests see no GPU"
  else echo "no verdict: exit code $1, $p tests passed, $f failed"
  fi
}
# Sets said to the verdict of a tool.
sanitize() { # tool limit filters...
  local tool=$1 limit=$2
  shift 2
  say "compute-sanitizer $tool"
  said="left out"
  if ! command -v compute-sanitizer >/dev/null; then
    said="refused by this machine: no compute-sanitizer"
  elif run "$limit" compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/tests/qfm_cuda_tests" "$@"; then
    said=$(verdict "$code")
  fi
  case $said in
    clean*) tell "$tool: $said" && worked=yes ;;
    refused*) refuse "$tool: $said" ;;
    "left out") ;;
    *) fail "$tool: $said" ;;
  esac
}

# --- Speed ---

# The peaks are measured by the first report, and hold for those after it.
qfm_bench() { # limit what report options...
  local limit=$1 what=$2 report=$3 on=cuda program=$build/qfm peaks=()
  shift 3
  case $what in model | train) on=$models_on program=${models_by:-$program} ;; esac
  [ "$what" = tune ] || [ "$on" != "$models_on" ] || [ ! -s "$figures-model.json" ] || peaks=(--peaks "$figures-model.json")
  shown "$limit" "$program" bench "$what" --device "$on" --dtype bf16 --arch "$arch" --quiet "${peaks[@]}" \
    -o "$figures-$report" "$@"
}
speed_of_model() {
  qfm_bench 60 model model.json --batch "$batch" || true
  [ -n "$dry" ] || qfm_bench 30 model model-1.json --batch 1 || true
}
speed_of_training() { # rows
  qfm_bench 60 train train.json --batch "$batch" --only "$1" || true
  qfm_bench 60 train method.json --batch "$batch" --select on "${noise[@]}" --only select || true
}
tune() {
  # Of a build without any there is nothing to choose.
  if "$build/qfm" --version | grep -qE 'cublaslt [0-9]|cudnn [0-9]'; then
    qfm_bench 60 tune choices.txt --batch "$batch" || true
  else
    leave_out "nothing to tune: neither cuBLASLt nor cuDNN is here"
  fi
}
longest=0 # that the kernels took
kernels() { # own or vendor, which time
  local began=$SECONDS
  say "kernels, $1"
  if [ "$(left)" -le "$longest" ]; then
    leave_out "no time left: the kernels by $1 once more"
    return
  fi
  tell "With QFM_KERNELS=$1:"
  QFM_KERNELS=$1 qfm_bench 60 kernels "kernels-$1-$2.json" --only "$only_kernels" || true
  [ $((SECONDS - began)) -le "$longest" ] || longest=$((SECONDS - began))
}
against_pytorch() { # limit
  local tuned=() limit
  if ! python3 -c 'import sys, torch; sys.exit(sys.argv[1] == "cuda" and not torch.cuda.is_available())' $models_on 2>/dev/null; then
    leave_out "no PyTorch for $models_on on this machine: not compared"
    return
  fi
  say "the same in PyTorch"
  [ ! -e "$figures-choices.txt" ] || tuned=(--choices "$figures-choices.txt")
  [ ! -s "$figures-model.json" ] || tuned+=(--peaks "$figures-model.json")
  limit=$(at_most "$1")
  shown "$limit" env PYTHONUNBUFFERED=1 python3 tools/bench/pytorch_peer.py --qfm "$build/qfm" "${tuned[@]}" --device $models_on \
    --arch "${arch#vit-}" --batch "$batch" --seconds $((limit - 15)) -o "$figures-pytorch.json" || true
}
side_by_side() { # stage
  if ! command -v python3 >/dev/null; then
    leave_out "no python3: the figures are not set side by side"
  elif ! python3 tools/bench/compare.py "$figures" "$(facts "$1")}" 2>&1 | both; then
    fail "the figures could not be set side by side"
  fi
}
