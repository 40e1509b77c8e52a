#!/bin/bash
# SPDX-License-Identifier: MIT
# Speed of the parts, and of whole commands, beside the machine's own limits. Prints; judges nothing.
#   scripts/bench.sh BUILD
# The codecs are held against llama.cpp's where the interop tests have installed it, or NIB_BENCH_GGML names its libggml-base.so.
# NIB_BENCH_DIR: where the generated model (1.2 GB) and the outputs go; BUILD/bench-model when unset. The model is kept.
set -eu
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
nibble=$build/nibble
model=$(scripts/bench-model.sh "$build")
dir=${model%/*}
installed=$build/interop-npm/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64/libggml-base.so
[ ! -f "$installed" ] || export NIB_BENCH_GGML="${NIB_BENCH_GGML:-$installed}"

heading() { printf '\n== %s\n' "$*"; }

# The programs in build/bench print their own tables; the machine's limits come first.
heading machine
"$build/bench/bench_machine"
for program in "$build"/bench/bench_*; do
    if [ ! -f "$program" ] || [ ! -x "$program" ] || [ "${program##*/}" = bench_machine ]; then continue; fi
    heading "${program##*/}"
    case $program in */bench_forward) set -- "$model" ;; *) set -- ;; esac
    (cd "$dir" && "$program" "$@") || echo "(failed with status $?)"
done

# timed LABEL COMMAND...: what the program says of itself at the end of --verbose
timed() {
    local label=$1
    shift
    if "$@" --verbose >"$dir/out" 2>"$dir/err"; then
        printf '%-34s %s\n' "$label" "$(tail -n 1 "$dir/err")"
    else
        printf '%-34s failed: %s\n' "$label" "$(tail -n 1 "$dir/err")"
    fi
}

heading "whole commands on a model of $(cat "$model"/*.safetensors | wc -c | awk '{printf "%.2f", $1 / 2e9}') B weights"
for type in q4_k_m q6_k q8_0 q4_0; do
    timed "quantize --type $type" "$nibble" quantize "$model" -o "$dir/$type.gguf" --type $type --force
    rm -f "$dir/$type.gguf"
done
head -c 16000 data/eval.txt >"$dir/text.txt"
timed "perplexity (context 512)" "$nibble" perplexity "$model" --text "$dir/text.txt" --protocol window --ctx 512
timed "calibrate (context 512)" "$nibble" calibrate "$model" --text "$dir/text.txt" --ctx 512 -o "$dir/stats.gguf" --force
rm -f "$dir/stats.gguf"
