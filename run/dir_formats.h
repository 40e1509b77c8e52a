/* SPDX-License-Identifier: MIT */
/* run/dir_formats.h - how each linear layer of a packed folder is packed: as the recipe has it, or
 * as the user wants it otherwise.
 *
 * Engines run some layers of a block as one, q, k and v, and gate and up. These must be alike. */
#ifndef NIB_RUN_DIR_FORMATS_H
#define NIB_RUN_DIR_FORMATS_H

#include "base/arena.h"
#include "formats/layout_config.h"
#include "run/override.h"
#include "run/plan.h"

/* The format, method and reason of a linear weight of a block; *packed false: it stays as it was.
 * NIB_EINVAL: the folder cannot hold what is wanted. */
NIB_MUST_USE nib_code nib_dir_choose(nib_layout_format *f, bool *packed, nib_plan_tensor *t,
                                     const nib_recipe *r, nib_overrides *o, nib_err *err);

/* NIB_EINVAL names two layers of a planned folder that should be alike. */
NIB_MUST_USE nib_code nib_dir_check_fused(const nib_plan *p, nib_err *err);

/* Add to the note which layers differ from the recipe; strings are in `memory`. */
NIB_MUST_USE nib_code nib_dir_list_exceptions(nib_layout_note *note, const nib_plan *p,
                                              nib_arena *memory, nib_err *err);

#endif
