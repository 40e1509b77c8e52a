#!/bin/sh
# SPDX-License-Identifier: MIT
# tests/cli/batch_schema.sh - the schema of recipes knows the options of quantize and compare, and no others.
#   batch_schema.sh PROGRAM SCHEMA
set -u
nibble=$1 schema=$2 failures=0
fail() { echo "$*"; failures=$((failures + 1)); }

# Options of a command, but for those that belong to a run.
options_of() {
    "$nibble" "$1" --help | sed -n 's/^  [ -][a-zA-Z ][ ,] --\([a-z0-9-]*\).*/\1/p' |
        grep -vxE 'dry-run|json|force|resume|model-card' | sort
}

# Keys of a part of the schema, whose lines are indented by so much.
keys_of() { sed -n "/^    \"$1\": {\$/,/^    }/s/^        \"\([a-z0-9-]*\)\":.*/\1/p" "$schema" | sort; }

# same PART COMMAND KEY...: its keys are the command's options and these.
same() {
    part=$1 command=$2
    shift 2
    wanted=$( (options_of "$command"; printf '%s\n' "$@") | sort -u)
    found=$(keys_of "$part")
    [ -n "$found" ] || fail "$part: no keys found"
    [ "$found" = "$wanted" ] || fail "$part: keys are" "$found" "and should be" "$wanted"
}

same output quantize preset
same evaluation compare reference
for key in $(keys_of calibration); do
    options_of quantize | grep -qx -- "$key" || fail "calibration: quantize has no --$key"
done
[ "$failures" = 0 ]
