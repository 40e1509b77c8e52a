# SPDX-License-Identifier: MIT
"""The decoders of the package gguf, bit for bit against nibble's, on each tensor of each GGUF file.

    gguf_decoders.py CASES RESULTS

nibble's values are those of the same file written again as F32, beside it under the name FILE.f32. The package needs
no torch. Exit status 1 when a file differs.
"""
import importlib.metadata
import sys

import common
import numpy
from gguf import GGUFReader
from gguf.quants import dequantize


def decoded(tensor, factor):
    values = dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
    return values * factor if factor is not None else values


def evaluate(case, _):
    theirs = {t.name: t for t in GGUFReader(case["file"]).tensors}
    ours = {t.name: t for t in GGUFReader(case["file"] + ".f32").tensors}
    # What llama.cpp multiplies X.weight by is a tensor of its own, X.scale; in nibble's values it is in the weights.
    factors = {name[:-len("scale")] + "weight": t.data for name, t in theirs.items()
               if name.endswith(".scale") and name not in ours}
    theirs = {name: t for name, t in theirs.items() if name in ours or not name.endswith(".scale")}
    if theirs.keys() != ours.keys():
        raise ValueError(f"other tensors: {theirs.keys() ^ ours.keys()}")
    bad = [name for name, t in theirs.items()
           if not numpy.array_equal(decoded(t, factors.get(name)).ravel().view(numpy.uint32),
                                    ours[name].data.ravel().view(numpy.uint32))]
    if bad:
        raise ValueError(f"other values: {', '.join(bad)}")
    return {"mean": 0.0, "max": 0.0, "tensors": len(theirs)}


def main(cases, results):
    version = importlib.metadata.version("gguf")
    return any(["error" in common.run(case, "gguf decoders", version, results, evaluate)
               for case in common.cases(cases) if case["container"] == "gguf"])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
