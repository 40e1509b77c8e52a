/* SPDX-License-Identifier: MIT */
/* run/plan/folder_layers.h - how each linear layer of a packed folder is packed: as the recipe has
 * it, or as the user wants it otherwise. Embedding and output matrix are packed where the user says
 * so, in compressed-tensors folders.
 *
 * Engines run some layers of a block as one, q, k and v, and gate and up. These must be alike. */
#ifndef NIB_RUN_PLAN_FOLDER_LAYERS_H
#define NIB_RUN_PLAN_FOLDER_LAYERS_H

#include "base/arena.h"
#include "formats/packed_config.h"
#include "run/plan/override.h"
#include "run/plan/plan.h"

/* The format, method and reason of a tensor; *packed false: it stays as it was. NIB_EINVAL: the
 * folder cannot hold what is wanted. */
NIB_MUST_USE nib_code nib_folder_choose(nib_packing *f, bool *packed, nib_plan_tensor *t,
                                        const nib_plan *p, nib_overrides *o, nib_err *err);

/* The tensors of a planned folder that engines run as one with this one, it among them; how many.
 */
size_t nib_folder_together(const nib_plan_tensor *out[NIB_FUSED_MAX], const nib_plan *p,
                           const nib_plan_tensor *t);
/* The format to round a tensor of a planned folder in: its own or, where weights that engines run
 * as one share a scale (nib_packing_common()), in *own that for this largest magnitude of them all.
 */
const nib_codec *nib_folder_codec(nib_int_codec *own, const nib_plan_tensor *t, float largest);

/* NIB_EINVAL names two layers of a planned folder that should be alike. */
NIB_MUST_USE nib_code nib_folder_check_fused(const nib_plan *p, nib_err *err);

/* Add to the note which layers differ from the recipe; strings are in `memory`. */
NIB_MUST_USE nib_code nib_folder_list_exceptions(nib_packing_note *note, const nib_plan *p,
                                                 nib_arena *memory, nib_err *err);

#endif
