/* SPDX-License-Identifier: MIT */
/* run/plan/gguf_tensors.h - the tensors of a GGUF file as a Hugging Face folder has them. */
#ifndef NIB_RUN_PLAN_GGUF_TENSORS_H
#define NIB_RUN_PLAN_GGUF_TENSORS_H

#include "run/plan/plan.h"

/* Begins a plan with all of them, in the order of the file: place, name, shape, and where they come
 * from, which is a view in p->view. Rows of q and k in the folder's order, norms without the 1 that
 * the class adds, a stack of experts as one tensor for each; none for the angles' divisors, which
 * the configuration has. NIB_EFORMAT, NIB_EINVAL: configuration, tokenizer or a tensor have no form
 * in folders of this architecture. */
NIB_MUST_USE nib_code nib_plan_list_gguf(nib_plan *p, nib_err *err);

#endif
