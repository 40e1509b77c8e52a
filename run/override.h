/* SPDX-License-Identifier: MIT */
/* run/override.h - the user's wishes for single tensors: 'REGEX=TYPE'.
 *
 * Regular expressions are Perl's (PCRE2), of which llama-quantize's are a subset. A pattern applies
 * when it is found anywhere in the tensor's GGUF name. */
#ifndef NIB_RUN_OVERRIDE_H
#define NIB_RUN_OVERRIDE_H

#include "base/log.h"
#include "quant/codec.h"

/* A number format that a GGUF tensor can be written in, by name; NIB_EINVAL lists them. */
NIB_MUST_USE nib_code nib_writable_type_find(nib_type *out, const char *name, nib_err *err);

typedef struct nib_overrides nib_overrides;

/* Parse all; the first one that is wrong is named. The texts are borrowed. */
NIB_MUST_USE nib_code nib_overrides_new(nib_overrides **out, const char *const *text, size_t n,
                                        nib_err *err);
void nib_overrides_free(nib_overrides *o); /* accepts NULL */

/* Format by the first override found in `name`; false when none is. As in llama-quantize one that
 * asks for the file type's base format is passed over, and the mix decides. *text is the override.
 */
bool nib_overrides_find(nib_overrides *o, const char *name, nib_type base, nib_type *type,
                        const char **text);

/* Warn about overrides that changed nothing in all the calls of nib_overrides_find(). */
void nib_overrides_warn_unused(const nib_overrides *o, nib_log *log);

#endif
