#!/bin/sh
# SPDX-License-Identifier: MIT
# tests/cli/gates.sh - every limit of compare, just kept and just not: the exit status, and a line that names it.
#   gates.sh PROGRAM DATA
# The figures that limits are set around come from the JSON, so a limit on the wrong figure shows.
set -u
nibble=$1 data=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
failures=0
fail() { echo "$*"; failures=$((failures + 1)); }

# Both as files of what they predict: a comparison is then reading them.
"$nibble" quantize "$data/tiny-llama" -o q.gguf --type q2_k -q >/dev/null || exit 1
for model in "$data/tiny-llama" q.gguf; do
    "$nibble" compare "$model" --text "$data/eval.txt" -c 128 --chunks 4 --kl-divergence-base "$(basename "$model").kld" -q >/dev/null || exit 1
done
"$nibble" compare tiny-llama.kld q.gguf.kld --json -q | tr -d '\t\n ' >json

# figure KEY: its value among the model's; of the surest tokens for "sure".
figure() {
    if [ "$1" = sure ]; then
        grep -o '{"from":0.9,[^}]*}' json | grep -o '"top_share":[0-9.e-]*'
    else
        grep -o "\"$1\":[0-9.e-]*" json | tail -n 1
    fi | cut -d : -f 2
}
near() { awk -v v="$1" -v f="$2" 'BEGIN { printf "%.9g", v * f }'; }

# limit OPTION VALUE STATUS
limit() {
    "$nibble" compare tiny-llama.kld q.gguf.kld "--$1" "$2" >/dev/null 2>err
    got=$?
    [ $got = "$3" ] || fail "--$1 $2: status $got, not $3"
    case $3 in
    3) grep -q -- "--$1 $2\$" err && [ "$(grep -c warning err)" = 1 ] || fail "--$1 $2: no line of its own: $(cat err)" ;;
    *) grep -q warning err && fail "--$1 $2: $(cat err)" ;;
    esac
}
# both OPTION VALUE: beyond it and within.
both() {
    case $1 in
    max-*) limit "$1" "$(near "$2" 0.999)" 3; limit "$1" "$(near "$2" 1.001)" 0 ;;
    min-*) limit "$1" "$(near "$2" 1.001)" 3; limit "$1" "$(near "$2" 0.999)" 0 ;;
    esac
}
while read -r option key; do
    value=$(figure "$key")
    [ -n "$value" ] || fail "no $key in the JSON"
    both "$option" "$value"
    echo "$option" >>tried
done <<'END'
max-kl kl
max-kl-median kl_median
max-kl-90 kl_p90
max-kl-99 kl_p99
max-kl-999 kl_p99.9
max-kl-max kl_max
max-kl-reverse kl_reverse
max-rms-dp rms_dp
min-top1 same_top
min-top2 same_top_2
min-top3 same_top_3
min-top4 same_top_4
min-top5 same_top_5
min-top1-sure sure
END
change=$(awk -v c="$(figure nll_change)" 'BEGIN { printf "%.9g", exp(c) - 1 }')
limit max-ppl-increase "$(awk -v c="$change" 'BEGIN { printf "%.9g", c - 0.0001 }')" 3
limit max-ppl-increase "$(awk -v c="$change" 'BEGIN { printf "%.7f%%", 100 * c + 0.01 }')" 0
echo max-ppl-increase >>tried
"$nibble" compare --help | sed -n 's/^ *--\(m[axin]*-[a-z0-9-]*\) .*/\1/p' | sort >options
sort tried | cmp -s - options || fail "limits that were not tried, or are not there: $(sort tried | comm -3 - options)"
[ "$failures" = 0 ]
