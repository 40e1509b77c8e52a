#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The schema of recipes (docs/batch.schema.json), read by the Python package jsonschema, and nibble say the same of recipes,
# good and bad.
#
#   recipes.sh SOURCE_ROOT BUILD_ROOT
set -euo pipefail
src=$1 build=$2
. "$src/tests/interop/pip.sh"
pip_install "$src/tests/interop/requirements.txt" "$build/interop-python"
work=$(mktemp -d "$build/recipes-XXXXXX")
trap 'rm -rf "$work"' EXIT
"$build/interop-python/bin/python" "$src/tests/interop/recipes.py" "$build/nibble" "$src" "$work"
