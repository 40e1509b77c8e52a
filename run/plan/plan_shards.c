/* SPDX-License-Identifier: MIT */
/* run/plan/plan_shards.c - the order of a folder's tensors, and which file holds which.
 * Tests: tests/run/test_write_folder.c. */
#include "run/plan/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MANY_FILES = 99999, PATH_EXTRA = 64 };

static const uint64_t FILE_MAX = 5000000000;

/* Names of buffers that nobody reads may be cut short in the plan, those in the source are not. */
static int by_place(const void *a, const void *b)
{
    const nib_plan_tensor *s = a, *t = b;
    int64_t i = s->place.role < NIB_ROLE_FIRST_BLOCK ? -1 : (int64_t)s->place.layer;
    int64_t k = t->place.role < NIB_ROLE_FIRST_BLOCK ? -1 : (int64_t)t->place.layer;
    if (i != k) return i < k ? -1 : 1;
    const int name = strcmp(s->name, t->name);
    return name ? name : strcmp(s->src->name, t->src->name);
}

void nib_plan_sort(nib_plan *p)
{
    qsort(p->tensor, p->n, sizeof *p->tensor, by_place);
}

/* Tensors to files in order, none beyond the limit unless one tensor alone is. */
static nib_code share_out(nib_plan *p, nib_err *err)
{
    nib_output_files *l = &p->layout;
    const uint64_t most = p->recipe.split_max ? p->recipe.split_max : FILE_MAX;
    l->file_of = nib_calloc(p->n, sizeof *l->file_of);
    l->file_bytes = nib_calloc(p->n, sizeof *l->file_bytes);
    l->bytes = nib_calloc(p->n, sizeof *l->bytes);
    if (!l->file_of || !l->file_bytes || !l->bytes) return nib_fail_nomem(err, "a plan");
    size_t f = 0;
    for (size_t i = 0; i < p->n; i++) {
        uint64_t bytes = l->bytes[i] = p->tensor[i].bytes;
        if (l->file_bytes[f] && l->file_bytes[f] + bytes > most) f++;
        l->file_bytes[f] += bytes;
        l->file_of[i] = (uint32_t)f;
        l->total_bytes += bytes;
    }
    l->n_files = f + 1;
    if (l->n_files > MANY_FILES)
        return nib_fail(err, NIB_EINVAL, "--max-shard-size: %zu files; at most %d", l->n_files,
                        MANY_FILES);
    return NIB_OK;
}

static nib_code name_files(nib_plan *p, nib_err *err)
{
    nib_output_files *l = &p->layout;
    const char *out = p->recipe.out ? p->recipe.out : "model";
    const size_t room = strlen(out) + PATH_EXTRA;
    if (!(l->file_path = nib_calloc(l->n_files, sizeof *l->file_path)))
        return nib_fail_nomem(err, "a plan");
    for (size_t i = 0; i < l->n_files; i++) {
        if (!(l->file_path[i] = nib_alloc(room, 1))) return nib_fail_nomem(err, "a path");
        if (l->n_files == 1)
            snprintf(l->file_path[i], room, "%s/model.safetensors", out);
        else
            snprintf(l->file_path[i], room, "%s/model-%05zu-of-%05zu.safetensors", out, i + 1,
                     l->n_files);
    }
    return NIB_OK;
}

nib_code nib_plan_shards(nib_plan *p, nib_err *err)
{
    nib_code rc = share_out(p, err);
    return rc ? rc : name_files(p, err);
}
