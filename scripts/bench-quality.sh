#!/bin/bash
# SPDX-License-Identifier: MIT
# What quantizing costs: rounding to nearest, HQQ, rounding with importances, AWQ, GPTQ and both, on the demonstration model
# and on a twin that computes the same but has a few channels 20 to 60 times larger; GGUF types, groups of integers in
# GPTQ folders, NF4 and FP4 in bitsandbytes', FP8 in tiles, NVFP4, MXFP4 and MXFP8 in compressed-tensors', groups with any zero points
# in HQQ's. A type that cannot do without importances, or that HQQ has nothing to fit in,
# has no lines for methods that have none. Then 8-bit weights and activations without and with SmoothQuant. Prints; judges nothing. Takes minutes.
#   scripts/bench-quality.sh BUILD [TEXT]
# TEXT: what is measured on, data/eval.txt unless given. NIB_QUALITY_CHUNKS: windows of it (all). NIB_QUALITY_TYPES: types.
# NIB_QUALITY_METHODS: methods.
# NIB_QUALITY_W8A8: empty to leave that part out. NIB_QUALITY_CALIBRATION: what is calibrated on, data/calibration.txt unless set.
set -eu
build=$(cd "$1" && pwd)
text=${2:-$(dirname "$0")/../data/eval.txt}
text=$(cd "$(dirname "$text")" && pwd)/$(basename "$text")
cd "$(dirname "$0")/.."
nibble=$build/nibble
calibration=${NIB_QUALITY_CALIBRATION:-data/calibration.txt}
types=${NIB_QUALITY_TYPES-q4_0 q4_1 q4_k_s q3_k_s q2_k iq4_xs iq3_s iq3_xxs iq2_s iq2_xs iq1_m mxfp4 nvfp4 tq2_0 int4-g128 \
    int4-g128-asym int3-g128 int2-g64 nf4 fp4 fp8 nvfp4a16 mxfp4a16 mxfp8a16 hqq4-g64 hqq3-g64 hqq2-g64}
methods=${NIB_QUALITY_METHODS-rtn hqq importance awq gptq awq+gptq}
w8a8=${NIB_QUALITY_W8A8-yes}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' INT TERM
windows=(--ctx 256 --samples 128)

# quantized MODEL TYPE METHOD TARGET [OPTION...]
quantized() {
    local model=$1 type=$2 method=$3 target=$4
    shift 4
    case $type in
    int*)
        bits=${type#int} bits=${bits%%-*} group=${type##*-g}
        case $type in *-asym) set -- --asym "$@" ;; esac
        set -- --format gptq --bits "$bits" --group-size "${group%-asym}" "$@" ;;
    hqq*)
        bits=${type#hqq}
        set -- --format hqq --bits "${bits%%-*}" --group-size "${type##*-g}" "$@" ;;
    nf4 | fp4) set -- --format bitsandbytes --scheme "$type" "$@" ;;
    fp8) set -- --format fp8 "$@" ;;
    *a16) set -- --format compressed-tensors --scheme "$type" "$@" ;;
    *) set -- --type "$type" --pure --embedding-type bf16 "$@" ;;
    esac
    "$nibble" quantize "$model" -o "$target" --method "$method" "$@" --quiet >"$scratch/out" 2>"$scratch/why" && return
    grep -q 'needs importances\|method hqq fits' "$scratch/why" && return 1
    cat "$scratch/why" >&2
    exit 1
}

# Lines "NAME PERPLEXITY CHANGE ERROR KL ERROR SAME-TOP" of a comparison, the base first.
measured() {
    "$nibble" compare "$@" --text "$text" --protocol window --ctx 256 --quiet \
        ${NIB_QUALITY_CHUNKS:+--chunks "$NIB_QUALITY_CHUNKS"} >"$scratch/table"
    awk 'NR == 1 { print "#", $0 }
        $1 == "model" { table = 1; next }
        $1 == "KL" { table = 2; next }
        NF && table == 1 { line[++n] = $1 " " $5; if (n > 1) line[n] = line[n] " " $8 " " $10 }
        NF && table == 2 { k++; line[k + 1] = line[k + 1] " " $2 " " $4 " " $11 }
        END { for (i = 1; i <= n; i++) print line[i] }' "$scratch/table"
}

