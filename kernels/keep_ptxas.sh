#!/bin/sh
# Compiler launcher for nvcc -Xptxas=-v: runs the command and keeps what ptxas said of each kernel (registers, spills,
# shared memory) beside the object as OBJECT.ptxas, for tools/code-budget. All else is passed on.
object=
previous=
for word; do
  [ "$previous" != -o ] || object=$word
  previous=$word
done
said=$(mktemp)
"$@" 2>"$said"
code=$?
if [ -n "$object" ]; then
  grep -E '^ptxas info|bytes stack frame' "$said" >"$object.ptxas" || rm -f "$object.ptxas"
fi
grep -vE '^ptxas info|bytes stack frame' "$said" >&2
rm -f "$said"
exit $code
