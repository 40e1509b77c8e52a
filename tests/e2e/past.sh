#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Does the program still write the bytes that it wrote at an earlier commit? Builds that commit (kept in the user's cache
# folder), makes every output with both programs, and compares whole files and folders. Not part of 'make check': it takes
# a quarter of an hour, and a commit may change bytes on purpose.
#
#   past.sh SOURCE_ROOT BUILD_ROOT [COMMIT]
#
# COMMIT: by default the last one that changed bytes on purpose.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
commit=${3:-699313c}
git -C "$src" cat-file -e "$commit^{commit}" 2>/dev/null || skip "commit $commit is not in this clone"
past=${XDG_CACHE_HOME:-$HOME/.cache}/nibble/past-$commit
if [ ! -x "$past/build/nibble" ]; then
    rm -rf "$past"
    mkdir -p "$past"
    git -C "$src" archive "$commit" | tar -x -C "$past"
    meson setup "$past/build" "$past" -Dtests=false -Dbench=false >/dev/null
    ninja -C "$past/build" nibble >/dev/null
fi
before=$past/build/nibble

head -c 24000 "$src/data/calibration.txt" >"$work/text"
head -c 12000 "$src/data/eval.txt" >"$work/eval"
cp -r "$tiny" "$work/tiny"
for seed in 1 2; do
    "$build/tests/support/make_model" --arch qwen2 --layers 2 --hidden 256 --ff 512 --heads 4 --kv-heads 2 --vocab 2560 --tied \
        --seed $seed --tokenizer "$tiny" "$work/qwen2-$seed"
    "$build/tests/support/make_model" --arch qwen3 --layers 2 --hidden 256 --ff 768 --heads 4 --kv-heads 2 --head-dim 128 \
        --vocab 2560 --dtype f16 --seed $seed --tokenizer "$tiny" "$work/qwen3-$seed"
done

# both OUT ARGUMENT...: the command with either program; OUT, which the arguments name as @, is compared.
n=0 differing=0
both() {
    local out=$1 which args program
    shift
    for which in before nibble; do
        program=${!which} args=("${@//@/$work/$which/$out}")
        mkdir -p "$work/$which"
        "$program" "${args[@]}" --quiet >"$work/$which/printed" 2>&1 || { cat "$work/$which/printed"; fail "$which: ${args[*]}"; }
    done
    n=$((n + 1))
    if [ "$out" = printed ]; then sed -i 's/[0-9.]* s$//' "$work"/{before,nibble}/printed; fi
    diff -rq "$work/before/$out" "$work/nibble/$out" >/dev/null || { differing=$((differing + 1)); echo "differs: $*"; }
    [ "$out" = statistics.gguf ] || rm -rf "$work"/{before,nibble}/"$out"
}

solve=(--text "$work/text" --ctx 128 --samples 24)
for model in tiny qwen2-1 qwen2-2 qwen3-1 qwen3-2; do
    m=$work/$model
    both statistics.gguf calibrate "$m" --text "$work/text" --ctx 128 -o @ -f
    both printed perplexity "$m" --text "$work/eval" --ctx 128
    for type in q8_0 q6_k q5_k_m q4_k_m q3_k_m q2_k q4_0 q5_1 iq4_nl iq4_xs bf16; do
        both out.gguf quantize "$m" -o @ --type $type
    done
    for type in q4_k_m q2_k iq4_xs; do
        both out.gguf quantize "$m" -o @ --type $type --imatrix "$work/before/statistics.gguf"
    done
    for type in iq3_s iq3_m tq2_0 tq1_0 mxfp4 nvfp4 q2_0 q1_0; do both out.gguf quantize "$m" -o @ --type $type; done
    for type in iq3_xxs iq2_m iq2_s iq2_xs iq2_xxs iq1_m iq1_s; do
        both out.gguf quantize "$m" -o @ --type $type --imatrix "$work/before/statistics.gguf"
    done
    both out.gguf quantize "$m" -o @ --type iq3_s --method gptq "${solve[@]}"
    both out.gguf quantize "$m" -o @ --type mxfp4 --method gptq "${solve[@]}"
    for scheme in nf4 fp4 int8; do both folder quantize "$m" -o @ --format bitsandbytes --scheme $scheme; done
    both folder quantize "$m" -o @ --format bitsandbytes --scheme nf4 --method gptq "${solve[@]}"
    both out.gguf quantize "$m" -o @ --type q4_k_m --method gptq "${solve[@]}"
    both out.gguf quantize "$m" -o @ --type q2_k --method gptq --true-sequential "${solve[@]}"
    both out.gguf quantize "$m" -o @ --type q3_k_m --method gptq --no-propagate --seed 3 "${solve[@]}"
    both out.gguf quantize "$m" -o @ --type q4_0 --method awq+gptq "${solve[@]}"
    both out.gguf quantize "$m" -o @ --type iq4_xs --method smoothquant+gptq "${solve[@]}"
    for bits in 2 3 4 8; do both folder quantize "$m" -o @ --format gptq --bits $bits --group-size 64; done
    both folder quantize "$m" -o @ --format gptq --group-size 64 --method gptq "${solve[@]}"
    both folder quantize "$m" -o @ --format gptq --group-size 64 --method gptq --desc-act --asym "${solve[@]}"
    both folder quantize "$m" -o @ --format awq --group-size 64 --method awq "${solve[@]}"
    both folder quantize "$m" -o @ --format compressed-tensors --scheme w4a16 --group-size 64 --method awq+gptq "${solve[@]}"
    both folder quantize "$m" -o @ --format compressed-tensors --scheme w8a8 --method smoothquant "${solve[@]}"
    both folder quantize "$m" -o @ --format compressed-tensors --scheme w8a8 --activations minmax --method gptq "${solve[@]}"
done
echo "$n outputs, $differing differ from those of $commit"
[ $differing = 0 ] || fail "bytes of the past"
finish
