#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# llama.cpp, prebuilt in an npm package, runs what nibble writes: every type from the demonstration
# model, some types from a random model of each other architecture, weights that GPTQ chose, a split
# file, a requantized one.
#
#   llamacpp.sh SOURCE_ROOT BUILD_ROOT
set -euo pipefail
src=$1 build=$2
nibble=$build/nibble here=$src/tests/interop
. "$here/npm.sh"
. "$here/llamacpp_bound.sh"
npm_install "$here" "$build/interop-npm"

work=$(mktemp -d "$build/llamacpp-XXXXXX")
trap 'rm -rf "$work"' EXIT
: >"$work/cases"

# check LABEL FILE TYPE: a case for llamacpp.mjs, with our answers.
check() {
    "$build/tests/interop/logprobs" "$2" "$src/data/eval.txt" 400 "$here/strings.json" >"$work/$1.json"
    printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$work/$1.json" "$(bound "$3")" >>"$work/cases"
}

# quantize LABEL MODEL TYPE [OPTION...]
quantize() {
    local label=$1 model=$2 type=$3
    shift 3
    "$nibble" quantize "$model" -o "$work/$label.gguf" --type "$type" --quiet "$@" >/dev/null
}

tiny=$src/data/tiny-llama
for type in f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k_m q4_k_m q5_k_m q6_k iq4_nl iq4_xs; do
    quantize "tiny-$type" "$tiny" $type
    check "tiny-$type" "$work/tiny-$type.gguf" $type
done

# Codebooks of vectors, three levels, 4-bit floats, two bits and one.
"$nibble" calibrate "$tiny" --text "$src/data/calibration.txt" --ctx 128 --samples 16 -o "$work/imatrix" --quiet >/dev/null
for type in iq3_s iq3_xxs iq2_s iq2_xs iq2_xxs iq1_m iq1_s tq2_0 tq1_0 mxfp4 nvfp4 q2_0 q1_0; do
    quantize "tiny-$type" "$tiny" $type --imatrix "$work/imatrix"
    check "tiny-$type" "$work/tiny-$type.gguf" $type
done
quantize tiny-hqq "$tiny" q4_1 --method hqq
check tiny-hqq "$work/tiny-hqq.gguf" q4_1

# Shapes that tell apart what is easily mixed up: heads from width / heads, query from key/value
# heads, tokens from rows of the embedding. Two layers, because each multiplies what rounding
# activations does to a model that never learned anything: as much as if nibble rounded them.
make_model() {
    "$build/tests/support/make_model" --layers 2 --hidden 256 --ff 768 --heads 4 --kv-heads 2 \
        --tokenizer "$tiny" "$@"
}
make_model --arch llama --vocab 2048 --dtype f32 "$work/llama"
make_model --arch llama3 --vocab 2048 --tied --dtype f16 "$work/llama3"
make_model --arch mistral --vocab 2048 --head-dim 128 --shards 3 "$work/mistral"
make_model --arch qwen2 --vocab 2560 --tied "$work/qwen2"
make_model --arch qwen3 --vocab 2560 --head-dim 128 --tied --shards 2 "$work/qwen3"
make_model --arch qwen3moe --vocab 2560 --head-dim 128 --ff 256 --experts 12 --experts-used 3 "$work/qwen3moe"
make_model --arch gemma2 --vocab 2560 --head-dim 64 --tied "$work/gemma2"
make_model --arch gemma3 --vocab 2560 --head-dim 128 --tied --dtype f32 "$work/gemma3"
for arch in llama llama3 mistral qwen2 qwen3 qwen3moe gemma2 gemma3; do
    for type in f32 f16 q8_0 q4_k_m; do
        quantize "$arch-$type" "$work/$arch" $type
        case $arch-$type in
        gemma?-f32) check "$arch-$type" "$work/$arch-$type.gguf" f32-gelu ;;
        *) check "$arch-$type" "$work/$arch-$type.gguf" $type ;;
        esac
    done
done

# Solved files are like rounded ones to whoever reads them. Rows of tiny's q and k are reordered, qwen3 has heads
# wider than its width / heads.
solve=(--method gptq --text "$src/data/calibration.txt" --ctx 128 --samples 16)
for type in q4_0 q2_k q3_k_m q4_k_m q6_k iq4_nl iq4_xs; do
    quantize "gptq-$type" "$tiny" $type "${solve[@]}"
    check "gptq-$type" "$work/gptq-$type.gguf" $type
done
quantize qwen3-gptq "$work/qwen3" q4_k_m "${solve[@]}"
check qwen3-gptq "$work/qwen3-gptq.gguf" q4_k_m
quantize qwen3moe-gptq "$work/qwen3moe" q4_k_m "${solve[@]}"
check qwen3moe-gptq "$work/qwen3moe-gptq.gguf" q4_k_m

