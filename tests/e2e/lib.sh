# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Sourced by the end-to-end tests: a scratch folder of their own, and checks that count failures.
#
#   . lib.sh SOURCE_ROOT BUILD_ROOT

src=$1 build=$2
nibble=$build/nibble tiny=$src/data/tiny-llama
work=$(mktemp -d "$build/e2e-XXXXXX")
failures=0
cleanup() { rm -rf "$work"; }
trap cleanup EXIT

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

skip() {
    echo "skipped: $*"
    exit 77
}

finish() { [ "$failures" = 0 ]; }

# The folder holds exactly these files.
expect_only() {
    local dir=$1 found wanted
    shift
    found=$(ls -A "$dir") wanted=$(printf '%s\n' "$@" | sort)
    [ "$found" = "$wanted" ] || fail "$dir holds: $found; should hold: $wanted"
}

# holds EXPRESSION: a comparison of numbers, by awk.
holds() { awk "BEGIN { exit !($1) }"; }
