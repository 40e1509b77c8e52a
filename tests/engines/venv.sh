# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Sourced by engines.sh: "venv", a Python environment with the engines, outside the source tree and kept between runs
# until requirements.txt changes. Several gigabytes: torch comes from the index with libraries for graphics cards.
venv=${NIBBLE_ENGINES:-${XDG_CACHE_HOME:-$HOME/.cache}/nibble-engines/venv}

# GPTQModel asks for a torch and a Transformers newer than llmcompressor allows, and runs with these too.
gptqmodel=gptqmodel==7.7.0

if ! { cat "$here/requirements.txt" && echo "$gptqmodel"; } | cmp -s - "$venv/installed.txt"; then
    echo "building $venv" >&2
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --requirement "$here/requirements.txt"
    "$venv/bin/pip" install --quiet --no-deps "$gptqmodel"
    { cat "$here/requirements.txt" && echo "$gptqmodel"; } >"$venv/installed.txt"
fi
