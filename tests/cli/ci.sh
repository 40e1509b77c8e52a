#!/bin/sh
# SPDX-License-Identifier: MIT
# tests/cli/ci.sh - the example in docs/ci.md: it runs, measures the base once, passes and fails as it should, and what it writes is
# what others read.
#   ci.sh PROGRAM SOURCE_ROOT
set -u
NIBBLE=$1 src=$2
export NIBBLE CTX=64 CHUNKS=2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
failures=0
fail() { echo "$*"; failures=$((failures + 1)); }

head -c 9000 "$src/data/eval.txt" >a.txt
tail -c 9000 "$src/data/eval.txt" >b.txt
head -c 20000 "$src/data/calibration.txt" >c.txt
# gate STATUS OUT TEXT...: how it ends.
gate() {
    want=$1 out=$2
    shift 2
    "$src/docs/ci/quality-gate.sh" "$src/data/tiny-llama" "Q8_0 Q2_K" "$out" cache "$@" >log 2>&1
    got=$?
    [ $got = "$want" ] || { fail "$out: status $got, not $want"; cat log; }
}
export CALIBRATION=c.txt
export LIMITS="--max-kl 1 --min-top1 10%"
gate 0 kept one=a.txt two=b.txt
kept=$(ls cache)
[ "$(echo "$kept" | wc -w)" = 2 ] || fail "kept between runs: $kept"
for file in junit.xml quality.md quality.html quality.json tiny-llama-Q8_0.gguf tiny-llama-Q2_K.gguf; do
    [ -s "kept/$file" ] || fail "$file was not written"
done

# The second run has other limits, and neither calibrates nor runs the base.
LIMITS="--max-kl 0.00001 --min-top1 10%"
gate 3 beyond one=a.txt two=b.txt
[ "$(ls cache)" = "$kept" ] || fail "measured again: $(ls cache)"
grep -q 'calibrat' log && fail "calibrated again"
cmp -s kept/tiny-llama-Q2_K.gguf beyond/tiny-llama-Q2_K.gguf || fail "other bytes"
[ "$(grep -c 'is above --max-kl' log)" = 4 ] || fail "not a line for each limit that is not kept"
for file in junit.xml quality.md quality.html quality.json; do [ -s "beyond/$file" ] || fail "no $file beside the verdict"; done
grep -q 'failures="2"' beyond/junit.xml || fail "JUnit's failures"

# A text that changed is another base.
echo "More." >>a.txt
gate 3 changed one=a.txt two=b.txt
[ "$(ls cache | wc -l)" = 3 ] || fail "a changed text took the old base"
# One text.
gate 3 single one=a.txt

if command -v python3 >/dev/null; then
    # shellcheck disable=SC2046 # no spaces
    python3 "$src/tests/cli/junit.py" $(ls */junit.xml) || fail "not JUnit's XML"
    "$NIBBLE" compare "$src/data/tiny-llama" beyond/tiny-llama-Q8_0.gguf --text a.txt -c 64 --chunks 2 --junit none.xml -q >/dev/null
    python3 "$src/tests/cli/junit.py" none.xml || fail "not JUnit's XML, without limits"
    for text in kept/quality.json beyond/quality.json; do
        python3 -c 'import json, sys; assert len(json.load(open(sys.argv[1]))["texts"]) == 2' $text || fail "$text"
    done
fi
# The documents call the script with what it takes.
[ "$(grep -c 'quality-gate.sh model "Q4_K_M Q5_K_M" out cache wiki=' "$src/docs/ci.md")" = 2 ] || fail "docs/ci.md"
for file in $(sed -n 's/^.*"\$out\/\([a-z.]*\)".*$/\1/p' "$src/docs/ci/quality-gate.sh"); do
    grep -q "$file\|quality\.\*" "$src/docs/ci.md" || fail "docs/ci.md does not keep $file"
done
[ "$failures" = 0 ]
