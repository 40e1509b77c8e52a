/* SPDX-License-Identifier: MIT */
/* formats/gguf_factor.c - factors of whole weights in GGUF files. A format whose scales are 8-bit
 * floats, as NVFP4's, has a scale of the matrix as a tensor of its own beside it, "X.scale" beside
 * "X.weight", F32 [1], or [experts] beside a stack of these, and engines multiply what the matrix
 * makes by it. Tests: tests/formats/test_gguf.c, tests/run/test_convert.c. */
#include "base/str.h"
#include "formats/gguf_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* "X.weight" of "X.scale"; NULL: the tensor is no factor of any. */
static nib_tensor *weight_of(const nib_tensors *ts, const nib_tensor *t)
{
    static const char own[] = ".scale";
    char name[NIB_GGUF_NAME_MAX + sizeof ".weight"];
    if (!nib_ends_with(t->name, own)) return NULL;
    const int stem = (int)(strlen(t->name) - (sizeof own - 1));
    snprintf(name, sizeof name, "%.*s.weight", stem, t->name);
    const nib_tensor *found = nib_tensors_find(ts, name);
    return found ? &ts->v[found - ts->v] : NULL;
}

static nib_code take(nib_tensors *ts, const nib_file *file, nib_tensor *scale, nib_tensor *weight,
                     nib_err *err)
{
    char has[96];
    const uint64_t n = weight->n_dims > 2 ? weight->shape[0] : 1, rows = nib_tensor_rows(weight);
    if (scale->codec->type != NIB_F32 || nib_tensor_elems(scale) != n || !n || rows < n)
        return nib_fail(err, NIB_EFORMAT,
                        "tensor '%s': %s %s, should be f32 [%llu], a factor of each matrix of '%s'",
                        scale->name, scale->codec->name,
                        nib_tensor_shape_str(scale, has, sizeof has), (unsigned long long)n,
                        weight->name);
    float *factor = nib_arena_alloc(&ts->names, (size_t)n, sizeof *factor, sizeof *factor);
    if (!factor) return nib_fail_nomem(err, "factors of weights");
    nib_code rc =
        nib_file_read(&file[scale->file], scale->offset, factor, (size_t)n * sizeof *factor, err);
    for (uint64_t i = 0; i < n && !rc; i++)
        if (!isfinite(factor[i]))
            rc = nib_fail(err, NIB_EFORMAT, "tensor '%s': factor %llu is not finite", scale->name,
                          (unsigned long long)i);
    weight->factor = factor;
    weight->factor_rows = rows / n;
    scale->is_factor = true;
    return rc;
}

nib_code nib_gguf_take_factors(nib_tensors *ts, const nib_file *file, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < ts->n && !rc; i++) {
        nib_tensor *weight = weight_of(ts, &ts->v[i]);
        if (!weight) continue;
        rc = take(ts, file, &ts->v[i], weight, err);
        if (rc) return nib_wrap_file(err, &file[ts->v[i].file]);
    }
    return rc;
}
