#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# @huggingface/gguf, a reader of other people's making, sees in our files what we see.
#
#   gguf.sh SOURCE_ROOT BUILD_ROOT
set -euo pipefail
src=$1 build=$2
nibble=$build/nibble here=$src/tests/interop tiny=$src/data/tiny-llama
. "$here/npm.sh"
npm_install "$here" "$build/interop-npm"

work=$(mktemp -d "$build/gguf-XXXXXX")
trap 'rm -rf "$work"' EXIT
: >"$work/cases"

# check FILE [MORE]: a case for gguf.mjs, with our dump.
check() {
    "$build/tests/interop/gguf_dump" "$1" >"$1.json"
    printf '%s\t%s\t%s\n' "$1" "$1.json" "${2:-}" >>"$work/cases"
}

for type in f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k_m q4_k_m q5_k_m q6_k iq4_nl iq4_xs; do
    "$nibble" quantize "$tiny" -o "$work/$type.gguf" --type $type --quiet >/dev/null
    check "$work/$type.gguf" "model $tiny"
done
for arch in llama3 mistral qwen2 qwen3; do
    "$build/tests/support/make_model" --arch $arch --vocab 2560 --tokenizer "$tiny" "$work/$arch"
    "$nibble" quantize "$work/$arch" -o "$work/$arch.gguf" --type q4_k_m --quiet >/dev/null
    check "$work/$arch.gguf" "model $work/$arch"
done
"$nibble" calibrate "$tiny" --text "$src/data/calibration.txt" --ctx 256 --samples 5 -o "$work/stats.gguf" --quiet >/dev/null
check "$work/stats.gguf" "imatrix 5 256"
"$nibble" quantize "$tiny" -o "$work/calibrated.gguf" --type q4_k_m --imatrix "$work/stats.gguf" --quiet >/dev/null
check "$work/calibrated.gguf" "model $tiny"
"$nibble" quantize "$tiny" -o "$work/solved.gguf" --type q3_k_m --method gptq --text "$src/data/calibration.txt" \
    --ctx 128 --samples 16 --quiet >/dev/null
check "$work/solved.gguf" "model $tiny"

node "$build/interop-npm/gguf.mjs" "$work/cases"
