#!/bin/sh
# SPDX-License-Identifier: MIT
# tests/support/tap.sh - run a test program and say "skipped" so that meson understands it.
# CMocka prints a skipped test as "not ok 3 # SKIP name"; meson takes that for a failure, and only "ok 3 # SKIP name"
# for a skipped test. So on a processor without AVX-512 whole programs would fail.
#   tap.sh PROGRAM ARGUMENT...
[ "${CMOCKA_MESSAGE_OUTPUT-}" = TAP ] || exec "$@"
exec 4>&1
status=$({ { "$@"; echo $? >&3; } | sed 's/^not ok \([0-9]* # SKIP\)/ok \1/' >&4; } 3>&1)
exit "$status"
