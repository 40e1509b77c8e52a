# SPDX-License-Identifier: MIT
"""candle runs the GGUF files (tests/engines/candle), one token at a time.

    candle_engine.py CASES PROGRAM RESULTS

On the processor it multiplies quantized weights by activations that are rounded to 8 bits, as llama.cpp does.
"""
import json
import subprocess
import sys

import common

VERSION = "0.9.2"  # of candle/Cargo.toml
BOUNDS = {"f32": 1e-3, "f16": 1e-3, "bf16": 1e-3, "q8_0": 0.02}  # else 0.05: tests/interop/llamacpp_bound.sh


def main(cases, program, results):
    def evaluate(case, _):
        done = subprocess.run([program, case["file"], case["answers"]], capture_output=True, text=True)
        if done.returncode:
            raise ValueError(done.stderr.strip().split("\n")[0])
        return json.loads(done.stdout) | {"bound": BOUNDS.get(case["scheme"].split(",")[0], 0.05)}

    for case in common.cases(cases):
        if case["container"] == "gguf":
            common.run(case, "candle", VERSION, results, evaluate)


if __name__ == "__main__":
    main(*sys.argv[1:])
