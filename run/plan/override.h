/* SPDX-License-Identifier: MIT */
/* run/plan/override.h - the user's wishes for single tensors.
 *
 * Three options say them, in this order of precedence:
 *
 *   --override REGEX:KEY=VALUE,...  The pattern is found in the tensor's GGUF name or in its
 *                                   Hugging Face name. Keys are method and skip, for GGUF files
 *                                   also type, for folders bits and group-size.
 *   --tensor-type REGEX=TYPE        As in llama-quantize: GGUF names alone, and one that asks for
 *                                   the file type's base format is passed over: the mix decides.
 *   --protect-blocks K[:HOW]        The first and the last K blocks. HOW is "skip", or a format,
 *                                   for folders a number of bits; without it, the next with more
 *                                   bits.
 *
 * Of each kind the first that applies wins. Regular expressions are Perl's (PCRE2), of which
 * llama-quantize's are a subset, and apply when found anywhere in the name. */
#ifndef NIB_RUN_PLAN_OVERRIDE_H
#define NIB_RUN_PLAN_OVERRIDE_H

#include "base/log.h"
#include "infer/model.h"
#include "run/plan/recipe.h"

/* A number format that a GGUF tensor can be written in, by name; NIB_EINVAL lists them. */
NIB_MUST_USE nib_code nib_writable_type_find(nib_type *out, const char *name, nib_err *err);

/* What is wanted; what is not mentioned stays as it would be. */
typedef struct {
    const char *why;   /* for the plan: "override 'REGEX:...'" */
    bool skip;         /* leave it unquantized                 */
    bool raise;        /* the next format with more bits       */
    nib_type type;     /* NIB_TYPE_COUNT: not mentioned        */
    nib_method method; /* NIB_METHOD_COUNT: not mentioned      */
    unsigned bits;     /* 0: not mentioned                     */
    bool regroup;      /* groups of other columns:             */
    uint64_t group;    /* as in nib_packing              */
} nib_override;

typedef struct nib_overrides nib_overrides;

/* Parse all of the recipe's; the first one that is wrong is named. Recipe and model are borrowed.
 */
NIB_MUST_USE nib_code nib_overrides_new(nib_overrides **out, const nib_recipe *r,
                                        const nib_model *m, nib_err *err);
void nib_overrides_free(nib_overrides *o); /* accepts NULL */

/* The wish for a tensor of the model's source, borrowed; NULL: none. `base` is the file type's, of
 * folders NIB_TYPE_COUNT. NIB_EINVAL: a pattern takes too many steps. */
NIB_MUST_USE nib_code nib_overrides_find(const nib_override **out, nib_overrides *o,
                                         const nib_tensor *t, nib_type base, nib_err *err);

/* Warn about overrides that changed nothing in all the calls of nib_overrides_find(). */
void nib_overrides_warn_unused(const nib_overrides *o, nib_log *log);

#endif
