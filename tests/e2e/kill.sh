#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# SIGKILL at any moment of quantize leaves the target, a file or a folder, absent or as it was, and nothing that the
# next run trips over or leaves lying about.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
RANDOM=1 # the moments are the same in every run, as far as clocks are

"$build/tests/support/make_model" --arch llama --layers 4 --hidden 512 --ff 1536 --heads 8 --kv-heads 4 \
    --vocab 8192 --tokenizer "$tiny" "$work/model"
mkdir "$work/out"

# run OPTION...: write $target as the ${options[@]} say.
run() { "$nibble" quantize "$work/model" -o "$target" "${options[@]}" --threads 1 --quiet "$@" >/dev/null; }
same() { diff -r "$1" "$2" >/dev/null 2>&1; }

# killed_run OPTION...: kill a run after $from to 150 % of the time that one takes.
killed=0 finished=0
killed_run() {
    local after=$((took * from / 100 + RANDOM % (took * (150 - from) / 100 + 1)))
    if timeout -s KILL "$(printf '%d.%03d' $((after / 1000)) $((after % 1000)))" "$nibble" quantize "$work/model" \
        -o "$target" "${options[@]}" --threads 1 --quiet "$@" >/dev/null 2>&1; then
        finished=$((finished + 1))
    else
        killed=$((killed + 1))
    fi
} 2>/dev/null

# survives RUNS NAME OLD OPTION...: so many killed runs without a target, and with OLD there.
survives() {
    local runs=$1 start i
    target=$work/out/$2
    cp -r "$3" "$work/old"
    options=("${@:4}")
    start=$(date +%s%N)
    run
    took=$((($(date +%s%N) - start) / 1000000))
    mv "$target" "$work/whole"
    for ((i = 1; i <= runs; i++)); do
        killed_run
        if [ -e "$target" ]; then
            same "$target" "$work/whole" || fail "run $i left a broken target"
            rm -r "$target"
        fi
    done
    run || fail "the next run does not work"
    same "$target" "$work/whole" || fail "the next run wrote something else"
    expect_only "$work/out" "$2"

    for ((i = 1; i <= runs; i++)); do
        rm -rf "$target"
        cp -r "$work/old" "$target"
        killed_run --force
        same "$target" "$work/old" || same "$target" "$work/whole" || fail "forced run $i left a broken target"
    done
    run --force || fail "the next forced run does not work"
    same "$target" "$work/whole" || fail "the next forced run wrote something else"
    expect_only "$work/out" "$2"
    echo "$2: $killed runs killed, $finished finished before, one takes $took ms"
    [ "$killed" -gt 0 ] || fail "no run was killed"
    killed=0 finished=0
    rm -r "$target" "$work/whole" "$work/old"
}

echo old >"$work/file"
from=0
survives 10 m.gguf "$work/file" --type q4_k_m
mkdir "$work/folder"
echo '{"old": true}' >"$work/folder/config.json"
from=60 # it is written at the end
survives 10 folder "$work/folder" --format gptq
finish
