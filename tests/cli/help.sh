#!/bin/sh
# SPDX-License-Identifier: MIT
# tests/cli/help.sh - every help text fits a screen and says what it must; the manual page agrees with them; the
# completion scripts know every option.
#   help.sh PROGRAM MANUAL
set -u
nibble=$1 manual=$2
failures=0
fail() { echo "$*"; failures=$((failures + 1)); }

commands=$("$nibble" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p')
[ "$(echo "$commands" | wc -w)" -ge 2 ] || fail "no commands found in 'nibble --help'"

screen() {
    echo "$1" | awk -v what="$2" 'length > 80 { print what ": line " NR " has " length " columns"; bad = 1 }
        END { if (NR > 48) { print what ": " NR " lines"; bad = 1 } exit bad }' || failures=$((failures + 1))
}

# The part of the manual that is about one command.
section() { sed -n "/^\.Ss nibble $1\$/,/^\.S[sh] /p" "$manual"; }

bash_script=$("$nibble" completion bash) zsh_script=$("$nibble" completion zsh)
screen "$("$nibble" --help)" nibble
for c in $commands; do
    help=$("$nibble" "$c" --help) || fail "$c --help: status $?"
    screen "$help" "nibble $c"
    case $help in *"Exit status: 0 done, 1 "*) ;; *) fail "$c: exit statuses are missing" ;; esac
    echo "$help" | tail -n 2 | head -n 1 | grep -qx 'Example:' || fail "$c: does not end with an example"
    echo "$help" | tail -n 1 | grep -q "nibble $c" || fail "$c: the example does not show the command"
    [ -n "$(section "$c")" ] || fail "$c: no section '.Ss nibble $c' in the manual"
    options=$(echo "$help" | sed -n 's/^  [ -][a-zA-Z ][ ,] --\([a-z0-9-]*\).*/\1/p')
    [ -n "$options" ] || fail "$c: no options found in its help"
    for o in $options; do
        case $o in
        threads | cpu | verbose | quiet | help | version) where=$(sed -n '/^\.Ss Options of every command$/,/^\.S[sh] /p' "$manual") ;;
        *) where=$(section "$c") ;;
        esac
        echo "$where" | grep -qE "^\.It .*Fl -$o( |$)" || fail "$c: --$o is not in its section of the manual"
        case $bash_script in *" --$o "*) ;; *) fail "$c: bash completion has no --$o" ;; esac
        case $zsh_script in *"--$o"*) ;; *) fail "$c: zsh completion has no --$o" ;; esac
    done
    # and the other way round: nothing in the manual that the program has not
    for o in $(section "$c" | sed -n 's/^\.It .*Fl -\([a-z0-9-]*\).*/\1/p'); do
        echo "$options" | grep -qx -- "$o" || fail "manual: nibble $c has no --$o"
    done
done
for c in $(sed -n 's/^\.Ss nibble \(.*\)/\1/p' "$manual"); do
    echo "$commands" | grep -qx -- "$c" || fail "manual: there is no command '$c'"
done
[ "$failures" = 0 ]
