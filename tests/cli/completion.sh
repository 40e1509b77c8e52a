#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tests/cli/completion.sh - the completion scripts parse, and bash's offers what it should.
#   completion.sh PROGRAM
set -u
nibble=$1 failures=0
"$nibble" completion bash | bash -n || failures=1
if command -v zsh >/dev/null; then
    "$nibble" completion zsh | zsh -n || failures=1
fi
source <("$nibble" completion bash)

# offers WORDS... -- EXPECTED...: completing the last word gives these among others.
offers() {
    COMP_WORDS=()
    while [ "$1" != -- ]; do COMP_WORDS+=("$1"); shift; done
    shift
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _nibble 2>/dev/null
    local want got=" ${COMPREPLY[*]-} "
    for want in "$@"; do
        [[ $got == *" $want "* ]] || { echo "${COMP_WORDS[*]}: no '$want' among:$got"; failures=1; }
    done
    [ $# -gt 0 ] || [ "$got" = "  " ] || { echo "${COMP_WORDS[*]}: nothing expected, but:$got"; failures=1; }
}
offers nibble per -- perplexity
offers nibble perplexity --pro -- --protocol
offers nibble perplexity --protocol w -- window
offers nibble compare --pro -- --protocol
offers nibble perplexity --cpu '' -- c avx2 avx512 vnni native
offers nibble perplexity -- perplexity
offers nibble perplexity model --text '' --
offers nibble quantize --type q4_k -- q4_k_m q4_k_s
offers nibble quantize -t iq4 -- iq4_nl iq4_xs
offers nibble tokenize - -- --ids --decode -d --help -h
exit "$failures"
