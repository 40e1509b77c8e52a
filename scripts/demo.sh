#!/bin/sh
# SPDX-License-Identifier: MIT
# Quantize the demonstration model to several GGUF types and print what each costs.
#   scripts/demo.sh PROGRAM
# Files go to a scratch folder that is removed at the end.
set -eu
program=$1
cd "$(dirname "$0")/.."
model=data/tiny-llama text=data/eval.txt ctx=256
# Many short parallel steps: threads that wait should sleep, not spin, where the processors are shared.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' INT TERM

# The first value of a key of JSON on standard input.
value() { sed -n "s/.*\"$1\":[[:space:]]*\"\{0,1\}\([^\",]*\).*/\1/p" | head -n 1; }

# Prints "perplexity error", both as JSON has them.
measure() {
    "$program" perplexity "$1" --text $text --ctx $ctx --json --quiet >"$scratch/ppl.json"
    echo "$(value perplexity <"$scratch/ppl.json") $(value error <"$scratch/ppl.json")"
}

# row NAME METHOD BITS BITS-INNER BYTES "PPL ERROR"; the first row is what the others are compared with.
row() {
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$5" "$6" "${base:-$6}" | awk -F'\t' '{
        split($6, p, " "); split($7, b, " ")
        change = $6 == $7 ? "" : sprintf("%+8.3f  %+6.2f %%", p[1] - b[1], (p[1] / b[1] - 1) * 100)
        printf "%-13s %-10s %8s %8s %6.2f MB  %7.3f +/- %.3f  %s\n",
            $1, $2, $3 == "" ? "" : sprintf("%.2f", $3), $4 == "" ? "" : sprintf("%.2f", $4), $5 / 1e6, p[1], p[2], change
    }'
}

# quantized TYPE METHOD: plain rounding, rounding by importance, or gptq
quantized() {
    type=$1 method=$2 out=$scratch/$1-$2.gguf
    set -- "$program" quantize $model -o "$out" --type "$type" --json --quiet
    case $method in
    importance) set -- "$@" --imatrix "$scratch/stats.gguf" ;;
    gptq) set -- "$@" --method gptq --text data/calibration.txt --ctx $ctx ;;
    esac
    "$@" >"$scratch/plan.json"
    row "$type" "$method" "$(value bits_per_weight <"$scratch/plan.json")" \
        "$(value bits_per_weight_without_embeddings <"$scratch/plan.json")" "$(wc -c <"$out")" "$(measure "$out")"
}

echo "Model: $model (2.9 M parameters). Calibrating on data/calibration.txt."
"$program" calibrate $model --text data/calibration.txt --ctx $ctx -o "$scratch/stats.gguf" --quiet >"$scratch/calibrate.out"
echo "Perplexity on $text: protocol llama.cpp, context $ctx."
echo
printf '%-13s %-10s %8s %8s %9s  %-17s  %s\n' '' '' 'bits per' 'without' '' '' 'difference from'
printf '%-13s %-10s %8s %8s %9s  %-17s  %s\n' type method weight embed. 'file' perplexity 'the unquantized'
echo '------------- ---------- -------- -------- ---------  -----------------  -------------------'
weights=$(cat $model/*.safetensors | wc -c)
base=$(measure $model)
row '(unquantized)' '' 16 16 "$weights" "$base"
for type in bf16 q8_0 q6_k q5_k_m; do quantized $type rounding; done
for type in q4_k_m q4_0 q3_k_m q2_k; do
    for method in importance gptq; do quantized $type $method; done
done
cat <<'END'

The +/- is the text's: another text of this length would give another perplexity. All rows are of the same text, so
their differences are known far better than that. This model is tiny: large models lose much less to the same type.
END
