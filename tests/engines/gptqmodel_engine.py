# SPDX-License-Identifier: MIT
"""GPTQModel by itself, its plain kernels in torch, on GPTQ and AWQ folders.

    gptqmodel_engine.py CASES RESULTS
"""
import importlib.metadata
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TORCHDYNAMO_DISABLE"] = "1"  # kernels as they are written: compiled ones take longer to compile than to run
import common
import torch
from gptqmodel import BACKEND, GPTQModel


def evaluate(case, ours):
    backend = BACKEND.AWQ_TORCH if case["container"] == "awq" else BACKEND.GPTQ_TORCH
    model = GPTQModel.load(case["file"], device="cpu", backend=backend, dtype=torch.float16)
    with torch.no_grad():  # it loads halves alone; the sums are F32
        logits = model.model.float()(torch.tensor([ours["ids"]]), use_cache=False).logits[0]
    return common.difference(logits.float(), ours)


def main(cases, results):
    torch.set_num_threads(2)
    version = importlib.metadata.version("gptqmodel")
    for case in common.cases(cases):
        if case["container"] in ("gptq", "awq"):
            common.run(case, "GPTQModel", version, results, evaluate)


if __name__ == "__main__":
    main(*sys.argv[1:])
