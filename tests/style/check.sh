#!/bin/sh
# SPDX-License-Identifier: MIT
# tests/style/check.sh - do the rules of the house hold? Prints every breach; fails when there is one.
#   check.sh ROOT COMPILER...
# Rules: a folder includes only itself and those before it; paths of includes start at the root; each header compiles
# alone; the first line is the licence; a source file FOLDER/.../NAME.c is tested by tests/FOLDER/test_NAME.c, or test_PART.c
# where NAME is PART_more, or its first comment says by what: "Tests: PATH, PATH."; no file speaks of places on somebody's machine, or leaves work undone.
set -u
root=$1
shift
cd "$root" || exit 2
breaches=$(mktemp)
trap 'rm -f "$breaches"' EXIT

sources=$(find base quant formats infer calib run report cli tests bench include -name '*.[ch]' 2>/dev/null | sort)
[ -n "$sources" ] || { echo "no sources under $root"; exit 2; }

# include direction
before=
for folder in base quant formats infer calib run report cli; do
    before="$before $folder"
    grep -rHn --include='*.[ch]' '^#include "' "$folder" 2>/dev/null | while IFS= read -r line; do
        target=${line#*\"}
        target=${target%\"*}
        if [ ! -f "$target" ]; then
            echo "$line: not a path from the root of the repository"
        else
            case " $before " in
            *" ${target%%/*} "*) ;;
            *) echo "$line: $folder/ may include only$before" ;;
            esac
        fi
    done >>"$breaches"
done

# first line, machine paths, left-over marks
# shellcheck disable=SC2086
awk 'FNR == 1 && $0 != "/* SPDX-License-Identifier: MIT */" { print FILENAME ":1: the licence line is missing" }' \
    $sources >>"$breaches"

# tests: a file of that name, or files and folders that are there
find base quant formats infer calib run report cli -name '*.c' 2>/dev/null | sort | xargs awk '
    FNR == 1 { head = ""; within = 1; next }
    !within { next }
    { line = $0; sub(/^ \* ?/, " ", line); head = head line }
    /\*\// {
        within = 0
        sub(/\. *\*\/.*/, "", head)
        print FILENAME, sub(/.* Tests: /, "", head) ? head : ""
    }' | while read -r f paths; do
    own=tests/${f%%/*}/test_${f##*/}
    part=${f##*/}
    part=tests/${f%%/*}/test_${part%%_*}.c
    [ -f "$own" ] || [ -f "$part" ] || [ -n "$paths" ] ||
        echo "$f: there is no $own, and the first comment does not end with 'Tests: PATH, PATH.'"
    for path in $(echo "$paths" | tr ',' ' '); do
        [ -e "$path" ] || echo "$f: its tests are not there: $path"
    done
done >>"$breaches"

# The words are put together here, so that this file does not find itself.
places="/wo""rk/|/ho""me/|/ro""ot/|/Use""rs/"
marks="TO""DO|FIX""ME|XX""X:|HA""CK"
set_of_texts() {
    find . -path './build*' -prune -o -path './.git' -prune -o -name node_modules -prune -o -type f \
        \( -name '*.[ch]' -o -name '*.sh' -o -name '*.md' -o -name 'meson*' -o -name Makefile -o -name '*.1' \
        -o -name '*.js' -o -name '*.case' \) -print0
}
set_of_texts | xargs -0 grep -HnE "$places" | sed 's/$/  <- a path of one machine/' >>"$breaches"
set_of_texts | xargs -0 grep -HnwE "$marks" | sed 's/$/  <- unfinished/' >>"$breaches"

# each header compiles alone
for f in $sources; do
    case $f in
    *.h) echo "#include \"$f\"" | "$@" -std=c17 -D_POSIX_C_SOURCE=200809L -I. -Wall -Wextra -fsyntax-only -xc - 2>&1 |
        sed "s|^|$f does not compile alone: |" ;;
    esac
done >>"$breaches"

cat "$breaches"
[ ! -s "$breaches" ]
