#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tests/cli/waiting.sh - threads sleep while they wait, unless the user wants otherwise.
#   waiting.sh PROGRAM DATA
# What OpenMP is told is seen in the environment of a run that waits for its input.
set -u
nibble=$1 model=$2/tiny-llama failures=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkfifo "$work/in"

# expect POLICY [NAME=VALUE | -u NAME]...: a run under that environment comes to have POLICY, and keeps its name.
expect() {
    local policy=$1 pid seen=
    shift
    env "$@" "$nibble" tokenize "$model" <"$work/in" >"$work/out" &
    pid=$!
    exec 3>"$work/in"
    for _ in $(seq 100); do
        seen="$(cat "/proc/$pid/comm") $(tr '\0' '\n' <"/proc/$pid/environ" | grep ^OMP_WAIT_POLICY=)"
        [ "$seen" = "nibble OMP_WAIT_POLICY=$policy" ] && break
        sleep 0.1
    done
    echo Once >&3
    exec 3>&-
    wait "$pid" && [ "$seen" = "nibble OMP_WAIT_POLICY=$policy" ] && grep -q nce "$work/out" && return
    echo "with $*: '$seen', should be 'nibble OMP_WAIT_POLICY=$policy'"
    failures=1
}

expect passive -u OMP_WAIT_POLICY
expect active OMP_WAIT_POLICY=active
exit "$failures"
