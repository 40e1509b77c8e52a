# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Sourced where llama.cpp is compared with nibble.

# Bounds of the mean absolute difference of log-probabilities: llama.cpp rounds activations to the
# weights' 16 bits, or to 8 bits where weights are quantized, nibble does not. With F32 both do the same, but for
# GELU (f32-gelu), which llama.cpp looks up in a table of half floats: 2^-11 of each gate, twice that for the sum of both
# layers.
#
#   bound TYPE
bound() {
    case $1 in
    f32) echo 0.0001 ;;
    f32-gelu) echo 0.001 ;;
    f16 | bf16 | q8_0) echo 0.02 ;;
    *) echo 0.05 ;;
    esac
}
