#!/usr/bin/env bash
# Runs the README's shell blocks as a reader would type them, in a folder where their example files exist.
#   tests/tools/readme_commands.sh ROOT     ROOT/build/qfm is built
# Lines that start a whole build, demo or test run are left to the stages that run them; those on /data need a data set.
set -euo pipefail
root=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for entry in build models tools; do ln -s "$root/$entry" "$entry"; done
mkdir photos
cp "$root"/tools/demo_photos/*.jpg photos/
cp photos/cid22_1029604.jpg photo.jpg
for table in scores test; do
  echo image,score >$table.csv
  level=0
  for photo in photos/*.jpg; do level=$((level + 1)) && echo "$photo,$((1 + level % 5))" >>$table.csv; done
done

awk '/^```/ {inside = ($0 == "```sh"); next} inside' "$root/README.md" |
  grep -vE '^(tools/(demo|test|build|walk|device-report|bench)|cmake )| /data|:/data' | sed 's/[[:space:]]*#.*//' >commands.sh
[ "$(grep -c . commands.sh)" -ge 5 ] || { echo "the README has no commands" >&2; exit 1; }
# Long enough for a person, too long for a test: one epoch of one crop shows that the command line holds.
sed -i -E 's|^(build/qfm train .*)$|\1 --epochs 1 --crops-per-image 1 --batch 4|' commands.sh
while read -r line; do
  [ -n "$line" ] || continue
  bash -c "$line" >output.txt 2>&1 || { echo "failed: $line" >&2; cat output.txt >&2; exit 1; }
done <commands.sh

# The example at the top: its first lines, as they are shown, name the photos that come first, best first.
awk '/^    \$ build\/qfm score --sort / {inside = 1; sub(/^ *\$ /, ""); print >"example.sh"; next}
  inside && !/^    / {exit}
  inside && !/^    \.\.\.$/ {print}' "$root/README.md" | sed 's/^ *//' >shown.txt
shown=$(grep -c . shown.txt) || { echo "the README shows no scores" >&2; exit 1; }
bash example.sh 2>output.txt >scores.txt || { cat output.txt >&2; exit 1; }
diff <(awk '{print $NF}' shown.txt) <(head -n "$shown" scores.txt | awk '{print $NF}') >&2 ||
  { echo "the README's example names other photos, or another order" >&2; exit 1; }
sort -c -g -r scores.txt || { echo "qfm score --sort does not sort" >&2; exit 1; }
echo "$(grep -c . commands.sh) commands of the README ran, and its example's first $shown photos come first"
