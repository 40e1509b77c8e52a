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

# The options that a help text has rows for.
options_of() { echo "$1" | sed -n 's/^  [ -][a-zA-Z ][ ,] --\([a-z0-9-]*\).*/\1/p'; }

# Long texts are read by their headings: no more than a dozen rows or so below one.
screen() {
    echo "$1" | awk -v what="$2" 'length > 80 { print what ": line " NR " has " length " columns"; bad = 1 }
        /^[A-Z][A-Za-z -]*:$/ { headings++; rows = 0; heading = $0 }
        /^  [ -].[ ,] --/ && ++rows == 15 { print what ": more than 14 rows below \"" heading "\""; bad = 1 }
        END { if (NR > (headings > 3 ? 70 : 60)) { print what ": " NR " lines"; bad = 1 } exit bad }' ||
        failures=$((failures + 1))
}

# Headings and options of a help text, and of a section of the manual, in their order.
outline_of_help() { echo "$1" | sed -n '/^Example:/d; /^Options:/d; s/^\([A-Z][A-Za-z -]*\):$/\1/p; s/^  [ -].[ ,] --\([a-z0-9-]*\).*/--\1/p'; }
outline_of_manual() { section "$1" | sed -n 's/^\.Em //p; s/^\.It .*Fl -\([a-z0-9-]*\).*/--\1/p'; }

# The part of the manual that is about one command.
section() { sed -n "/^\.Ss nibble $1\$/,/^\.S[sh] /p" "$manual"; }

bash_script=$("$nibble" completion bash) zsh_script=$("$nibble" completion zsh)
screen "$("$nibble" --help)" nibble
common=$(options_of "$("$nibble" --help)")
[ "$(echo "$common" | wc -w)" -ge 6 ] || fail "no options of every command found in 'nibble --help'"
for c in $commands; do
    help=$("$nibble" "$c" --help) || fail "$c --help: status $?"
    screen "$help" "nibble $c"
    case $help in *"Exit status: 0 done, 1 "*) ;; *) fail "$c: exit statuses are missing" ;; esac
    echo "$help" | tail -n 2 | head -n 1 | grep -qx 'Example:' || fail "$c: does not end with an example"
    echo "$help" | tail -n 1 | grep -q "nibble $c" || fail "$c: the example does not show the command"
    [ -n "$(section "$c")" ] || fail "$c: no section '.Ss nibble $c' in the manual"
    echo "$help" | grep -q "^Options of every command" || fail "$c: does not say where the common options are"
    options=$(options_of "$help")
    # shellcheck disable=SC2086
    [ -z "$(printf '%s\n' $options $common | tr -d - | sort | uniq -d)" ] || fail "$c: two options are alike but for dashes"
    [ "$(outline_of_help "$help")" = "$(outline_of_manual "$c")" ] ||
        fail "$c: the manual has not the headings and options of --help, in its order"
    for o in $options $common; do
        if echo "$common" | grep -qx -- "$o"; then
            where=$(sed -n '/^\.Ss Options of every command$/,/^\.S[sh] /p' "$manual")
        else
            where=$(section "$c")
        fi
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
