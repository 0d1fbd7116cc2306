#!/bin/sh
# The accumulators of a matrix product's tile must stay in registers: fails if a multiply_tile in one of the object
# files given moves a vector to or from the stack.
for object in "$@"; do
  objdump -d --no-show-raw-insn "$object"
done | awk '
  /^[0-9a-f]+ <.*>:$/ { name = $2; if (name ~ /multiply_tile/) tiles++ }
  name ~ /multiply_tile/ && /[yz]mm/ && /\(%r[sb]p\)/ { print name, $0; spills++ }
  END {
    print tiles + 0, "tiles,", spills + 0, "spilled vectors"
    exit !(tiles && !spills)
  }'