# The table of one type from "METHOD PERPLEXITY CHANGE ERROR KL ERROR SAME" lines; the first is the base.
report() {
    awk -v type="$1" '
        $1 == "base" { base = $2; next }
        { ppl[$1] = $2; kl[$1] = $5
          printf "%-14s %-16s %9.3f  %+6.2f +/- %4.2f %%  %.5f +/- %.5f  %6.2f %%", type, $1, $2, $3, $4, $5, $6, $7 }
        $1 ~ /awq|gptq/ { printf "  %5.1f %%", (1 - $5 / kl["importance"]) * 100 }
        $1 ~ /awq|gptq/ && ppl["rtn"] > base { printf "  %5.1f %%", (ppl["rtn"] - $2) / (ppl["rtn"] - base) * 100 }
        { print "" }'
}

one_type() {
    local model=$1 type=$2 files=() names=(base)
    for method in $methods; do
        local options=() target=$scratch/$method.gguf
        case $type in int* | hqq* | nf4 | fp4 | fp8 | *a16) target=$scratch/$method ;; esac
        case $method in importance) options=(--imatrix "$scratch/stats.gguf") ;; esac
        case $method in *awq* | *gptq*) options=(--text "$calibration" "${windows[@]}") ;; esac
        rm -rf "$target"
        quantized "$model" "$type" "${method/importance/rtn}" "$target" "${options[@]}" || continue
        files+=("$target") names+=("$method")
    done
    measured "$model" "${files[@]}" >"$scratch/lines"
    grep -v '^#' "$scratch/lines" | paste -d ' ' <(printf '%s\n' "${names[@]}") - | cut -d ' ' -f 1,3- | report "$type"
}

# Weights and activations of 8 bits: each line a method and how the range of activations is found.
eight_bits() {
    local model=$1 files=() names=(base) method alpha activations
    while read -r method alpha activations; do
        alpha=${alpha#-}
        local target=$scratch/$method-$alpha-$activations
        rm -rf "$target"
        "$nibble" quantize "$model" -o "$target" --format compressed-tensors --scheme w8a8 --method "$method" \
            ${alpha:+--alpha "$alpha"} --activations "$activations" --text "$calibration" "${windows[@]}" --quiet >"$scratch/out"
        files+=("$target") names+=("$method${alpha:+,$alpha},$activations")
    done <<VARIANTS
$(printf '%s\n' "rtn - "{dynamic,minmax,average,percentile,mse,kl})
$(printf '%s\n' "smoothquant "{0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1,auto}" dynamic")
$(printf '%s\n' "smoothquant 0.5 "{minmax,average,percentile,mse,kl})
VARIANTS
    measured "$model" "${files[@]}" >"$scratch/lines"
    grep -v '^#' "$scratch/lines" | paste -d ' ' <(printf '%s\n' "${names[@]}") - | awk '$1 == "base" { next }
        { gsub(",", " ", $1)
          printf "w8a8 %-26s %9.3f  %+6.2f +/- %4.2f %%  %.5f +/- %.5f  %6.2f %%\n", $1, $3, $4, $5, $6, $7, $8 }'
}

"$build/tests/support/make_outliers" data/tiny-llama "$scratch/twin"
for model in data/tiny-llama "$scratch/twin"; do
    "$nibble" calibrate "$model" --text "$calibration" "${windows[@]}" -o "$scratch/stats.gguf" --force --quiet >"$scratch/out"
    printf '\n%s on %s, calibrated on %s\n' "${model##*/}" "$text" "$calibration"
    printf '%-14s %-16s %9s  %-17s  %-19s  %8s  %7s  %8s\n' '' '' perplex- '' 'KL divergence' 'same top' 'KL' 'ppl loss'
    printf '%-14s %-16s %9s  %-17s  %-19s  %8s  %7s  %8s\n' type method ity change '' token removed 'regained'
    for type in $types; do one_type "$model" "$type"; done
    [ -z "$w8a8" ] || eight_bits "$model"
    head -n 1 "$scratch/table"
done
cat <<'END'

KL removed: against rounding with importances. Loss regained: the share of the perplexity that rounding to nearest
loses and GPTQ does not; where little is lost, or the text is short, that share is mostly noise.
END
