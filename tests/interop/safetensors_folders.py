# SPDX-License-Identifier: MIT
"""The package safetensors opens folders: each file alone, and all tensors that the index names where it names them.

    safetensors_folders.py FOLDER...

bfloat16 is no type of numpy, so tensors of that type are looked at but not read.
"""
import json
import pathlib
import sys

from safetensors import safe_open

for folder in map(pathlib.Path, sys.argv[1:]):
    where, read = {}, 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "numpy") as f:
            assert f.metadata() == {"format": "pt"}, f"{path}: metadata {f.metadata()}"
            for name in f.keys():
                assert name not in where, f"{path}: {name} is in {where[name]} too"
                where[name] = path.name
                view = f.get_slice(name)
                if view.get_dtype() != "BF16":
                    assert list(f.get_tensor(name).shape) == view.get_shape(), f"{path}: {name}"
                    read += 1
    index = folder / "model.safetensors.index.json"
    if index.exists():
        assert json.loads(index.read_text(encoding="utf-8"))["weight_map"] == where, f"{index}: not what is there"
    assert read, f"{folder}: nothing was read"
    print(f"{folder.name}: {len(where)} tensors, {read} read")
