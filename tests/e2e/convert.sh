#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A converted model predicts what the one that it was made from predicts: perplexities before and after are equal to
# 1e-6, both ways, and both are whole.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# nll MODEL: mean negative log-likelihood on a part of the demonstration text.
nll() {
    "$nibble" perplexity "$1" --text "$src/data/eval.txt" --ctx 256 --chunks 4 --json --quiet |
        sed -n 's/^.*"nll":[[:space:]]*\([-0-9.e]*\).*/\1/p'
}

# same A B: a difference of nll is a relative difference of perplexity.
same() {
    a=$(nll "$1") b=$(nll "$2")
    echo "$(basename "$1") $a, $(basename "$2") $b"
    holds "$a > 1 && $a - $b < 1e-6 && $b - $a < 1e-6" || fail "$1 has $a, $2 has $b"
    "$nibble" verify "$2" --quiet >/dev/null || fail "$2 is not whole"
}

# convert FROM TO OPTION...
convert() {
    "$nibble" convert "$work/$1" -o "$work/$2" --quiet "${@:3}" | grep '^lossless' >/dev/null || fail "$1 to $2 is not exact"
    same "$work/$1" "$work/$2"
}

"$nibble" quantize "$tiny" -o "$work/gptq" --format gptq --quiet >/dev/null
"$nibble" quantize "$tiny" -o "$work/awq" --format awq --group-size 64 --quiet >/dev/null
"$nibble" quantize "$tiny" -o "$work/w8a16" --format compressed-tensors --scheme w8a16 --quiet >/dev/null
"$nibble" quantize "$tiny" -o "$work/q4_0.gguf" --type q4_0 --pure --quiet >/dev/null

convert gptq gptq-awq --format awq
convert gptq-awq gptq-awq-ct --format compressed-tensors
convert gptq-awq-ct gptq-again --format gptq --sym
cmp "$work/gptq/model.safetensors" "$work/gptq-again/model.safetensors" || fail "gptq has come back as something else"
convert gptq gptq.gguf
convert gptq.gguf gptq-back --format gptq --group-size 128
cmp "$work/gptq/model.safetensors" "$work/gptq-back/model.safetensors" || fail "gptq has come back as something else"
convert awq awq.gguf
convert w8a16 w8a16.gguf
convert w8a16.gguf w8a16-back --format compressed-tensors --group-size 128
convert q4_0.gguf q4_0 --format gptq
convert q4_0 q4_0-back.gguf
convert awq plain --format safetensors
convert gptq gptq-hqq --format hqq
"$nibble" quantize "$tiny" -o "$work/nvfp4" --format compressed-tensors --scheme nvfp4a16 --quiet >/dev/null
convert nvfp4 nvfp4.gguf
convert nvfp4.gguf nvfp4-copy.gguf
convert nvfp4.gguf nvfp4-back --format compressed-tensors
convert nvfp4.gguf nvfp4-plain.gguf --type f32
finish
