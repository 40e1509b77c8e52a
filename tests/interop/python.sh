#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The Python packages gguf and safetensors, libraries of other people, decode what nibble writes: each type of GGUF
# tensor to the same bits, and the tensors of packed folders.
#
#   python.sh SOURCE_ROOT BUILD_ROOT
set -euo pipefail
src=$1 build=$2
nibble=$build/nibble tiny=$src/data/tiny-llama
. "$src/tests/interop/pip.sh"
pip_install "$src/tests/interop/requirements.txt" "$build/interop-python"
python=$build/interop-python/bin/python

work=$(mktemp -d "$build/python-XXXXXX")
trap 'rm -rf "$work"' EXIT
"$nibble" calibrate "$tiny" --text "$src/data/calibration.txt" --ctx 128 --samples 4 -o "$work/imatrix.gguf" --quiet
for type in f32 f16 bf16 q8_0 q6_k q5_k_m q5_k_s q5_1 q5_0 q4_k_m q4_k_s q4_1 q4_0 iq4_nl iq4_xs q3_k_l q3_k_m \
    q3_k_s q2_k q2_k_s; do
    file=$work/$type.gguf
    "$nibble" quantize "$tiny" -o "$file" --type $type --imatrix "$work/imatrix.gguf" --quiet >/dev/null
    "$nibble" quantize "$file" -o "$file.f32" --type f32 --quiet >/dev/null
    echo '{}' >"$work/none.json"
    printf '%s\ttiny\tgguf\t%s\t%s\t%s\t%s\n' "$type" "$type" "$file" "$tiny" "$work/none.json" >>"$work/cases"
done
"$python" "$src/tests/engines/gguf_decoders.py" "$work/cases" "$work/results"

folder() {
    "$nibble" quantize "$tiny" -o "$work/$1" --quiet "${@:2}" >/dev/null
}
folder gptq --format gptq --max-shard-size 1M
folder awq --format awq
folder w4a16 --format compressed-tensors --scheme w4a16 --asym
folder w8a8 --format compressed-tensors --scheme w8a8
"$python" "$src/tests/interop/safetensors_folders.py" "$work"/{gptq,awq,w4a16,w8a8}
