# SPDX-License-Identifier: MIT
"""What the engines' programs share: the cases, nibble's answers, differences, and lines of the table.

A case is a line of engines.sh, tab separated: its name, the model, container, scheme, the file or folder that nibble
wrote, the folder or file it was written from, and nibble's answers (tests/interop/logprobs.c). A result is one JSON
object in a line of the results' file; table.py judges it.
"""
import json
import sys
import traceback


def cases(path):
    keys = ("case", "model", "container", "scheme", "file", "source", "answers")
    with open(path, encoding="utf-8") as f:
        for line in f:
            yield dict(zip(keys, line.rstrip("\n").split("\t"), strict=True))


def answers(case):
    with open(case["answers"], encoding="utf-8") as f:
        return json.load(f)


def difference(logits, ours):
    """Of log-probabilities: mean and largest, over each position's next token and nibble's three most probable.

    logits: float tensor [positions, vocabulary]; a difference that is no number counts as the largest there is.
    """
    import torch
    logp = torch.log_softmax(logits.double(), dim=-1)
    wanted = torch.tensor([[ours["ids"][i + 1]] + [k for k, _ in top] for i, top in enumerate(ours["top"])])
    values = torch.tensor([[lp] + [v for _, v in top] for lp, top in zip(ours["logprob"], ours["top"], strict=True)],
                          dtype=torch.float64)
    d = (logp[:len(wanted)].gather(1, wanted) - values).abs().nan_to_num(nan=float("inf"))
    return {"mean": d.mean().item(), "max": d.max().item()}


def answers_of(logp, ours):
    """Answers like nibble's, from log-probabilities [positions, vocabulary] of an engine, on the same tokens."""
    logp = logp.double()
    return {"ids": ours["ids"],
            "logprob": [logp[i, k].item() for i, k in enumerate(ours["ids"][1:])],
            "top": [[(k, logp[i, k].item()) for k, _ in top] for i, top in enumerate(ours["top"])]}


def run(case, engine, version, results, evaluate):
    """evaluate(case, ours) -> what the result has besides the names; what it raises is a refusal. Returns the result."""
    result = {key: case[key] for key in ("case", "model", "container", "scheme")}
    result |= {"engine": engine, "version": version}
    try:
        result |= evaluate(case, answers(case))
    except Exception as e:  # whatever an engine raises: the table says it
        traceback.print_exc()
        result["error"] = f"{type(e).__name__}: {e}".split("\n")[0][:400]
    with open(results, "a", encoding="utf-8") as f:
        f.write(json.dumps(result) + "\n")
    print(f"  {engine}: {case['case']}:", result.get("error") or
          " ".join(f"{k} {v:.2g}" if isinstance(v, float) else f"{k} {v}" for k, v in result.items()
                   if k not in ("case", "model", "container", "scheme", "engine", "version")), file=sys.stderr)
    return result
