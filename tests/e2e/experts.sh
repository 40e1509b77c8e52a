#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A mixture of 128 experts in the shape of Qwen3-30B-A3B, a quarter as wide and 4 blocks high: GPTQ within a bound of memory that
# has no room for the second moments of all experts, the same bytes wherever activations are kept and whenever it is killed and
# resumed, and a smaller divergence than rounding.
#
#   experts.sh SOURCE_ROOT BUILD_ROOT [full]
#
# full: as wide as Qwen3-30B-A3B, 2.4 billion weights; 5 GB of disk and an hour of processor time.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
! grep -q __asan_init "$nibble" || skip "sanitizers keep memory of their own, and are slow"

H=512 F=192 heads=4 kv=1 E=128 used=8 windows=16 ctx=256 vocab=2048 moments=(0.5 3) options=()
[ "${3:-}" != full ] || { H=2048 F=768 heads=32 kv=4 windows=18 ctx=512 moments=(60 300) options=(--sweeps 0); }
model=$work/model
"$build/tests/support/make_model" --arch qwen3moe --layers 4 --hidden $H --ff $F --heads $heads --kv-heads $kv --head-dim 128 \
    --experts $E --experts-used $used --vocab $vocab --tokenizer "$tiny" "$model"
solve=("$nibble" quantize "$model" --type q4_0 --method gptq --text "$src/data/calibration.txt" --ctx $ctx --samples $windows
    --threads 1 --quiet "${options[@]}")

# The parts of memory.sh; of experts one is in memory: its three matrices, and the moments of its two inputs.
Q=$((heads * 128)) K=$((kv * 128)) R=4096 m=$((heads * 128))
kept=$((8 << 20))
bound=$((4 * (2 * H * Q + 2 * H * K + 3 * H * F) + 4 * 2 * (2 * H * H + Q * Q + F * F) + 4 * R * (2 * H + Q)))
bound=$((bound + 12 * m * m + 4 * R * (2 * H + Q + 2 * K + E + used * 4) + 6 * H * Q + 4 * H * Q + 8 * 32 * vocab + kept + (1 << 25) + (1 << 24)))
"$build/tests/support/peak_memory" "$work/peak" "${solve[@]}" -o "$work/little.gguf" --memory 8Mi >/dev/null
peak=$(cat "$work/peak")
echo "peak $peak bytes, bound $bound; moments of all experts of a block would be $((4 * E * (H * H + F * F)))"
[ "$peak" -le "$bound" ] || fail "more memory than the bound"
[ "$bound" -lt $((4 * E * (H * H + F * F))) ] || fail "the bound proves nothing"
if [ "${3:-}" != full ]; then
    "${solve[@]}" -o "$work/much.gguf" >/dev/null
    cmp "$work/little.gguf" "$work/much.gguf" || fail "activations from a file give another result"
fi

# Killed at two moments, whenever these come; the last run is let be.
for after in "${moments[@]}"; do
    "${solve[@]}" -o "$work/killed.gguf" --resume >/dev/null 2>&1 &
    pid=$!
    sleep $after
    kill -9 $pid 2>/dev/null || true
    wait $pid 2>/dev/null || true
    rm -f "$work/killed.gguf"
done
"${solve[@]}" -o "$work/killed.gguf" --resume >/dev/null
cmp "$work/little.gguf" "$work/killed.gguf" || fail "killed and resumed, another result"

"$nibble" calibrate "$model" --text "$src/data/calibration.txt" -c $ctx --samples $windows -o "$work/im.gguf" --quiet >/dev/null
"$nibble" quantize "$model" --type q4_0 --imatrix "$work/im.gguf" -o "$work/importance.gguf" --quiet >/dev/null
"$nibble" compare "$model" "$work/importance.gguf" "$work/little.gguf" --text "$src/data/eval.txt" --protocol window --ctx $ctx \
    --chunks 8 --json --quiet >"$work/compared"
kl() { tr -d ' \t\n' <"$work/compared" | grep -o '"kl":[0-9.e-]*' | sed -n "$1p" | cut -d : -f 2; }
echo "divergence by importance $(kl 1), gptq $(kl 2)"
# Each expert saw some 220 tokens, less than half of its channels, so that little can be gained of them; attention saw all.
holds "$(kl 2) < 0.9 * $(kl 1)" || fail "gptq gains too little"
finish
