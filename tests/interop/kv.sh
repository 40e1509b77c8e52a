#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Perplexity with keys and values in few bits beside llama.cpp's with the same -ctk and -ctv on the same file, within 0.3 %.
#
#   kv.sh SOURCE_ROOT BUILD_ROOT [CHUNKS ['KEYS,VALUES ...']]
set -euo pipefail
src=$1 build=$2
nibble=$build/nibble here=$src/tests/interop
. "$here/npm.sh"
npm_install "$here" "$build/interop-npm"

work=$(mktemp -d "$build/kv-XXXXXX")
trap 'rm -rf "$work"' EXIT
ctx=256 chunks=${3:-3}
same="f32,f32 q8_0,q8_0 q5_1,q5_1 q5_0,q5_0 q4_1,q4_1 q4_0,q4_0 iq4_nl,iq4_nl"
apart="q8_0,q4_0 q8_0,f16 f16,q4_0 q4_0,q8_0 f32,iq4_nl"
pairs=${4:-$same $apart}
"$nibble" quantize "$src/data/tiny-llama" -o "$work/f16.gguf" --type f16 --quiet >/dev/null
echo "[$("$nibble" tokenize "$work/f16.gguf" "$src/data/eval.txt" --ids | tr ' ' ,)]" >"$work/tokens"

# shellcheck disable=SC2086
node "$build/interop-npm/kv.mjs" $ctx "$chunks" "$work/tokens" "$work/f16.gguf" $pairs >"$work/theirs"
for pair in $pairs; do
    "$nibble" perplexity "$work/f16.gguf" --text "$src/data/eval.txt" --ctx $ctx --chunks "$chunks" -ctk "${pair%,*}" \
        -ctv "${pair#*,}" --json --quiet | tr -d '\t\n ' | sed "s/.*\"perplexity\":\([0-9.]*\).*/$pair \1\n/"
done >"$work/ours"
echo "keys,values: perplexity of nibble, of llama.cpp"
paste -d ' ' "$work/ours" "$work/theirs" | tee "$work/table"
awk -v n="$(echo $pairs | wc -w)" '
    NF != 3 || !($2 > 1 && $2 / $3 < 1.003 && $3 / $2 < 1.003) { bad = 1 }
    END { exit bad || NR != n }' "$work/table" || { echo "more than 0.3 % apart"; exit 1; }
