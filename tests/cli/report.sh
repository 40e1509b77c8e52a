#!/bin/sh
# SPDX-License-Identifier: MIT
# tests/cli/report.sh - the page that compare writes: well-formed, alone, nothing of a name is markup, every chart has marks.
#   report.sh PROGRAM DATA
set -u
nibble=$1 data=$2
command -v python3 >/dev/null || { echo "skipped: python3 is not installed, which reads XML here"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
fail() { echo "$*"; exit 1; }

head -c 9000 "$data/eval.txt" >a.txt
tail -c 9000 "$data/eval.txt" >b.txt
"$nibble" quantize "$data/tiny-llama" -o q8.gguf --type q8_0 -q >/dev/null || fail "q8_0"
"$nibble" quantize "$data/tiny-llama" -o '<b>&"q.gguf' --type q2_k -q >/dev/null || fail "q2_k"
"$nibble" compare "$data/tiny-llama" --text 'x<y=a.txt' -c 64 --chunks 2 --kl-divergence-base ref.kld -q >/dev/null || fail "base"
"$nibble" compare "$data/tiny-llama" q8.gguf '<b>&"q.gguf' --text 'x<y=a.txt' --text z=b.txt -c 64 --chunks 2 --noise-floor \
    --max-kl 0.01 --report all.html -q >/dev/null 2>&1
[ $? = 3 ] || fail "with limits: status $?"
"$nibble" compare ref.kld q8.gguf --report file.html -q >/dev/null || fail "a base file"
"$nibble" compare "$data/tiny-llama" "$data/tiny-llama" --text a.txt -c 64 --chunks 2 --report same.html -q >/dev/null || fail "the same"
"$nibble" quantize "$data/tiny-llama" -o packed --format gptq -q >/dev/null || fail "gptq"
"$nibble" compare "$data/tiny-llama" packed --text a.txt -c 64 --chunks 2 --report packed.html -q >/dev/null || fail "a folder"
"$nibble" compare ref.kld ref.kld --report files.html -q >/dev/null || fail "files alone"

cat >check.py <<'END'
import re
import sys
import xml.etree.ElementTree as tree

def page(path):
    text = open(path, encoding="utf-8").read()
    root = tree.fromstring(text)  # well-formed, or an error
    for bad in ("<script", "src=", "href=", "url(", "@import", "<b>&\"q"):
        assert bad not in text, (path, bad)
    assert not re.search(r'="[^"]*\b(nan|-?inf)\b[^"]*"', text), path
    return root, text

def tags(root, name):
    return [e for e in root.iter() if e.tag.split("}")[1] == name]

def marks(svg):
    return [e for e in svg.iter() if "mark" in e.get("class", "").split()]

def inside(svg):
    """Rectangles and marks lie in the drawing."""
    x, y, w, h = map(float, svg.get("viewBox").split())
    for e in svg.iter():
        if e.tag.endswith("rect"):
            a, b = float(e.get("x")), float(e.get("y"))
            assert x <= a <= a + float(e.get("width")) <= x + w + 1, e.attrib
            assert y <= b <= b + float(e.get("height")) <= y + h + 1, e.attrib

def check(path, charts):
    root, text = page(path)
    svgs = tags(root, "svg")
    labels = {}
    for svg in svgs:
        assert marks(svg), (path, svg.get("aria-label"))
        inside(svg)
        labels[svg.get("aria-label")] = labels.get(svg.get("aria-label"), 0) + 1
    labels.pop(None, None)  # of the legend
    assert labels == charts, (path, labels)
    return root, "".join(root.itertext())

root, text = check("all.html", {
    "divergence against size": 2, "divergence over tokens": 4, "errors of weights by block and role": 2,
    "values of all weights before and after": 2, "inputs of the worst matrix": 2, "weights of one block before and after": 2})
for part in ("q8.gguf", '<b>&"q.gguf', "x<y", "noise floor", "1 of 2 models are within all limits",
             "is above --max-kl 0.01", "--text 'x<y=a.txt' --text z=b.txt --protocol llama.cpp --ctx 64 --chunks 2"):
    assert part in text, part
maps = [s for s in tags(root, "svg") if s.get("aria-label") == "errors of weights by block and role"]
assert [len(marks(s)) for s in maps] == [28, 28], "4 blocks of 7 linears"
assert len(tags(root, "mark")) == 2 * 2 * 4, "the worst tokens"
_, text = check("file.html", {"divergence against size": 1, "divergence over tokens": 1})
assert "a file of what a model predicts is without weights" in text
_, text = check("same.html", {"divergence against size": 1, "divergence over tokens": 1})
assert "No token differs" in text and "All weights of the blocks are the base's" in text
_, text = check("packed.html", {
    "divergence against size": 1, "divergence over tokens": 1, "errors of weights by block and role": 1,
    "values of all weights before and after": 1, "inputs of the worst matrix": 1, "weights of one block before and after": 1})
assert re.search('Made by {.*"bits" ?: ?4', text), "how the folder was made"
check("files.html", {"divergence over tokens": 1})
END
python3 check.py || fail "the page is not as it should be"
