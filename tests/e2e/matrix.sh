#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Any method with any number format and any container: a small random model by each of them, in one batch. Every output is whole
# when it is read again, and none is further from the model than twice what plain rounding is. What is refused is listed here.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$work"

"$build/tests/support/make_model" --arch llama --layers 1 --hidden 256 --ff 256 --heads 4 --kv-heads 2 --head-dim 64 --vocab 2100 \
    --tokenizer "$tiny" model >/dev/null
head -c 6000 "$src/data/calibration.txt" >text
head -c 1200 "$src/data/eval.txt" >other

types=(q8_0 q6_k q5_k_m q5_1 q5_0 q4_k_m q4_1 q4_0 iq4_nl iq4_xs nvfp4 mxfp4 q3_k_m iq3_s iq3_xxs q2_k iq2_s iq2_xs iq2_xxs iq1_m
    iq1_s q2_0 q1_0 tq2_0 tq1_0)
ct='"format": "compressed-tensors", "scheme"' bnb='"format": "bitsandbytes", "type"'
folders=('"format": "gptq", "bits": 2, "group-size": 32' '"format": "gptq", "bits": 3, "group-size": 64'
    '"format": "gptq", "bits": 4, "asym": true' '"format": "gptq", "bits": 4, "desc-act": true' '"format": "gptq", "bits": 8'
    '"format": "awq"' "$ct: \"w4a16\"" "$ct: \"w4a16\", \"asym\": true" "$ct: \"w8a16\"" "$ct: \"w1a16\", \"asym\": true" "$ct: \"w2a16\"" "$ct: \"w3a16\", \"asym\": true"
    "$ct: \"w5a16\"" "$ct: \"w6a16\", \"asym\": true" "$ct: \"w8a8\"" "$ct: \"w4a8\"" "$ct: \"w4afp8\"" "$ct: \"w4a16\", \"embedding-type\": \"w4a16\""
    "$ct: \"nvfp4a16\", \"embedding-type\": \"w8a16\", \"output-type\": \"w6a16\""
    "$ct: \"w8a8\", \"activations\": \"minmax\"" "$ct: \"fp8\"" "$ct: \"fp8-dynamic\"" "$ct: \"fp8-block\"" "$ct: \"nvfp4\""
    "$ct: \"nvfp4a16\"" "$ct: \"mxfp4\"" "$ct: \"mxfp4a16\"" "$ct: \"mxfp8\"" "$ct: \"mxfp8a16\"" "$bnb: \"nf4\"" "$bnb: \"nf4\", \"double-quant\": true" "$bnb: \"fp4\""
    "$bnb: \"fp4\", \"double-quant\": true" "$bnb: \"int8\"" '"format": "hqq"' '"format": "hqq", "bits": 3, "group-size": 64'
    '"format": "fp8", "scheme": "block"' '"format": "fp8", "scheme": "channel"' '"format": "fp8", "scheme": "tensor"')

# refused FORMAT METHOD: by which words; nothing where it is to be made.
refused() {
    case "$2 $1" in
    rtn*iq1_* | rtn*iq2_* | rtn*iq3_xxs*) echo 'needs importances' ;;
    hqq*'"fp8'* | hqq*nvfp4\" | hqq*nvfp4a16* | hqq*double-quant*) [[ $1 = '"type"'* ]] || echo 'method hqq fits the scales' ;;
    'gptq '*desc-act* | 'awq+gptq '*desc-act*) ;;
    *desc-act*) echo 'needs --method gptq' ;;
    esac
}

method() {
    case $1 in importance) echo '"imatrix": true' ;; *) echo "\"method\": \"$1\"" ;; esac
}

# recipe OUTPUT...: on standard output
recipe() {
    local IFS=,
    echo "{\"model\": \"model\", \"calibration\": {\"text\": \"text\", \"ctx\": 64, \"samples\": 8}, \"outputs\": [$*],"
    echo '"evaluation": {"text": "other", "ctx": 64, "chunks": 4}}'
}

outputs=()
for format in "${types[@]/#/\"type\": }" "${folders[@]}"; do
    format=$(sed 's/^"type": \([a-z0-9_]*\)$/"type": "\1"/' <<<"$format")
    for m in rtn importance hqq gptq awq awq+gptq; do
        name=$(tr -cd 'a-z0-9_-' <<<"$format").$m
        case $format in '"type"'*) name=$name.gguf ;; esac
        output="{$format, $(method $m), \"output\": \"$name\"}"
        why=$(refused "$format" $m)
        if [ -z "$why" ]; then
            outputs+=("$output")
        else
            recipe "$output" >one.json
            "$nibble" batch one.json --dry-run --quiet >/dev/null 2>error && fail "$name is not refused"
            grep -q "$why" error || fail "$name is refused otherwise: $(cat error)"
        fi
    done
done
recipe "${outputs[@]}" >jobs.json
"$nibble" batch jobs.json --json --quiet >made.json 2>error || fail "batch: $(tail -n 3 error)"
for made in *.gptq *.gptq.gguf; do
    "$nibble" verify "$made" --quiet >/dev/null 2>error || fail "$made is not whole: $(cat error)"
done

# Divergences by model, against plain rounding's, or rounding with importances where there is none.
awk -v wanted=${#outputs[@]} '
    /"model":/ { gsub(/[",]/, "", $2); model = $2 }
    $1 == "\"kl\":" { kl[model] = $2 + 0 }
    END {
        for (model in kl) {
            n++
            format = end = model
            sub(/\.(rtn|importance|hqq|gptq|awq|awq\+gptq)(\.gguf)?$/, "", format)
            sub(/^.*\.gguf$/, ".gguf", end)
            if (end == model) end = ""
            plain = format ".rtn" end
            if (!(plain in kl)) plain = format ".importance" end
            if (!(plain in kl)) plain = format ".gptq" end
            if (!(kl[model] > 0 && kl[model] <= 2 * kl[plain])) {
                print model " has a divergence of " kl[model] ", " plain " of " kl[plain]
                bad = 1
            }
        }
        print n " of " wanted " outputs measured"
        exit bad || n != wanted
    }' made.json || fail "divergences"
finish
