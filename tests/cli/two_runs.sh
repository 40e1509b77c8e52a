#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tests/cli/two_runs.sh - two runs at once with one target: the second is refused and says who holds it, the first
# writes what it would have written alone; a killed one holds nothing.
#   two_runs.sh PROGRAM DATA
# The first run is made to wait for its text, a FIFO, so the two do meet.
set -u
nibble=$1 model=$2/tiny-llama failures=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
mkfifo pipe
mkdir text
head -c 20000 "$2/eval.txt" >text/pipe # statistics hold the names of their texts
text=text/pipe

fail() {
    echo "FAILED: $*"
    failures=1
}

# start TARGET COMMAND...: the run that waits, as $pid.
start() {
    "$nibble" "${@:2}" --text pipe -o "$1" --quiet >out1 2>err1 &
    pid=$!
    for _ in $(seq 300); do
        [ -s "$(dirname "$1")/.$(basename "$1").nibble-lock" ] && return
        sleep 0.1
    done
    fail "$*: no lock was taken: $(cat err1)"
}

# refused TARGET COMMAND...: another run of it.
refused() {
    "$nibble" "${@:2}" --text "$text" -o "$1" --quiet >out2 2>err2 && fail "$*: worked while another run did"
    grep -q "process $pid on host" err2 || fail "$*: says: $(cat err2)"
}

# meet TARGET COMMAND...: the whole, for one command.
meet() {
    "$nibble" "${@:2}" --text "$text" -o "$1" --quiet >/dev/null || fail "$*: does not work alone"
    mv "$1" alone
    start "$@"
    refused "$@"
    refused "$@" --force
    ln -sfn "$1" link # another name of the same target
    refused link "${@:2}" --force
    cat "$text" >pipe
    wait "$pid" || fail "$*: the first run failed: $(cat err1)"
    diff -r alone "$1" >/dev/null || fail "$*: the first run wrote something else"
    rm -r link "$1"

    start "$@"
    kill -KILL "$pid"
    wait "$pid" 2>/dev/null
    "$nibble" "${@:2}" --text "$text" -o "$1" --quiet >/dev/null 2>err1 || fail "$*: after a killed run: $(cat err1)"
    diff -r alone "$1" >/dev/null || fail "$*: after a killed run it wrote something else"
    rm -r alone "$1"
    left=$(find . -name '*nibble*')
    [ -z "$left" ] || fail "$*: left behind: $left"
}

solve=(--method gptq --samples 4 --ctx 64 --sweeps 1)
meet m.gguf quantize "$model" --type q4_0 "${solve[@]}"
meet folder quantize "$model" --format gptq "${solve[@]}"
meet s.gguf calibrate "$model" -n 2 -c 64
meet r.json calibrate "$model" -n 2 -c 64 --activations minmax
meet stats calibrate "$model" -n 2 -c 64 --hessians
exit "$failures"
