#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A batch of six outputs: the bytes of each alone, in less than 2.5 times the time of the most expensive of them; killed at
# any moment and taken up again, the same bytes; a disk that is full for one.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
RANDOM=1 # the moments are the same in every run, as far as clocks are
cd "$work"

ctx=128 samples=40
names=(i1 i2 o1 o2 o3 p)
declare -A options=(
    [i1]='"type": "q4_k_m", "imatrix": true'
    [i2]='"type": "q3_k_m", "imatrix": true'
    [o1]='"type": "q4_k_s", "method": "gptq", "no-propagate": true'
    [o2]='"type": "q3_k_m", "method": "gptq", "no-propagate": true'
    [o3]='"format": "gptq", "bits": 4, "group-size": 64, "method": "gptq", "no-propagate": true'
    [p]='"type": "q3_k_m", "method": "gptq"')
declare -A alone=(
    [i1]='--type q4_k_m --imatrix out/im.gguf' [i2]='--type q3_k_m --imatrix out/im.gguf'
    [o1]='--type q4_k_s --no-propagate' [o2]='--type q3_k_m --no-propagate'
    [o3]='--format gptq --bits 4 --group-size 64 --no-propagate' [p]='--type q3_k_m')

list=
for n in "${names[@]}"; do list="$list${list:+, }{\"output\": \"out/$n\", ${options[$n]}}"; done
cat >jobs.json <<RECIPE
{"model": "$tiny", "folder": "out",
 "calibration": {"text": "$src/data/calibration.txt", "ctx": $ctx, "samples": $samples, "imatrix": "out/im.gguf"},
 "outputs": [$list]}
RECIPE
# Into $ms: processor time of what this shell has run, in milliseconds; other work on the machine does not count.
used() {
    times >"$work/times"
    ms=$(awk 'NR == 2 { split($1, u, "[ms]"); split($2, s, "[ms]"); printf "%d", 60000 * (u[1] + s[1]) + 1000 * (u[2] + s[2]) }' times)
}
batch() { "$nibble" batch jobs.json --threads 1 --quiet "$@" >table 2>err; }
same() { diff -r "$1" "$2" >/dev/null 2>&1; }

used && before=$ms
batch || fail "the batch failed: $(cat table err)"
used && took=$((ms - before))

most=0
mkdir single
for n in "${names[@]}"; do
    gptq=()
    [[ $n == i* ]] || gptq=(--method gptq --text "$src/data/calibration.txt" --ctx $ctx --samples $samples)
    used && before=$ms
    # shellcheck disable=SC2086
    "$nibble" quantize "$tiny" -o "single/$n" ${alone[$n]} "${gptq[@]}" --threads 1 --quiet >/dev/null
    used && one=$((ms - before))
    [ "$one" -gt "$most" ] && most=$one
    same "out/$n" "single/$n" || fail "$n is not what quantize makes alone"
done
echo "six outputs in $took ms, the most expensive alone in $most ms: $(awk "BEGIN { printf \"%.2f\", $took / $most }") times"
holds "$took < 2.5 * $most" || fail "too slow"
expect_only out i1 i2 im.gguf o1 o2 o3 p

# Killed at ten moments, each time taken up; what is there then is whole.
mv out whole
rm .jobs.json.nibble-batch
killed=0
for ((i = 0; i < 10; i++)); do
    after=$((RANDOM % (took / 3 + 1)))
    { timeout -s KILL "$(printf '%d.%03d' $((after / 1000)) $((after % 1000)))" \
        "$nibble" batch jobs.json --resume --threads 1 --quiet >/dev/null 2>&1 || killed=$((killed + 1)); } 2>/dev/null
    for f in out/*; do
        [ ! -e "$f" ] || same "$f" "whole/${f#out/}" || fail "after kill $i $f is broken"
    done
done
[ "$killed" -gt 0 ] || fail "no run was killed"
batch --resume || fail "the last run does not work: $(cat table err)"
same out whole || fail "after $killed kills the outputs differ"
expect_only out i1 i2 im.gguf o1 o2 o3 p
echo "$killed runs killed"

# What is finished is kept, what has changed is told of, what is gone is made again.
batch --resume
[ "$(grep -c kept table)" = 6 ] || fail "what is finished should be kept: $(cat table)"
rm out/i1
printf x | dd of=out/i2 bs=1 seek=700000 conv=notrunc 2>/dev/null
batch --resume && fail "a file that somebody changed was taken for finished"
grep -q "^out/i2 .*is not as this batch left it" table || fail "should say that it changed: $(cat table)"
[ "$(grep -c kept table)" = 4 ] || fail "the others are kept: $(cat table)"
batch --resume --force || fail "--force replaces it: $(cat table)"
same out whole || fail "what was made again differs"

# A full disk costs the outputs that it has no room for.
(
    trap '' XFSZ
    ulimit -f 1800 # KiB: two are larger
    rm -r out .jobs.json.nibble-batch
    status=0
    batch || status=$?
    [ $status = 1 ] || fail "status $status instead of 1"
    grep -q "failed: .*File too large" table || fail "should say why: $(cat table)"
    grep -q "made" table || fail "one output's failure stopped the others: $(cat table)"
    finish
) || fail "full disk"
batch --resume || fail "with room again: $(cat table)"
same out whole || fail "with room again the outputs differ"
finish
