#!/bin/sh
# SPDX-License-Identifier: MIT
# The large model of the benchmarks, random, in the shape of Qwen3-0.6B: made once, and its folder printed.
#   scripts/bench-model.sh BUILD
# NIB_BENCH_DIR: where it goes (1.2 GB); BUILD/bench-model when unset.
set -eu
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
dir=${NIB_BENCH_DIR:-$build/bench-model}
model=$dir/qwen3-0.6b-shape
mkdir -p "$dir"
if [ ! -f "$model/config.json" ]; then
    echo "generating a random model of 0.5 B weights, in the shape of Qwen3-0.6B" >&2
    "$build/tests/support/make_model" --arch qwen3 --layers 28 --hidden 1024 --ff 3072 --heads 16 --kv-heads 8 \
        --head-dim 128 --vocab 32000 --tied --tokenizer data/tiny-llama "$model.part"
    mv "$model.part" "$model"
fi
echo "$model"
