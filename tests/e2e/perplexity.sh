#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Perplexity is that of the file that was written: the same for a folder of safetensors and for GGUF
# files that hold the same numbers, packed folders among them, and worse by a bounded amount for quantized ones.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# nll MODEL [OPTION...]: mean negative log-likelihood on a part of the demonstration text.
nll() {
    "$nibble" perplexity "$1" --text "$src/data/eval.txt" --ctx 512 --chunks 8 --json --quiet "${@:2}" |
        sed -n 's/^.*"nll":[[:space:]]*\([-0-9.e]*\).*/\1/p'
}

for type in f32 bf16 f16 q8_0 q6_k q5_k_m q4_k_m q3_k_m q2_k; do
    "$nibble" quantize "$tiny" -o "$work/$type.gguf" --type $type --quiet >/dev/null
done

# A difference of nll is, to first order, a relative difference of perplexity.
for protocol in llama.cpp window; do
    folder=$(nll "$tiny" --protocol $protocol)
    for type in f32 bf16; do
        gguf=$(nll "$work/$type.gguf" --protocol $protocol)
        echo "$protocol: folder $folder, $type $gguf"
        holds "$folder > 1 && $gguf - $folder < 1e-5 && $folder - $gguf < 1e-5" ||
            fail "$protocol: $type has $gguf, the folder $folder"
    done
done

# A folder of packed integers computes what the values that they stand for compute.
"$nibble" quantize "$tiny" -o "$work/packed" --format gptq --bits 3 --group-size 64 --asym --desc-act --method gptq \
    --text "$src/data/calibration.txt" --ctx 128 --samples 16 --quiet >/dev/null
"$nibble" quantize "$work/packed" -o "$work/values.gguf" --type f32 --quiet >/dev/null
packed=$(nll "$work/packed") values=$(nll "$work/values.gguf")
echo "packed folder: $packed, its values in f32: $values"
holds "$packed > 1 && $packed - $values < 1e-5 && $values - $packed < 1e-5" ||
    fail "a packed folder has $packed, its values $values"

# Bounds. Rounding to b bits leaves a relative error of e = r^2/3 * 4^-b, where r = 2 or so is the largest
# of a block of normal weights over their spread. It enters at 9 places (two branches of each of four blocks, and
# the output matrix), so the log-probability of a token moves by d, d^2 = 9e * (spread of the logits: 1)^2
# = 12 * 4^-b. (quality.sh holds d itself to that.) The expected rise of nll is a divergence of about d^2/2;
# the mean over the 8 * 255 tokens scored here scatters by d / sqrt(2040), four times that is allowed.
base=$(nll "$work/f32.gguf")
while read -r type bits; do
    nll=$(nll "$work/$type.gguf")
    read -r rise low high <<<"$(awk "BEGIN { d2 = 12 * 4 ^ -$bits; s = 4 * sqrt(d2 / 2040)
        printf \"%.6f %.6f %.6f\", $nll - $base, -s, d2 / 2 + s }")"
    echo "$type: nll rises by $rise, allowed $low to $high"
    holds "$rise > $low && $rise < $high" || fail "$type: nll rises by $rise, allowed $low to $high"
done <<END
f16 11
q8_0 8
q6_k 6
q5_k_m 5
q4_k_m 4
q3_k_m 3
q2_k 2
END
finish
