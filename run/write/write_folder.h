/* SPDX-License-Identifier: MIT */
/* run/write/write_folder.h - write a plan as a folder that other engines load: a packed checkpoint.
 *
 * The packed weights of the plan come from the side file, whoever made them: the solver, or
 * nib_write_rounded(). Everything else is carried along from the source's folder: other tensors in
 * their dtype, tokenizer, generation configuration, chat template, texts. config.json gains what
 * describes the packing. The folder appears under its name when it is whole (base/out_folder.h). */
#ifndef NIB_RUN_WRITE_WRITE_FOLDER_H
#define NIB_RUN_WRITE_WRITE_FOLDER_H

#include "formats/packed_config.h"
#include "run/write/write_gguf.h"
#include "formats/solved_file.h"

/* `note` goes into the configuration. */
NIB_MUST_USE nib_code nib_write_folder(nib_quantize_result *r, const nib_plan *p,
                                       const nib_solved_file *side, const nib_packing_note *note,
                                       const nib_ctx *ctx, nib_err *err);

#endif
