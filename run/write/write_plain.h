/* SPDX-License-Identifier: MIT */
/* run/write/write_plain.h - write a plan as a plain folder: safetensors as models are published.
 *
 * From a Hugging Face folder, packed or not, all but the weights is carried along; from a GGUF file
 * configuration and tokenizer are rebuilt. The folder appears under its name when it is whole. */
#ifndef NIB_RUN_WRITE_WRITE_PLAIN_H
#define NIB_RUN_WRITE_WRITE_PLAIN_H

#include "run/write/write_gguf.h"

NIB_MUST_USE nib_code nib_write_plain(nib_quantize_result *r, const nib_plan *p, const nib_ctx *ctx,
                                      nib_err *err);

#endif
