#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Engines of other people load what nibble writes; how far are their log-probabilities from nibble's own on the same
# file? Prints a table; fails when a cell is not as it should be.
#
#   engines.sh SOURCE_ROOT BUILD_ROOT [PATTERN]
#
# PATTERN: an extended regular expression, only cases with such a name; without it the table goes into docs/engines.md
# too. NIBBLE_ENGINES is the folder of the Python environment, which is built on first use.
set -euo pipefail
src=$(realpath "$1") build=$2 pattern=${3:-.}
nibble=$build/nibble here=$src/tests/engines tiny=$src/data/tiny-llama strings=$src/tests/interop/strings.json
. "$here/venv.sh"
. "$src/tests/interop/npm.sh"
. "$src/tests/interop/llamacpp_bound.sh"

work=$(mktemp -d "$build/engines-XXXXXX")
trap 'rm -rf "$work"' EXIT

# Widths that kernels of GPTQ and AWQ insist on; heads that are not width / heads, fewer of keys than of queries.
make_model() {
    "$build/tests/support/make_model" --layers 2 --hidden 256 --ff 768 --heads 4 --kv-heads 2 --tokenizer "$tiny" "$@"
}
ln -s "$tiny" "$work/tiny"
make_model --arch llama --vocab 2048 --dtype f32 "$work/llama"
make_model --arch llama3 --vocab 2048 --tied --dtype f16 "$work/llama3"
make_model --arch mistral --vocab 2048 --head-dim 128 --shards 3 "$work/mistral-like"
make_model --arch qwen2 --vocab 2560 --tied "$work/qwen2"
make_model --arch qwen3 --vocab 2560 --head-dim 128 --tied --shards 2 "$work/qwen3"
cp "$here/chat_template.jinja" "$work/qwen3"

text=(--text "$src/data/calibration.txt" --ctx 128 --samples 16)
mkdir "$work/out"
grep -v '^ *\(#\|$\)' "$here/cases.txt" | grep -E "^[^ ]*($pattern)" >"$work/chosen"
while read -r name model container scheme _ options; do
    out=$work/out/$name
    [ "$container" = gguf ] && out+=.gguf
    read -ra options <<<"$options"
    case ${options[0]} in
    @solve) options=(--method gptq "${text[@]}" "${options[@]:1}") ;;
    @imatrix)
        [ -e "$work/$model.imatrix" ] || "$nibble" calibrate "$work/$model" "${text[@]}" -o "$work/$model.imatrix" --quiet
        options=(--imatrix "$work/$model.imatrix" "${options[@]:1}")
        ;;
    @text) options=("${text[@]}" "${options[@]:1}") ;;
    esac
    "$nibble" quantize "$work/$model" -o "$out" --format "$container" "${options[@]}" --quiet >/dev/null
    if [ "$container" = gguf ]; then
        "$nibble" quantize "$out" -o "$out.f32" --type f32 --quiet >/dev/null
    fi
    "$build/tests/interop/logprobs" "$out" "$src/data/eval.txt" 200 "$strings" >"$work/out/$name.json"
    printf '%s\t' "$name" "$model" "$container" "$scheme" "$out" "$work/$model" >>"$work/cases"
    printf '%s\n' "$work/out/$name.json" >>"$work/cases"
done <"$work/chosen"

python=$venv/bin/python results=$work/results
"$python" "$here/gguf_decoders.py" "$work/cases" "$results" || true # judged below, like all the others
"$python" "$here/transformers_engine.py" "$work/cases" "$strings" "$results"
"$python" "$here/gptqmodel_engine.py" "$work/cases" "$results"
if (npm_install "$src/tests/interop" "$build/interop-npm"); then
    while IFS=$'\t' read -r name model container scheme file _ answers; do
        [ "$container" = gguf ] || continue
        printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$name" "$file" "$answers" "$(bound "${scheme%,*}")" "$model" "$scheme"
    done <"$work/cases" >"$work/llamacpp"
    # What differs too much is judged below, with the rest.
    [ ! -s "$work/llamacpp" ] || node "$build/interop-npm/llamacpp.mjs" "$work/llamacpp" "$strings" "$results" || true
fi
# candle is a Rust program, built on first use where there is a cargo.
if command -v cargo >/dev/null &&
    cargo build --quiet --release --locked --manifest-path "$here/candle/Cargo.toml" --target-dir "$venv/candle"; then
    "$python" "$here/candle_engine.py" "$work/cases" "$venv/candle/release/candle-engine" "$results"
else
    echo "candle: not run, no cargo or no crates" >&2
fi
document=
[ $# = 3 ] || document=$src/docs/engines.md
"$python" "$here/table.py" "$results" "$here/known.txt" "$work/cases" ${document:+"$document"}
