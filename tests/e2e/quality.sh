#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# More bits are nearer: the root mean square difference of the text's log-probabilities from the
# unquantized model's falls from type to type. (Perplexity alone is too noisy to order the upper ones.)
set -euo pipefail
. "$(dirname "$0")/lib.sh"
echo '[]' >"$work/none.json"

logprobs() {
    "$build/tests/interop/logprobs" "$1" "$src/data/eval.txt" 512 "$work/none.json" |
        sed -n 's/^"logprob":\[\(.*\)\],$/\1/p' | tr ',' '\n'
}

logprobs "$tiny" >"$work/exact"
before=0 before_type=exact
for name in f16 q8_0 q6_k q5_k_m q4_k_m q3_k_m q2_k; do
    type=${name%_m}
    "$nibble" quantize "$tiny" -o "$work/$type.gguf" --type $name --pure --quiet >/dev/null
    distance=$(logprobs "$work/$type.gguf" | paste "$work/exact" - |
        awk '{ d = $1 - $2; s += d * d } END { printf "%.6f", NR == 511 ? sqrt(s / NR) : -1 }')
    # Expected: sqrt(12) * 2^-bits, derived in perplexity.sh; K types with their inner scales do better.
    bits=${type#q} bits=${bits%%_*}
    [ "$type" = f16 ] && expected=0.002 || expected=$(awk "BEGIN { print sqrt(12) * 2 ^ -$bits }")
    echo "$type: $distance, expected about $expected"
    holds "$distance >= 0 && $distance < 1.5 * $expected" || fail "$type is off by $distance"
    # One bit or two apart, so a factor of 2 or 4.
    [ "$type" = f16 ] || holds "$distance > 1.4 * $before" ||
        fail "$type ($distance) should be clearly farther than $before_type ($before)"
    before=$distance before_type=$type
done
finish
