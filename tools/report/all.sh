# The report of everything: parts in the order of what a short run would miss most, each with its share of the time. After
# every part the report and its archive are written anew, so that a run cut short leaves what it had.

# Part and seconds that are kept for it. What earlier parts leave over is the next one's too.
plan=(build:70 tests:90 scores:10 speed:25 tune:30 pytorch:200 kernels:60 comparison:6 sanitizer:60)

part_build() {
  log=$figures-build.log
  build_for_gpu "qfm qfm_cuda_tests qfm_train_tests qfm_model_tests"
  log=$work/log
  shown 20 "$build/qfm" --version
  result commit "$(quoted "$QFM_COMMIT")"
}

# All at once, the kernels' first: most of a test's time is on one thread.
part_tests() {
  local entry words binary passed=0 failed=0 skipped=0
  for entry in "${gpu_tests[@]}"; do
    IFS='|' read -ra words <<<"$entry"
    binary=${words[0]}
    printf '  running %s\n' "$entry" >&2
    {
      status=0
      timeout --kill-after=5 "$(at_most 300)" "$build/tests/$binary" "${words[@]:1}" >"$figures-$binary.log" 2>&1 || status=$?
      echo "$status" >"$work/$binary.status"
    } &
  done
  wait
  printf '```\n'
  for entry in "${gpu_tests[@]}"; do
    binary=${entry%%|*}
    say_tests "$binary" "$figures-$binary.log" "$(cat "$work/$binary.status")" >"$log"
    both <"$log"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    result "$binary" "{\"passed\": $p, \"failed\": $f, \"skipped\": $s}"
  done
  printf '```\n\n'
  tell "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ] || fail "tests: $passed passed, $failed failed, $skipped skipped"
}

part_scores() { compare_scores; }

part_speed() {
  speed_of_model
  speed_of_training "loader excluded"
  local what
  for what in model model-1 train method; do result_file $what "$figures-$what.json"; done
}

part_tune() {
  tune
  [ ! -s "$figures-choices.txt" ] || result choices "$(quoted "$(cat "$figures-choices.txt")")"
}

part_pytorch() {
  against_pytorch 600
  result_file pytorch "$figures-pytorch.json"
}

# Own, vendor, own, vendor: a clock that changes shows.
part_kernels() {
  local time prefer
  for time in 1 2; do
    for prefer in own vendor; do kernels $prefer $time; done
  done
  for time in 1 2; do
    for prefer in own vendor; do result_file $prefer-$time "$figures-kernels-$prefer-$time.json"; done
  done
}

part_comparison() {
  side_by_side all
  result_file comparison "$figures-bench.json"
}

part_sanitizer() {
  local said
  sanitize memcheck 600 "${sanitized_few[@]}"
  results="\"memcheck\": $(quoted "$said")"
}

# --- The report ---

dry_words="DRY RUN: no GPU, figures mean nothing"

summary() {
  local entry part
  printf '| part | state | seconds | |\n|---|---|---|---|\n'
  for entry in "${plan[@]}"; do
    part=${entry%:*}
    [ ! -e "$parts/$part.row" ] || cat "$parts/$part.row"
  done
  printf '\n'
}
as_markdown() {
  local entry part
  heading all
  [ -z "$dry" ] || printf '**%s.**\n\n' "$dry_words"
  [ -n "$complete" ] || printf 'The run is under way, or was cut short.\n\n'
  summary
  for entry in "${plan[@]}"; do
    part=${entry%:*}
    [ ! -e "$parts/$part.md" ] || { printf '## Part: %s\n\n' "$part" && cat "$parts/$part.md"; }
  done
}
as_json() {
  local entry part comma=""
  facts all
  [ -z "$dry" ] || printf ', "dry_run": "%s"' "$dry_words"
  printf ', "complete": %s, "seconds": %d, "parts": [' "${complete:-false}" $((SECONDS - began))
  for entry in "${plan[@]}"; do
    part=${entry%:*}
    [ ! -e "$parts/$part.json" ] || { printf '%s\n' "$comma" && cat "$parts/$part.json" && comma=,; }
  done
  printf ']}\n'
}
# Each file is the old one or the new one at any moment.
write_report() {
  as_markdown >"$everything/report.md"
  as_json >"$everything/report.json"
  tar -C "$work" -czf "$out/$name-all.tar.gz.part" "$(basename "$everything")"
  cp "$everything/report.md" "$out/$name-all.md.part"
  cp "$everything/report.json" "$out/$name-all.json.part"
  local kind
  for kind in md json tar.gz; do mv "$out/$name-all.$kind.part" "$out/$name-all.$kind"; done
}

# On the way out of a part, wherever that is.
end_part() {
  local code=$? state why
  [ "$code" -eq 0 ] || [ ${#failures[@]} -gt 0 ] || fail "the part ended early, with exit code $code"
  if [ ${#failures[@]} -gt 0 ]; then state=failed
  elif [ ${#refusals[@]} -gt 0 ]; then state=refused
  elif [ -n "$worked" ] || [ ${#omissions[@]} -eq 0 ]; then state="done"
  else state="left out"
  fi
  why=$(printf '%s; ' "${failures[@]}" "${refusals[@]}" "${omissions[@]}" | tr '\n|' '  ')
  why=${why%; }
  printf '{"part": "%s", "state": "%s", "seconds": %d, "why": %s, "results": {%s}}' \
    "$part" "$state" $((SECONDS - part_began)) "$(quoted "$why")" "$results" >"$parts/$part.json"
  printf '| %s | %s | %d | %s |\n' "$part" "$state" $((SECONDS - part_began)) "$why" >"$parts/$part.row"
}

# Runs a part, or says why not: then nothing is left of it but that.
do_part() { # part
  local part=$1 part_began=$SECONDS reason=""
  [ -z "$unbuilt" ] || reason="nothing was built"
  [ "$(left)" -ge 5 ] || reason="no time left"
  say "$part, at most $(left) s"
  # Not in a condition: there, bash would go on after a command that fails.
  set +e
  (
    set -e
    trap end_part EXIT
    if [ -n "$reason" ]; then leave_out "$reason"; else "part_$part"; fi
  ) >"$parts/$part.md"
  set -e
}

report_all() { # seconds
  local began=$SECONDS entry part later=0 unbuilt="" complete="" failed=0
  local end=$((SECONDS + $1 - 8)) # to end a command that does not obey, and to write
  everything=$work/$name-all parts=$work/parts
  figures=$everything/$name
  mkdir -p "$everything" "$parts"
  rm -f "$out/$name-all".{md,json,tar.gz}{,.part}
  for entry in "${plan[@]}"; do later=$((later + ${entry#*:})); done
  write_report
  for entry in "${plan[@]}"; do
    part=${entry%:*}
    later=$((later - ${entry#*:}))
    deadline=$((SECONDS + ${entry#*:}))
    [ $((end - later)) -lt "$deadline" ] || deadline=$((end - later))
    [ "$deadline" -lt "$end" ] || deadline=$end
    [ "$part" != build ] || deadline=$end
    do_part "$part"
    [ "$part" != pytorch ] || do_part comparison # of what there is so far, and once more with the kernels
    if grep -q '| failed |' "$parts/$part.row"; then
      failed=1
      [ "$part" != build ] || unbuilt=yes
    fi
    write_report
  done
  complete=true
  write_report
  return $failed
}
