#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Divergences from llama.cpp's own log-probabilities, F16 against Q8_0 and Q4_K_M, within 2 % of what is computed from them
# directly: by way of llama.cpp's base files, which are 16 bits for 16 nats. And its file of the F16 model says what ours says.
#
#   kld.sh SOURCE_ROOT BUILD_ROOT
set -euo pipefail
src=$1 build=$2
nibble=$build/nibble here=$src/tests/interop
. "$here/npm.sh"
npm_install "$here" "$build/interop-npm"

work=$(mktemp -d "$build/kld-XXXXXX")
trap 'rm -rf "$work"' EXIT
ctx=128 chunks=4
head -c 12000 "$src/data/eval.txt" >"$work/text"
for type in f16 q8_0 q4_k_m; do
    "$nibble" quantize "$src/data/tiny-llama" -o "$work/$type.gguf" --type $type --quiet >/dev/null
    files+=("$work/$type.gguf" "$work/$type.kld")
done
echo "[$("$nibble" tokenize "$work/f16.gguf" "$work/text" --ids | tr ' ' ,)]" >"$work/tokens"
node "$build/interop-npm/kld.mjs" $ctx $chunks "$work/tokens" "${files[@]}" >"$work/theirs"

# figure KEY FILE: its values in a comparison's JSON, one a line.
figure() { tr -d '\t\n ' <"$2" | grep -o "\"$1\":[0-9.e-]*" | cut -d : -f 2; }
"$nibble" compare "$work/f16.kld" "$work/q8_0.kld" "$work/q4_k_m.kld" --json --quiet >"$work/json"
paste -d ' ' <(figure kl "$work/json") <(figure kl_max "$work/json") <(figure same_top "$work/json") \
    <(figure nll "$work/json" | tail -n +2) >"$work/ours"
echo "divergence, largest, same top, loss: ours, theirs"
paste -d ' ' "$work/ours" "$work/theirs" >"$work/table"
cat "$work/table"
awk '
    function off(a, b) { return a / b - 1 > 0 ? a / b - 1 : 1 - a / b }
    NF != 8 || off($1, $5) > 0.02 || off($2, $6) > 0.02 || off($3, $7) > 0.001 || off($4, $8) > 0.001 { bad = 1 }
    END { exit bad || NR != 2 }' "$work/table" || { echo "more than 2 % apart"; exit 1; }

# F16 weights are the same numbers in both programs; llama.cpp rounds activations to F16 before each product.
"$nibble" compare "$work/f16.kld" "$work/f16.gguf" --text "$work/text" --ctx $ctx --chunks $chunks --max-kl 0.00001 --quiet
