#!/bin/sh
# SPDX-License-Identifier: MIT
# Quantize the demonstration model to several GGUF types by several methods and print what each costs.
#   scripts/demo.sh PROGRAM
# Files go to a scratch folder that is removed at the end.
set -eu
program=$1
cd "$(dirname "$0")/.."
model=data/tiny-llama text=data/eval.txt ctx=256
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' INT TERM

# The first value of a key of JSON on standard input.
value() { sed -n "s/.*\"$1\":[[:space:]]*\"\{0,1\}\([^\",]*\).*/\1/p" | head -n 1; }

# quantized TYPE METHOD: plain rounding, rounding by importance, or gptq. Adds a line to $scratch/files:
# file, type, method, bits per weight, the same without embeddings, bytes.
quantized() {
    type=$1 method=$2 out=$scratch/$1-$2.gguf
    set -- "$program" quantize $model -o "$out" --type "$type" --json --quiet
    case $method in
    importance) set -- "$@" --imatrix "$scratch/stats.gguf" ;;
    gptq) set -- "$@" --method gptq --text data/calibration.txt --ctx $ctx ;;
    esac
    "$@" >"$scratch/plan.json"
    printf '%s\t%s\t%s\t%.2f\t%.2f\t%s\n' "$out" "$type" "$method" "$(value bits_per_weight <"$scratch/plan.json")" \
        "$(value bits_per_weight_without_embeddings <"$scratch/plan.json")" "$(wc -c <"$out")" >>"$scratch/files"
}

echo "Model: $model (2.9 M parameters), quantized with $(nproc) threads; calibrated on data/calibration.txt."
"$program" calibrate $model --text data/calibration.txt --ctx $ctx -o "$scratch/stats.gguf" --quiet >/dev/null
printf '%s\t(unquantized)\t\t16.00\t16.00\t%s\n' $model "$(cat $model/*.safetensors | wc -c)" >"$scratch/files"
for type in bf16 q8_0 q6_k q5_k_m; do quantized $type rounding; done
for type in q4_k_m q4_0 q3_k_m q2_k; do
    for method in importance gptq; do quantized $type $method; done
done

echo "Measured on $text: protocol llama.cpp, context $ctx."
cut -f 1 "$scratch/files" | sed 1d | tr '\n' '\0' |
    xargs -0 "$program" compare $model --text $text --ctx $ctx --json --quiet >"$scratch/compare.json"
awk -F'\t' '
    FILENAME == ARGV[1] { # JSON, a key on each line: "key":<tab>value
        gsub(/[{},"\[\]]/, "")
        for (i = 1; i < NF; i++) if ($i ~ /:$/) { key = $i; val = $(i + 1) }
        if (key == "model:") name = val
        found[name, key] = val
        next
    }
    FNR == 1 {
        head = "%-13s %-10s %8s %8s %8s  %-17s %-17s %s\n"
        printf "\n" head, "", "", "bits per", "without", "", "", "difference from", "KL divergence"
        printf head, "type", "method", "weight", "embed.", "MB", "perplexity", "the unquantized", "from it"
        base = found[$1, "perplexity:"]
    }
    {
        ppl = found[$1, "perplexity:"]
        change = FNR == 1 ? "" : sprintf("%+.3f  %+.2f %%", ppl - base, (ppl / base - 1) * 100)
        kl = FNR == 1 ? "" : sprintf("%.5f +/- %.5f", found[$1, "kl:"], found[$1, "kl_error:"])
        printf head, $2, $3, $4, $5, sprintf("%.2f", $6 / 1e6),
            sprintf("%.3f +/- %.3f", ppl, found[$1, "perplexity_error:"]), change, kl
    }' "$scratch/compare.json" "$scratch/files"
cat <<'END'

The perplexity's +/- is the text's: another text of this length would give another one. The divergence compares
predictions on the same text and is far steadier. This model is tiny: large models lose much less to the same type.
END
