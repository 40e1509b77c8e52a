#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What solving a model keeps in memory: one block's weights, its second moments, and the activations up to --memory;
# and the same bytes come out whether those stay in memory or go to a file.
#
#   memory.sh SOURCE_ROOT BUILD_ROOT [MODEL]
#
# MODEL: a folder to measure in place of the small generated one, once, with little room for activations.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
! grep -q __asan_init "$nibble" || skip "sanitizers keep memory of their own"

# The bound in bytes. With H the width, F that of the feed-forward, Q and K of all query and key heads, m the widest
# of the inputs, N the weights of the largest matrix, R = 4096 the tokens that run through a block at a time:
#   weights      4 (2 HQ + 2 HK + 3 HF)    of one block in f32
#   moments      4 (2 H^2 + Q^2 + F^2)     for the inputs of q k v, output, gate and up, down
#   drift        the same again, and 4 R (2 H + Q + F), with gptq: of those inputs, and as the original model has them, of a batch
#   solver       (4 + 8) m^2               damped moments, and their factor in f64, of one input at a time
#   batch        4 R (2 H + max(Q + 2 K, 2 F))   inputs, normed inputs, and what lies between two matrices
#   tensor       (2 + 1 + 76/32 + 18/32) N + 4 min(N, max(2^23, 1024 m))   as stored (bf16), codes, parameters (76 bytes for 32
#                                          weights), packed, and a slab of it decoded for the held-out windows
#   rescaling    4 (2 R (H + m) + 256 H + H max(Q + 2 K, 2 F))   with awq: what goes into and is to come out of a batch, one
#                                          input of it twice, a window's output, and the weights on trial of one input
#   logits       4 (2 * 32 V)              of 32 tokens by both models, for the divergence at the end
#   activations  4 H T of T tokens, of both models with gptq, else those held out twice; at most --memory
#   rest         32 MiB a thread for BLAS, which packs both sides of a product there, and 16 MiB for program, libraries,
#                text and tokenizer
threads=1 windows=32
number() { sed -n "s/.*\"$1\":[[:space:]]*\([0-9]*\).*/\1/p" "$model/config.json" | head -n 1; }
bound() {
    awk -v H="$(number hidden_size)" -v F="$(number intermediate_size)" -v heads="$(number num_attention_heads)" \
        -v kv="$(number num_key_value_heads)" -v dim="$(number head_dim)" -v V="$(number vocab_size)" -v R=4096 \
        -v threads=$threads -v kept="$1" -v method="$2" '
        function max(a, b) { return a > b ? a : b }
        function min(a, b) { return a < b ? a : b }
        function part(name, bytes) { sum += bytes; printf "  %-12s %8.1f MB\n", name, bytes / 1e6 >"/dev/stderr" }
        BEGIN {
            Q = heads * dim; K = kv * dim; m = max(H, max(Q, F)); N = H * max(Q, F)
            part("weights", 4 * (2 * H * Q + 2 * H * K + 3 * H * F))
            part("moments", 4 * (2 * H * H + Q * Q + F * F))
            if (method ~ /gptq/) part("drift", 4 * (2 * H * H + Q * Q + F * F + R * (2 * H + Q + F)))
            part("solver", 12 * m * m)
            part("batch", 4 * R * (2 * H + max(Q + 2 * K, 2 * F)))
            part("tensor", (3 + 94 / 32) * N + 4 * min(N, max(2 ^ 23, 1024 * m)))
            if (method ~ /awq/) part("rescaling", 4 * (2 * R * (H + m) + 256 * H + H * max(Q + 2 * K, 2 * F)))
            part("logits", 4 * 2 * 32 * V)
            part("activations", kept)
            part("rest", threads * 2 ^ 25 + 2 ^ 24)
            printf "%.0f\n", sum
        }'
}