# So are rescaled ones: norms are not the original's, and neither is qwen2's bias of v; gemma3's are stored as differences from 1.
for method in awq awq+gptq; do
    quantize "$method" "$tiny" q4_k_m "${solve[@]}" --method $method
    check "$method" "$work/$method.gguf" q4_k_m
    for arch in qwen2 gemma3; do
        quantize "$arch-$method" "$work/$arch" q4_k_m "${solve[@]}" --method $method
        check "$arch-$method" "$work/$arch-$method.gguf" q4_k_m
    done
done

# Models that Transformers made, with a tokenizer of bytes; without those that llama.cpp does not load, or computes in another way.
# llama.cpp takes it that a model named phi3 has Phi-3's own tokens; these folders have other ones, so they are not named so.
golden=$src/tests/golden/arch
for name in cohere cohere2 deepseek_v3 dots1 ernie4_5 ernie4_5_moe gemma glm glm4 glm4_moe glm4_moe_lite granite granite4 granitemoe \
    granitemoe_shared hunyuan_dense hunyuan_moe llama_rope_llama3 llama_rope_yarn minimax_m2 ministral3 mistral3 mixtral nemotron \
    olmo2 olmo3 phi3_longrope_long qwen2_moe qwen3_5 qwen3_5_moe qwen3_moe qwen3_next qwen3_vl qwen3_vl_moe seed_oss smollm3 \
    stablelm bloom falcon_7b_form falcon_40b_form gpt2 gpt_neox gpt_neox_sequential phi2; do
    mkdir "$work/tf-${name/phi3/three}"
    cp "$golden/$name"/{config.json,model.safetensors} "$golden"/tokenizer-256/tokenizer*.json "$work/tf-${name/phi3/three}"
    quantize "g-$name" "$work/tf-${name/phi3/three}" f32
    "$build/tests/interop/logprobs" "$work/g-$name.gguf" "$src/data/eval.txt" 48 "$here/strings.json" >"$work/g-$name.json"
    case $name in
    gemma | bloom | falcon* | gpt* | phi2) within=$(bound f32-gelu) ;;
    *) within=$(bound f32) ;;
    esac
    printf '%s\t%s\t%s\t%s\n' "g-$name" "$work/g-$name.gguf" "$work/g-$name.json" "$within" >>"$work/cases"
done

# Files that were converted from folders, integers carried over.
for format in gptq awq; do
    "$nibble" quantize "$tiny" -o "$work/$format-folder" --format $format --quiet >/dev/null
    "$nibble" convert "$work/$format-folder" -o "$work/from-$format.gguf" --quiet >/dev/null
    check "from-$format" "$work/from-$format.gguf" q4_0
done

# NVFP4's codes and scales with the global scale as a factor beside each weight, in every architecture whose graph applies it.
make_model --arch qwen3 --hidden 64 --ff 128 --heads 4 --vocab 2560 "$work/narrow"
# Random models make more of llama.cpp's rounding of activations; without the factors the difference is 1.4 and more.
nvfp4() {
    "$nibble" quantize "$2" -o "$work/$1-folder" --format compressed-tensors --scheme nvfp4a16 --quiet >/dev/null
    "$nibble" convert "$work/$1-folder" -o "$work/$1.gguf" --quiet >/dev/null
    "$build/tests/interop/logprobs" "$work/$1.gguf" "$src/data/eval.txt" "${3:-400}" "$here/strings.json" >"$work/$1.json"
    printf '%s\t%s\t%s\t%s\n' "$1" "$work/$1.gguf" "$work/$1.json" "$([ $# = 3 ] && echo 0.2 || bound nvfp4)" >>"$work/cases"
}
nvfp4 nvfp4-tiny "$tiny"
nvfp4 qwen3-nvfp4 "$work/narrow"
for name in cohere2 mistral3 mixtral qwen3_moe qwen3_5 qwen3_5_moe; do nvfp4 "nvfp4-$name" "$work/tf-$name" 48; done
# The same of files that were quantized by a method with factors of its own.
quantize nvfp4-hqq "$tiny" nvfp4 --method hqq
check nvfp4-hqq "$work/nvfp4-hqq.gguf" nvfp4

quantize split "$tiny" q8_0 --split-max-size 1M
check split "$(ls "$work"/split-00001-of-*.gguf)" q8_0
quantize again "$work/tiny-f16.gguf" q4_k_m
check again "$work/again.gguf" q4_k_m

node "$build/interop-npm/llamacpp.mjs" "$work/cases" "$here/strings.json"
