#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# No space left: an error that says so, the target absent or as it was, no litter. On a small tmpfs, which needs the
# right to mount; a limit on the size of files, which fails in the middle of writing, needs none.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# refused DIR WORDS [OPTION...]: quantize into DIR fails with status 1 and these words (an extended regular expression).
refused() {
    local status=0
    "$nibble" quantize "$tiny" -o "$1/m.gguf" --type f16 "${@:3}" --force --quiet 2>"$work/err" >/dev/null || status=$?
    cat "$work/err"
    [ $status = 1 ] || fail "status $status instead of 1"
    grep -Eq "m\.gguf.*($2)|($2).*m\.gguf" "$work/err" || fail "the message should say: $2"
}

mkdir "$work/limited"
echo old >"$work/limited/m.gguf"
(
    trap '' XFSZ # the write fails with EFBIG, as it would with ENOSPC
    ulimit -f 2048 # KiB; the file has 5.8 MB
    refused "$work/limited" "File too large"
    finish
) || fail "file size limit"
expect_only "$work/limited" m.gguf
echo old | cmp - "$work/limited/m.gguf" || fail "the old target is gone"

small=$work/small
mkdir "$small"
mount -t tmpfs -o size=3m tmpfs "$small" 2>"$work/err" || {
    finish || exit 1
    skip "no right to mount a tmpfs: $(cat "$work/err")"
}
cleanup() {
    umount "$small"
    rm -rf "$work"
}
refused "$small" "[Nn]o space left|free"
expect_only "$small"
# The output alone would fit, but not with the solved tensors that wait for it, or with activations beside those.
gptq=(--method gptq --text "$src/data/calibration.txt" --ctx 128 --samples 32 --sweeps 1)
refused "$small" "needs 4.* for solved tensors until it is there" --type q6_k "${gptq[@]}"
refused "$small" "needs .* for activations, which --memory" --type q2_k "${gptq[@]}" --memory 1Mi
expect_only "$small"
# A folder takes the model's other files along.
cp -r "$tiny" "$work/model"
head -c 4000000 /dev/zero | tr '\0' x >"$work/model/notes.txt"
"$nibble" quantize "$work/model" -o "$small/folder" --format gptq --bits 2 --group-size 64 --dry-run 2>"$work/err" >/dev/null &&
    fail "4 MB of notes are more than 3 MB of disk"
grep -q "needs .* MB of disk" "$work/err" || fail "the disk is too small: $(cat "$work/err")"
"$nibble" quantize "$tiny" -o "$small/folder" --format gptq --bits 2 --group-size 64 --dry-run --quiet >/dev/null || fail "room enough"
finish
