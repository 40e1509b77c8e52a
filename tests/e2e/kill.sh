#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# SIGKILL at any moment of quantize leaves the target absent or as it was, and nothing that the next
# run trips over or leaves lying about.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
RANDOM=1 # the moments are the same in every run, as far as clocks are

"$build/tests/support/make_model" --arch llama --layers 4 --hidden 512 --ff 1536 --heads 8 --kv-heads 4 \
    --vocab 8192 --tokenizer "$tiny" "$work/model"
mkdir "$work/out"
target=$work/out/m.gguf
run() { "$nibble" quantize "$work/model" -o "$target" --type q4_k_m --threads 1 --quiet "$@" >/dev/null; }

start=$(date +%s%N)
run
took=$((($(date +%s%N) - start) / 1000000))
cp "$target" "$work/whole.gguf"
rm "$target"

# killed_run OPTION...: kill a run after 0 to 110 % of the time that one takes.
killed=0 finished=0
killed_run() {
    local after=$((RANDOM % (took * 110 / 100 + 1)))
    if timeout -s KILL "$(printf '%d.%03d' $((after / 1000)) $((after % 1000)))" \
        "$nibble" quantize "$work/model" -o "$target" --type q4_k_m --threads 1 --quiet "$@" >/dev/null 2>&1; then
        finished=$((finished + 1))
    else
        killed=$((killed + 1))
    fi
} 2>/dev/null

for i in 1 2 3 4 5 6 7 8 9 10; do
    killed_run
    if [ -e "$target" ]; then
        cmp "$target" "$work/whole.gguf" || fail "run $i left a broken target"
        rm "$target"
    fi
done
run || fail "the next run does not work"
cmp "$target" "$work/whole.gguf" || fail "the next run wrote something else"
expect_only "$work/out" m.gguf

echo old >"$work/old"
for i in 1 2 3 4 5 6 7 8 9 10; do
    cp "$work/old" "$target"
    killed_run --force
    cmp -s "$target" "$work/old" || cmp "$target" "$work/whole.gguf" || fail "forced run $i left a broken target"
done
run --force || fail "the next forced run does not work"
expect_only "$work/out" m.gguf
echo "$killed runs killed, $finished finished before, one takes $took ms"
[ "$killed" -gt 0 ] || fail "no run was killed"
finish
