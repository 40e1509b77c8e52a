# SPDX-License-Identifier: MIT
"""Recipes that the schema accepts are planned by nibble, those that it refuses are refused with status 2.

    recipes.py NIBBLE SOURCE_ROOT FOLDER

The schema cannot say everything: which options go together, and names of types, which are texts to it. Recipes here are
wrong, or right, in what it can say."""
import json
import os
import subprocess
import sys

from jsonschema import Draft202012Validator

nibble, src, work = sys.argv[1:]
with open(os.path.join(src, "docs/batch.schema.json"), encoding="utf-8") as f:
    schema = json.load(f)
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
model = os.path.join(src, "data/tiny-llama")
text = os.path.join(src, "data/calibration.txt")
failures = []
count = {True: 0, False: 0}


def check(what, recipe, good):
    """nibble's verdict and the schema's are `good`."""
    path = os.path.join(work, "jobs.json")
    with open(path, "w", encoding="utf-8") as out:
        json.dump(recipe, out)
    valid = validator.is_valid(recipe)
    run = subprocess.run([nibble, "batch", path, "--dry-run", "--quiet"], capture_output=True, text=True, check=False)
    count[good] += 1
    if valid != good:
        failures.append(f"{what}: the schema says {valid}")
    if (run.returncode == 0) != good or run.returncode not in (0, 2):
        failures.append(f"{what}: status {run.returncode}: {run.stderr.strip()}")


def recipe(outputs, **more):
    """A recipe of the demonstration model."""
    return {"model": model, "outputs": outputs, **more}


calibration = {"text": text, "ctx": 64, "samples": 4}
check("one output", recipe([{}]), True)
check("a ladder", recipe([{"preset": "ladder", "imatrix": True}], calibration=calibration, folder="out", name="Tiny"), True)
check("methods", recipe([{"method": "gptq", "damp": 0.05, "sweeps": 2, "output": "a.gguf", "no-propagate": True},
                         {"method": "smoothquant", "alpha": 0.4, "output": "b", "format": "compressed-tensors",
                          "scheme": "w8a8", "group-size": "tensor"},
                         {"method": "smoothquant", "alpha": "auto", "output": "c", "format": "compressed-tensors",
                          "scheme": "w8a8"}],
                        calibration={**calibration, "memory": "1Gi", "seed": 3}), True)
check("folders", recipe([{"format": "gptq", "bits": 3, "group-size": 64, "output": "a", "override": "down:bits=4"},
                         {"format": "awq", "group-size": -1, "output": "b", "max-shard-size": 1000000},
                         {"format": "bitsandbytes", "scheme": "nf4", "output": "c"},
                         {"format": "safetensors", "type": "bf16", "output": "d"}]), True)
check("overrides", recipe([{"type": "q3_k_m", "tensor-type": ["attn_v=q5_k", "output=q6_k"], "protect-blocks": 1,
                            "split-max-size": "400K"}]), True)
check("an evaluation", recipe([{"type": "q8_0"}], evaluation={
    "text": ["a=" + text, text], "protocol": "window", "ctx": 64, "chunks": 2, "noise-floor": True, "max-kl": 0.1,
    "max-ppl-increase": "2%", "min-top1": "95%", "min-top5": 0.5, "kv-cache": "q8_0", "cache-type-v": "q4_0", "kv-rotation": "auto"}), True)

check("a list", [], False)
check("no model", {"outputs": [{}]}, False)
check("no outputs", {"model": model}, False)
check("an empty list", recipe([]), False)
check("outputs of texts", recipe(["q8_0"]), False)
check("a part that nobody knows", recipe([{}], calibratoin={}), False)
check("a preset that nobody knows", recipe([{"preset": "stairs"}]), False)

# Every key of every part: a value of no kind that it takes, one beyond its limits, a word that is none of its choices.
for part in ("calibration", "output", "evaluation"):
    keys = schema["$defs"][part]["properties"]
    for key, says in keys.items():
        kinds = says.get("type", "string")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        bad = [{}, None]
        if "string" not in kinds:
            bad.append("x")
        if "integer" not in kinds and "number" not in kinds:
            bad.append(5)
        if "boolean" not in kinds:
            bad.append(True)
        if "array" not in kinds:
            bad.append(["x"])
        if "minimum" in says:
            bad.append(says["minimum"] - 1)
        if "maximum" in says:
            bad.append(says["maximum"] + 1)
        if "integer" in kinds and "string" not in kinds:
            bad.append(20.5)
        if "enum" in says or "pattern" in says:
            bad.append("nonsense")
        for value in bad:
            whole = recipe([{}])
            inner = {"text": text} if part == "evaluation" else {}
            inner[key] = value
            if part == "output":
                whole["outputs"] = [inner]
            else:
                whole[part] = inner
            check(f"{part}.{key} = {json.dumps(value)}", whole, False)
    whole = recipe([{"methd": 1}] if part == "output" else [{}])
    if part != "output":
        whole[part] = {"methd": 1, "text": text}
    check(f"{part}: a key that nobody knows", whole, False)

print(f"{count[True]} good recipes, {count[False]} bad ones")
for line in failures:
    print(line)
sys.exit(bool(failures))
