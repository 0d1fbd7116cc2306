# Runs commands within the time that is left and tells how they went: Markdown on standard output, the same on the screen.

facts() { # stage: the beginning of a JSON object
  printf '{"stage": "%s", "device": "%s", "driver": "%s", "date": "%s", "commit": "%s", "command": "tools/device-report %s"' \
    "$1" "$gpu" "$driver" "$(date -u +%F)" "$QFM_COMMIT" "$1$dry_option"
}
heading() { # stage
  printf '# %s: %s\n\n%s, driver %s, nvcc %s, %s, commit %s, by `tools/device-report %s`. %s\n\n' "$name" "$1" "$gpu" "$driver" \
    "$nvcc_version" "$(date -u +%F)" "$QFM_COMMIT" "$1$dry_option" "$found"
}
# A JSON string of it, in ASCII.
quoted() {
  printf '"%s"' "$(tr '\t' ' ' <<<"$*" | LC_ALL=C tr -cd '\n\40-\176' | sed 's/[\\"]/\\&/g' |
    awk '{printf "%s%s", between, $0; between = "\\n"}')"
}

# Standard input, into the report and on the screen.
both() {
  local line
  while IFS= read -r line || [ -n "$line" ]; do
    printf '%s\n' "$line"
    printf '%s\n' "$line" >&2
  done
}
tell() { printf '%s\n\n' "$*" | both; }

# How a stage, or a part of the report, went.
failures=() refusals=() omissions=() results="" worked=""
fail() { failures+=("$*") && tell "**Failed**: $*"; }
refuse() { refusals+=("$*") && tell "Refused: $*"; }
leave_out() { omissions+=("$*") && tell "Left out, $*"; }
result() { results+="${results:+, }$(quoted "$1"): $2" && worked=yes; } # key JSON
result_file() { [ ! -s "$2" ] || result "$1" "$(cat "$2")"; }           # key file

left() { echo $((deadline - SECONDS)); }
at_most() { # limit: it, or what is left if that is less; 0 would be no limit to `timeout`
  local most=$(($1 < $(left) ? $1 : $(left)))
  echo $((most > 1 ? most : 1))
}

# Runs a command for at most LIMIT seconds and no longer than there is time left: its output in a code block, on the
# screen and in $log, its exit code in $code (124: its time was up). False where there is no time to begin.
run() { # limit command...
  local limit
  limit=$(at_most "$1")
  shift
  if [ "$limit" -lt 5 ]; then
    leave_out "no time left: \`$*\`"
    return 1
  fi
  code=0
  printf '```\n$ %s\n' "$*"
  timeout --kill-after=5 "$limit" "$@" 2>&1 | tee "$log" | both || code=$?
  printf '```\n\n'
}
# The same, where anything but 0 is a failure. False where it did not work.
shown() { # limit command...
  run "$@" || return 1
  shift
  case $code in
    0) worked=yes && return 0 ;;
    124 | 137) fail "\`$*\` was not finished in its time" ;;
    *) fail "\`$*\` ended with exit code $code" ;;
  esac
  return 1
}
