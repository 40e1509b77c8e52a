# SPDX-License-Identifier: MIT
"""Transformers on folders (plain, compressed-tensors, and GPTQ and AWQ with GPTQModel) and on GGUF files.

    transformers_engine.py CASES STRINGS RESULTS

Weights are loaded as F32, so that both engines compute with the same values: what then differs is the order of sums.
"""
import json
import os
import re
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TORCHDYNAMO_DISABLE"] = "1"  # GPTQModel's kernels as they are written: compiling takes longer
import common
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

CHAT = [{"role": "user", "content": "Hello, world!"}, {"role": "assistant", "content": "It's me."},
        {"role": "user", "content": "  Good.\n"}]


def place(case):
    """What from_pretrained() takes."""
    if case["container"] != "gguf":
        return (case["file"],), {}
    folder, name = os.path.split(case["file"])
    return (folder,), {"gguf_file": name}


def tokens(tokenizer, ours, strings):
    """How many strings become the same ids, of how many; and whether special tokens are put where nibble puts them."""
    same = sum(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True) == ids
               for text, ids in zip(strings, ours["strings"], strict=True))
    with_special = tokenizer.encode(strings[0], add_special_tokens=True)
    begins = ours["ids"][:len(with_special)] == with_special
    return {"strings": f"{same}/{len(strings)}", "begins": begins}


def template(tokenizer, source):
    """Whether a conversation looks as with the tokenizer of the folder that the file was written from."""
    theirs = AutoTokenizer.from_pretrained(source)
    if not theirs.chat_template:
        return {"template": "none"} if not tokenizer.chat_template else {"template": "differs"}
    same = tokenizer.chat_template and all(
        theirs.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=more) ==
        tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=more) for more in (False, True))
    return {"template": "same" if same else "differs"}


def forward(model, ours):
    with torch.no_grad():
        return model(torch.tensor([ours["ids"]]), use_cache=False).logits[0]


def rounded_inputs(model, ours, result):
    """Where inputs are rounded to integers or small floats, the last bit of a sum decides some of them, and one of them all that follows.

    So the engine is measured against itself too ("itself"): in F64, and with embeddings off by what the sums that follow are,
    whose order is each engine's own: of 768 products in F32 by 768^(1/2) 2^-24, some 2^-20; in several ways, since few inputs
    are near the middle of two small floats, and all may stay as they were. Where it derives scales from each token it takes
    max / 127.5 of integers, where vLLM's and SGLang's kernels, and nibble, have max / 127: it is measured with theirs also
    ("as_kernels").
    """
    from compressed_tensors.quantization.lifecycle import forward as lifecycle
    own = lifecycle.compute_dynamic_scales_and_zp

    def as_kernels(value, args, **kwargs):
        scale, zero = own(value=value, args=args, **kwargs)
        return (scale * (127.5 / 127) if args.symmetric and args.type == "int" else scale), zero

    lifecycle.compute_dynamic_scales_and_zp = as_kernels
    try:
        theirs = forward(model, ours)
        embedding = model.get_input_embeddings().weight
        kept = embedding.data.clone()
        others = []
        for seed in range(4):
            embedding.data = kept * (1 + torch.randn(kept.shape, generator=torch.Generator().manual_seed(seed)) * 2**-20)
            others.append(forward(model, ours))
        embedding.data = kept
        others.append(forward(model.double(), ours))
    finally:
        lifecycle.compute_dynamic_scales_and_zp = own
    result["as_kernels"] = common.difference(theirs, ours)["mean"]
    result["itself"] = max(common.difference(theirs, common.answers_of(torch.log_softmax(x, dim=-1), ours))["mean"]
                           for x in others)


def computes_in_f32(model):
    """Folders of bitsandbytes ask for BF16."""
    for module in model.modules():
        if hasattr(module, "compute_dtype"):
            module.compute_dtype = torch.float32
            module.compute_type_is_set = True


def unpacks_to_f32():
    """compressed-tensors makes BF16 of 4-bit floats and of MXFP8, whatever dtype was asked for."""
    from compressed_tensors.compressors.mxfp8 import base
    from compressed_tensors.compressors.nvfp4 import helpers
    helpers.unpack_fp4_from_uint8.__defaults__ = (torch.float32,)
    own = base.decompress_mx_scale
    base.decompress_mx_scale = lambda scale: own(scale).float()


def initializes_packed_embeddings():
    """As it passes over packed linear layers: embeddings without a weight are left alone."""
    own = transformers.PreTrainedModel._init_weights

    def guarded(self, module):
        if not isinstance(module, torch.nn.Embedding) or hasattr(module, "weight"):
            own(self, module)

    transformers.PreTrainedModel._init_weights = guarded


def evaluate(case, ours, strings):
    where, how = place(case)
    model = AutoModelForCausalLM.from_pretrained(*where, **how, dtype=torch.float32).eval()
    computes_in_f32(model)
    result = common.difference(forward(model, ours).float(), ours)
    if case["container"] == "compressed-tensors" and re.match("w8a8|w4a8|w4afp8|fp8,|mxfp[48]$", case["scheme"]):
        rounded_inputs(model, ours, result)
    if case["container"] == "bitsandbytes" and case["scheme"] == "int8":  # LLM.int8 rounds inputs, which no file says
        result["decoded"] = common.difference(forward(model.dequantize(), ours).float(), ours)["mean"]
    tokenizer = AutoTokenizer.from_pretrained(*where, **how)
    return result | tokens(tokenizer, ours, strings) | template(tokenizer, case["source"])


def versions(container):
    import importlib.metadata as m
    backend = {"compressed-tensors": "compressed-tensors", "gptq": "gptqmodel", "awq": "gptqmodel", "gguf": "gguf",
               "bitsandbytes": "bitsandbytes"}
    text = transformers.__version__
    if container in backend:
        text += f", {backend[container]} {m.version(backend[container])}"
    return text


def main(cases, strings, results):
    torch.set_num_threads(2)
    unpacks_to_f32()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    with open(strings, encoding="utf-8") as f:
        texts = json.load(f)
    for case in common.cases(cases):
        common.run(case, "Transformers", versions(case["container"]), results, lambda c, o: evaluate(c, o, texts))
    initializes_packed_embeddings()
    for case in common.cases(cases):
        if ",embedding-" in case["scheme"]:
            common.run(case, "Transformers, guarded", versions(case["container"]), results,
                       lambda c, o: evaluate(c, o, texts))


if __name__ == "__main__":
    main(*sys.argv[1:])
