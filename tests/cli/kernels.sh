#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tests/cli/kernels.sh - OpenBLAS's kernels are good ones for the processor, and the user's where the user has said so.
#   kernels.sh PROGRAM DATA LIBRARY
# LIBRARY is preloaded to have OpenBLAS say that it took the oldest kernels.
set -u
nibble=$1 model=$2/tiny-llama library=$3 failures=0
unset OPENBLAS_CORETYPE

has() { grep -qw "$1" /proc/cpuinfo; }

# expect KERNELS [NAME=VALUE]...: what --verbose says under that environment; KERNELS is a pattern.
expect() {
    local kernels=$1 said
    shift
    said=$(echo Once | env "$@" "$nibble" tokenize "$model" --verbose 2>&1 >/dev/null | sed -n "s/^matrix products by OpenBLAS's \\(.*\\) kernels$/\\1/p")
    [[ $said =~ ^($kernels)$ ]] && return
    echo "with '$*': '$said', should be $kernels"
    failures=1
}

if ! has avx2 || ! has fma; then
    echo "skipped: the processor has no AVX2, so any kernels will do"
    exit 77
fi
good=Haswell any='Haswell|Zen|Excavator'
if has avx512f && has avx512bw && has avx512dq && has avx512vl; then good=SkylakeX any=SkylakeX; fi

expect "$any"
expect "$good" LD_PRELOAD="$library"
expect Sandybridge OPENBLAS_CORETYPE=Sandybridge
expect Sandybridge OPENBLAS_CORETYPE=Sandybridge OMP_WAIT_POLICY=active
expect "$good" LD_PRELOAD="$library" OMP_WAIT_POLICY=active
exit "$failures"
