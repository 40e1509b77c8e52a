/* SPDX-License-Identifier: MIT */
/* run/dir.h - write a plan as a folder that other engines load: a packed checkpoint.
 *
 * The packed weights of the plan come from the side file, whoever made them: the solver, or
 * nib_dir_round(). Everything else is carried along from the source's folder: other tensors in
 * their dtype, tokenizer, generation configuration, chat template, texts. config.json gains what
 * describes the packing. The folder appears under its name when it is whole (run/stage.h). */
#ifndef NIB_RUN_DIR_H
#define NIB_RUN_DIR_H

#include "formats/layout_config.h"
#include "run/quantize.h"
#include "run/side.h"

/* Can the target be written? Part of planning. */
NIB_MUST_USE nib_code nib_dir_check(const nib_plan *p, nib_err *err);

/* Round every packed weight of the plan to nearest, into `side`. */
NIB_MUST_USE nib_code nib_dir_round(nib_side *side, const nib_plan *p, const nib_ctx *ctx,
                                    nib_err *err);

/* `note` goes into the configuration. */
NIB_MUST_USE nib_code nib_dir_write(nib_quantize_result *r, const nib_plan *p, const nib_side *side,
                                    const nib_layout_note *note, const nib_ctx *ctx, nib_err *err);

#endif
