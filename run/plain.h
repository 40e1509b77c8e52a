/* SPDX-License-Identifier: MIT */
/* run/plain.h - write a plan as a plain folder: safetensors as models are published.
 *
 * From a Hugging Face folder, packed or not, all but the weights is carried along; from a GGUF file
 * configuration and tokenizer are rebuilt. The folder appears under its name when it is whole. */
#ifndef NIB_RUN_PLAIN_H
#define NIB_RUN_PLAIN_H

#include "run/quantize.h"

NIB_MUST_USE nib_code nib_plain_write(nib_quantize_result *r, const nib_plan *p, const nib_ctx *ctx,
                                      nib_err *err);

#endif
