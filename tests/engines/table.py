# SPDX-License-Identifier: MIT
"""The table of all results, each cell judged.

    table.py RESULTS KNOWN CASES [DOCUMENT]

Prints it, and writes it into DOCUMENT between its two marks. Exit status 1 when a cell is not as it should be.
"""
import json
import re
import sys

BOUND = 1e-3  # of the mean: the same values, summed in another order, some of them by way of 16 bits
MARKS = "<!-- table of make engines -->", "<!-- end of table -->"


def load(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def load_known(path):
    with open(path, encoding="utf-8") as f:
        lines = [line.strip() for line in f if line.strip() and not line.startswith("#")]
    return [re.match(r"([^:]+): ([^:]+): ([^:]+): (.*)", line).groups() for line in lines]


def faults(r):
    """What is not as it should be: words of known.txt."""
    if "error" in r:
        return {"refuses"}
    found = set()
    mean, bound = r["mean"], r.get("bound", BOUND)
    if "itself" in r:  # inputs rounded to integers: see transformers_engine.py
        mean, bound = r["as_kernels"], max(BOUND, 2 * r["itself"])
    if "decoded" in r:  # what its weights are, apart from how it multiplies
        mean = r["decoded"]
    if not mean <= bound:
        found.add("values")
    same, _, of = r.get("strings", "0/0").partition("/")
    if same != of or not r.get("begins", True):
        found.add("strings")
    if r.get("template") == "differs":
        found.add("template")
    return found


def explain(r, known, used):
    """Letters of the explanations of all faults; "?" for a fault that has none."""
    letters = ""
    for fault in sorted(faults(r)):
        for i, (engine, cases, what, _) in enumerate(known):
            if what == fault and re.fullmatch(engine, r["engine"]) and re.fullmatch(cases, r["case"]):
                used.add(i)
                letters += chr(ord("a") + i)
                break
        else:
            letters += "?"
    return letters


def number(x):
    return "0" if x == 0 else f"{x:.1e}"


def row(group, letters):
    first = group[0]
    cells = [first["engine"], first["version"], first["container"], first["scheme"],
             ", ".join(r["model"] for r in group)]
    fine = [r for r in group if "error" not in r]
    if not fine:
        return cells + ["refused", "", "", letters]
    worst = max(fine, key=lambda r: r["mean"])
    mean = number(worst["mean"])
    if "itself" in worst:
        mean += f"; scales as kernels have them {number(worst['as_kernels'])}; " \
                f"itself in F64 {number(worst['itself'])}"
    if "decoded" in worst:
        mean += f"; with its weights decoded {number(worst['decoded'])}"
    ids = sorted({r["strings"] for r in fine if "strings" in r})
    return cells + [number(max(r["max"] for r in fine)), mean, ", ".join(ids), letters]


def main(results, known_path, cases, document=None):
    known, used, groups, bad, engines = load_known(known_path), set(), {}, 0, set()
    for r in load(results):
        engines.add(r["engine"])
        letters = explain(r, known, used)
        if "?" in letters:
            bad += 1
            print(f"FAILED {r['engine']}: {r['case']}: {', '.join(sorted(faults(r)))}: {r}", file=sys.stderr)
        key = r["engine"], r["version"], r["container"], r["scheme"], letters
        groups.setdefault(key, []).append(r)
    with open(cases, encoding="utf-8") as f:
        names = [line.split("\t")[0] for line in f]
    for i, (engine, pattern, what, _) in enumerate(known):
        ran = any(re.fullmatch(engine, e) for e in engines)
        if i not in used and ran and any(re.fullmatch(pattern, n) for n in names):
            bad += 1
            print(f"FAILED {engine}: {pattern}: {what}: no longer; known.txt is out of date", file=sys.stderr)
    head = ["engine", "version", "container", "scheme", "models", "largest", "mean", "ids equal", "see"]
    lines = [head, ["---"] * len(head)] + [row(g, key[4]) for key, g in groups.items()]
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n\n"
    text += "\n".join(f"- {chr(ord('a') + i)}: {known[i][3]}." for i in sorted(used)) + "\n"
    print(text)
    if document:
        with open(document, encoding="utf-8") as f:
            before, rest = f.read().split(MARKS[0])
        with open(document, "w", encoding="utf-8") as f:
            f.write(before + MARKS[0] + "\n" + text + MARKS[1] + rest.split(MARKS[1])[1])
    print(f"{sum(map(len, groups.values()))} cells, {bad} failed")
    return 1 if bad or not groups else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
