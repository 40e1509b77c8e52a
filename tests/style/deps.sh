#!/bin/sh
# SPDX-License-Identifier: MIT
# tests/style/deps.sh - packages are installed where that is expected, and nowhere else.
#   deps.sh ROOT
# The programs that would look and install are stand-ins that write down how they were called.
set -u
root=$1
cd "$root" || exit 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
for program in apt-get sudo; do
    printf '#!/bin/sh\necho %s "$@" >>%s/calls\n' "$program" "$work" >"$work/$program"
done
printf '#!/bin/sh\n[ "$MISSING" != "$4" ] && echo "install ok installed"\n' >"$work/dpkg-query"
printf '#!/bin/sh\necho $ID\n' >"$work/id"
chmod +x "$work"/*

# deps STATUS CALLS NAME=VALUE... -- WORD...: how it ends, and what it called ("" for nothing)
deps() {
    status=$1 calls=$2 settings=
    shift 2
    while [ "$1" != -- ]; do settings="$settings $1"; shift; done
    shift
    : >"$work/calls"
    # shellcheck disable=SC2086
    env -u CI PATH="$work:$PATH" ID=1000 MISSING=meson $settings sh scripts/deps.sh "$@" >"$work/said" 2>&1 </dev/null
    got=$?
    called=$(sed -n 's/.*install.* \([a-z0-9-]*\)$/\1/p; 1s/ .*//p' "$work/calls" | sort -u | tr '\n' ' ')
    [ "$got $called" = "$status $calls" ] && return
    echo "deps.sh $* with$settings: status $got, called '$called'; expected $status, '$calls'"
    cat "$work/said" "$work/calls"
    failures=$((failures + 1))
}
deps 0 "" MISSING=none --
deps 1 "" -- --say
deps 1 "" ID=0 -- --say
deps 1 "" -- # nobody to ask
deps 0 "apt-get meson " ID=0 --
deps 0 "meson sudo " CI=true --
deps 0 "meson sudo " -- --install
deps 0 "libomp-dev sudo " MISSING=libomp-dev -- --install clang
deps 1 "" -- --say
grep -q 'sudo apt-get install meson$' "$work/said" || { echo "does not say how to install:"; cat "$work/said"; failures=1; }

# which goal asks how
for goal in all:say build:say install:say deps:install demo:ask check:ask bench:ask; do
    make -n BUILD="$work/none" "${goal%:*}" 2>&1 | grep -q "deps.sh --${goal#*:}" ||
        { echo "make ${goal%:*} does not run deps.sh --${goal#*:}"; failures=1; }
done
[ "$failures" = 0 ]
