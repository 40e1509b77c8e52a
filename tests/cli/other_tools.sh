#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tests/cli/other_tools.sh - no option of the tools that people come from is unknown: each works, or is told what to do
# instead.
#   other_tools.sh PROGRAM
# The lists follow llama-quantize's and llama-imatrix's usage texts, and what is known of the others (convert_hf_to_gguf,
# llama-perplexity, scripts of GPTQ, AutoGPTQ and AWQ, GPTQModel's
# QuantizeConfig, llm-compressor's recipes, AutoRound).
set -u
nibble=$1 failures=0

# known COMMAND OPTION...: none of them is unknown to the command; "=" at the end: it has a value.
known() {
    local command=$1 option said status
    shift
    for option in "$@"; do
        case $option in
        *=) said=$("$nibble" "$command" "${option%=}" 1 2>&1) ;;
        *) said=$("$nibble" "$command" "$option" 2>&1) ;;
        esac
        status=$?
        [ "$status" = 2 ] && [[ $said != *"unknown option"* ]] && continue
        echo "nibble $command $option: status $status, $said"
        failures=1
    done
}

# llama-quantize
known quantize --allow-requantize --leave-output-tensor --pure --imatrix= --include-weights= --exclude-weights= \
    --output-tensor-type= --token-embedding-type= --tensor-type= --tensor-type-file= --prune-layers= --keep-split \
    --override-kv= --dry-run --max-buffer-size=
# convert_hf_to_gguf.py
known quantize --vocab-only --outfile= --outtype= --bigendian --use-temp-file --no-lazy --model-name= --verbose \
    --split-max-tensors= --split-max-size= --dry-run --no-tensor-first-split --metadata= --print-supported-models \
    --remote= --mmproj --mistral-format
# llama-imatrix, llama-perplexity
known calibrate -m= --model= --file= --output-file= -ofreq= --output-frequency= --output-format= --save-frequency= \
    --process-output --chunk= --from-chunk= --chunks= --no-ppl --in-file= --parse-special --show-statistics -ngl= -c= \
    --ctx-size= -b= -ub= -t= --threads= -fa --no-mmap -lv= -s= --seed=
known generate -m= --model= -p= --prompt= -f= --file= -n= --n-predict= --predict= --temp= --top-k= --top-p= --min-p= --repeat-penalty= \
    --presence-penalty= -s= --seed= -cnv -md= --model-draft= --draft-max= --prompt-cache= -t= --threads= -ngl= -b= -fa
known perplexity -m= --model= -f= --file= -c= --ctx-size= --chunks= --ppl-stride= --kl-divergence \
    --kl-divergence-base= --save-all-logits= --hellaswag --winogrande --multiple-choice -ngl= --gpu-layers= \
    --n-gpu-layers= -b= --batch-size= -ub= --ubatch-size= -t= -tb= -fa --flash-attn= --mlock --no-mmap --numa= -s= \
    --cache-type-k= -ctv= --lora= --hf-repo= -hf= -sm= -ts= -mg= -dev=
# GPTQ and AutoGPTQ
known quantize --wbits= --groupsize= --sym --act-order --static-groups --true-sequential --nsamples= --percdamp= \
    --nearest --save= --pretrained_model_dir= --quantized_model_dir= --bits= --group_size= --desc_act --num_samples= \
    --fast_tokenizer --use_triton --per_gpu_max_memory= --cpu_max_memory= --quant_batch_size= --trust_remote_code
# GPTQModel, AutoAWQ, llm-compressor, AutoRound
known quantize --damp_percent= --damp_auto_increment= --lm_head --mse= --dynamic= --act_group_aware --model_id= \
    --w_bit= --q_group_size= --zero_point --dampening_frac= --actorder --ignore= --num_calibration_samples= \
    --max_seq_length= --smoothing_strength= --dataset= --seqlen= --iters= --output_dir= --scheme= --format= --device=
exit "$failures"