# measured KEPT METHOD OPTION...: solve, hold the peak to the bound with KEPT bytes of activations, and leave it in $peak. What
# --dry-run promises is no bound but an estimate, by the same parts.
measured() {
    local kept=$1 method=$2 limit said planned command
    shift 2
    rm -rf "$work/out"
    command=("$nibble" quantize "$model" -o "$work/out" --method "$method" --text "$src/data/calibration.txt" --ctx 256
        --samples $windows --sweeps 0 --threads $threads "$@")
    planned=$("${command[@]}" --dry-run | sed -n 's/^about \([0-9]*\) MB of memory.*/\1/p')
    "$build/tests/support/peak_memory" "$work/peak" "${command[@]}" --verbose >/dev/null 2>"$work/log" ||
        { cat "$work/log"; exit 1; }
    peak=$(cat "$work/peak") limit=$(bound "$kept" "$method")
    said=$(sed -n 's/.* s, \([0-9]*\) MB of memory at most/\1/p' "$work/log")
    echo "$method $*: $peak bytes, bound $limit; the program says $said MB, and expected $planned MB"
    [ "$peak" -le "$limit" ] || fail "$method $*: more memory than the bound"
    # The program asks before it ends, and counts in other pages than the kernel's sum.
    holds "$said * 1e6 > 0.97 * $peak - 1e6 && $said * 1e6 < 1.03 * $peak + 1e6" || fail "$method $*: the program says $said MB"
    holds "$planned * 1e6 > 0.9 * $peak && $planned * 1e6 < 1.3 * $peak" || fail "$method $*: --dry-run says $planned MB"
}

if [ $# -gt 2 ]; then
    model=$3 threads=2 windows=20
    for method in gptq awq awq+gptq; do measured $((8 << 20)) $method --type q4_0 --memory 8Mi; done
    finish
    exit
fi

# Wide and thin: next to its activations everything else is small.
model=$work/model
"$build/tests/support/make_model" --arch mistral --layers 2 --hidden 1024 --ff 256 --heads 4 --kv-heads 2 --head-dim 64 \
    --vocab 2048 --tokenizer "$tiny" "$model"
kept=$((4 * 1024 * windows * 256)) held_out=$((4 * 1024 * windows / 8 * 256))
both=$((2 * kept))

# differs NAME BYTES FROM TO: peaks FROM and TO are about so many bytes apart. Each processor keeps up to max(32, 2 processors)
# pages of each kind, anonymous and of files, out of the sum that the kernel takes a peak of: in either peak.
processors=$(getconf _NPROCESSORS_CONF)
uncounted=$((2 * 2 * processors * (processors > 16 ? 2 * processors : 32) * $(getconf PAGESIZE)))
differs() {
    holds "$4 - $3 > 0.9 * $2 - $uncounted && $4 - $3 < 1.1 * $2 + $uncounted" || fail "$1: $3 and $4 bytes, not $2 apart"
}

measured $((1 << 20)) gptq --type q4_0 --memory 1Mi
little=$peak
mv "$work/out" "$work/from-file"
measured "$both" gptq --type q4_0
much=$peak
cmp "$work/out" "$work/from-file" || fail "activations from a file give another result"
differs "all in memory" "$both" "$little" "$much"
measured $((kept + held_out)) gptq --type q4_0 --memory $((both - 1))
cmp "$work/out" "$work/from-file" || fail "the original model's activations from a file give another result"
differs "no room for the original model's" $((kept - held_out)) "$peak" "$much"
measured $((kept + held_out)) gptq --type q4_0 --drift 0
much=$peak
measured "$kept" gptq --type q4_0 --drift 0 --memory $((kept + held_out - 1))
differs "no room for those held out" $held_out "$peak" "$much"
measured $((1 << 20)) gptq --type q4_0 --true-sequential --memory 1Mi
measured $((1 << 20)) gptq --format gptq --memory 1Mi
measured $((1 << 20)) awq --format awq --memory 1Mi
finish
