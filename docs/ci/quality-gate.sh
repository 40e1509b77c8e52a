#!/bin/sh
# SPDX-License-Identifier: MIT
# quality-gate.sh - quantize a model, measure what that costs, and fail when it is too much.
#
#   quality-gate.sh MODEL TYPES OUT CACHE [NAME=TEXT...]
#
# MODEL: a folder or file. TYPES: what to make of it, "Q4_K_M Q5_K_M". OUT: a folder for the files and reports. CACHE: a folder
# that is kept between runs; what is in it goes by checksums of all that it depends on, so that it is never stale.
# Environment: CALIBRATION, a text for the importance matrix (none: rounded to nearest); LIMITS, options of 'nibble compare';
# NIBBLE, the program. Exit status: that of 'nibble compare', 3 when a limit is not kept.
set -eu
nibble=${NIBBLE:-nibble} calibration=${CALIBRATION:-} limits=${LIMITS:---max-kl 0.05 --max-ppl-increase 3%}
settings="--ctx ${CTX:-512} --chunks ${CHUNKS:-64}"
model=$1 types=$2 out=$3 cache=$4
shift 4
mkdir -p "$out" "$cache"
name=$(basename "$model" .gguf)

# A key of the contents of these files and folders, and of these words.
key() { { "$nibble" --version; echo "$settings"; find "$@" -type f -exec sha256sum {} + | sort; } | sha256sum | cut -c 1-16; }

texts=
for text in "$@"; do texts="$texts ${text#*=}"; done
# shellcheck disable=SC2086 # a list of paths without spaces
base=$cache/base-$(key "$model" $texts)
imatrix=
if [ -n "$calibration" ]; then
    imatrix=$cache/imatrix-$(key "$model" "$calibration").gguf
    [ -f "$imatrix" ] || "$nibble" calibrate "$model" --text "$calibration" -o "$imatrix"
fi

for text in "$@"; do set -- "$@" --text "$text"; shift; done
if [ ! -e "$base" ]; then # appears when it is whole
    rm -rf "$base.part"
    # shellcheck disable=SC2086 # options
    "$nibble" compare "$model" "$@" $settings --kl-divergence-base "$base.part" --base-top 256
    mv "$base.part" "$base"
fi

made=
for type in $types; do
    file=$out/$name-$type.gguf
    "$nibble" quantize "$model" -o "$file" --type "$type" ${imatrix:+--imatrix "$imatrix"} --force
    made="$made $file"
done

# Everything is written before the verdict, so that a job that fails has its reports.
# shellcheck disable=SC2086 # a list of paths without spaces, and options
exec "$nibble" compare "$base" $made "$@" $settings $limits --force \
    --junit "$out/junit.xml" --markdown "$out/quality.md" --report "$out/quality.html" --json >"$out/quality.json"
