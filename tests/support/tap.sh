#!/bin/sh
# SPDX-License-Identifier: MIT
# tests/support/tap.sh - run a test program and say "skipped" so that meson understands it.
# CMocka prints a skipped test as "not ok 3 # SKIP name"; meson takes that for a failure, and only "ok 3 # SKIP name"
# for a skipped test. So on a processor without AVX-512 whole programs would fail.
# Now and then LeakSanitizer itself crashes at the end of a program with threads ("Tracer caught signal 11"), before it
# has looked for leaks: then the program runs again, so that it does.
#   tap.sh PROGRAM ARGUMENT...
[ "${CMOCKA_MESSAGE_OUTPUT-}" = TAP ] || exec "$@"
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
for try in 1 2 3; do
    "$@" >"$out/stdout" 2>"$out/stderr"
    status=$?
    grep -q 'LeakSanitizer has encountered a fatal error' "$out/stderr" || break
done
sed 's/^not ok \([0-9]* # SKIP\)/ok \1/' "$out/stdout"
cat "$out/stderr" >&2
exit "$status"
