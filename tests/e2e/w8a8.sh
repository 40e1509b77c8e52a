#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What a folder for INT8 engines is measured with is what they compute: its activations are rounded, and cost
# what rounding to 8 bits must.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

to_folder() { "$nibble" quantize "$tiny" -o "$work/$1" --format compressed-tensors --scheme "$@" --quiet >/dev/null; }
to_folder w8a8
to_folder w8a16 --group-size 0
mv "$work/w8a8" "$work/sym"
to_folder w8a8 --asym
"$nibble" compare "$tiny" "$work/w8a16" "$work/sym" "$work/w8a8" --text "$src/data/eval.txt" --ctx 256 --chunks 32 --json --quiet >"$work/out"
values() { sed -n "s/^.*\"$1\":[[:space:]]*\"\{0,1\}\([^\",]*\).*/\1/p" "$work/out" | paste -sd, -; }

[ "$(values activations)" = "f32,f32,int8 per token,int8 per token" ] || fail "activations: $(values activations)"

# The weights are the same. A token's step is its largest value / 127, so the error's mean square is r^2 / (12 * 127^2)
# of the values', where r is the largest over the root mean square: 3 or so for 256 normal values, up to 10 where
# a few stand out, as behind the gate. Two inputs are rounded in each of two branches of four blocks, so the
# log-probability of a token moves by d, d^2 = 16 r^2 / (12 * 127^2), and the divergence grows by d^2 / 2.
read -r grown low high <<<"$(values kl | awk -F, '{ e = 16 / (24 * 127 ^ 2)
    printf "%.6f %.6f %.6f", $2 - $1, 9 * e, 100 * e }')"
echo "divergence grows by $grown, expected $low to $high"
holds "$grown > $low && $grown < $high" || fail "divergence grows by $grown, expected $low to $high"

# With a zero point the step is (max - min) / 255, never above 2 max |x| / 255, and half of that where a token's values
# have one sign.
read -r sym asym <<<"$(values kl | awk -F, '{ print $2, $3 }')"
echo "divergence: symmetric $sym, asymmetric $asym"
holds "$asym < $sym" || fail "zero points of the inputs gain nothing"
finish
