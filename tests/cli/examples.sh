#!/bin/sh
# SPDX-License-Identifier: MIT
# tests/cli/examples.sh - every example of a help text, and every command of the documents, runs as printed.
#   examples.sh PROGRAM ROOT [DOCUMENT...]
# Of a document the blocks fenced as "sh" run, and the lines of "console" blocks that begin with "$ ". Each text gets
# an empty folder with ROOT/data in it.
set -u
root=$2
PATH=$(cd "$(dirname "$1")" && pwd):$PATH
shift 2
export PATH
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0

# run NAME: commands from standard input
run() {
    mkdir "$scratch/$1" && ln -s "$root/data" "$scratch/$1/data"
    cat >"$scratch/$1.sh"
    [ -s "$scratch/$1.sh" ] || { echo "$1: no commands found"; failures=$((failures + 1)); return; }
    (cd "$scratch/$1" && sh -eu "../$1.sh" >../out 2>&1) && return
    echo "$1: failed:"
    cat "$scratch/$1.sh"
    tail -n 5 "$scratch/out"
    failures=$((failures + 1))
}

for c in $(nibble --help | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p'); do
    nibble "$c" --help | sed -n '/^Example:/,$s/^  //p' | run "$c"
done
for document in "$@"; do
    awk '/^```/ { open = !open; kind = open ? substr($0, 4) : ""; next }
         kind == "sh" { print } kind == "console" && /^\$ / { print substr($0, 3) }' "$root/$document" |
        run "$(echo "$document" | tr / -)"
done
[ "$failures" = 0 ]
