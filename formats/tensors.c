/* SPDX-License-Identifier: MIT */
/* formats/tensors.c - see tensors.h; also the small questions about one tensor of source.h.
 * Tests: tests/formats/test_gguf_bad.c, tests/formats/test_hf.c. */
#include "formats/tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool grow(nib_tensors *ts, size_t cap)
{
    nib_tensor *v = nib_grow(ts->v, ts->n, cap, sizeof *v);
    if (!v) return false;
    ts->v = v;
    ts->cap = cap;
    return true;
}

nib_code nib_tensors_reserve(nib_tensors *ts, size_t n, nib_err *err)
{
    size_t want;
    if (nib_add(ts->n, n, &want) && (want <= ts->cap || grow(ts, want))) return NIB_OK;
    return nib_fail_nomem(err, "the list of tensors");
}

nib_tensor *nib_tensors_add(nib_tensors *ts, const char *name, size_t n_name)
{
    if (ts->n == ts->cap && !grow(ts, ts->cap ? ts->cap * 2 : 64)) return NULL;
    char *copy = nib_arena_str(&ts->names, name, n_name);
    if (!copy) return NULL;
    nib_tensor *t = &ts->v[ts->n++];
    *t = (nib_tensor){.name = copy};
    return t;
}

static int by_name(const void *a, const void *b)
{
    const nib_tensor *x = *(const nib_tensor *const *)a, *y = *(const nib_tensor *const *)b;
    int d = strcmp(x->name, y->name);
    return d ? d : (x > y) - (x < y);
}

nib_code nib_tensors_index(nib_tensors *ts, const nib_tensor *twice[2], nib_err *err)
{
    twice[0] = twice[1] = NULL;
    ts->sorted = nib_alloc(ts->n, sizeof *ts->sorted);
    if (!ts->sorted) return nib_fail_nomem(err, "the list of tensors");
    for (size_t i = 0; i < ts->n; i++) ts->sorted[i] = &ts->v[i];
    qsort(ts->sorted, ts->n, sizeof *ts->sorted, by_name);
    for (size_t i = 1; i < ts->n && !twice[0]; i++)
        if (!strcmp(ts->sorted[i - 1]->name, ts->sorted[i]->name)) {
            twice[0] = ts->sorted[i - 1];
            twice[1] = ts->sorted[i];
        }
    return NIB_OK;
}

const nib_tensor *nib_tensors_find(const nib_tensors *ts, const char *name)
{
    size_t low = 0, high = ts->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int d = strcmp(name, ts->sorted[mid]->name);
        if (!d) return ts->sorted[mid];
        if (d < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

static int by_string(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char *nib_names_twice(const char **names, size_t n)
{
    if (n) qsort(names, n, sizeof *names, by_string);
    for (size_t i = 1; i < n; i++)
        if (!strcmp(names[i - 1], names[i])) return names[i];
    return NULL;
}

void nib_tensors_free(nib_tensors *ts)
{
    nib_free(ts->v);
    nib_free(ts->sorted);
    nib_arena_free(&ts->names);
    *ts = (nib_tensors){0};
}

/* ---- one tensor ---- */

bool nib_shape_elems(const uint64_t *shape, int n_dims, uint64_t *elems)
{
    uint64_t n = 1;
    for (int i = 0; i < n_dims; i++)
        if (__builtin_mul_overflow(n, shape[i], &n) || n > INT64_MAX) return false;
    *elems = n;
    return true;
}

uint64_t nib_tensor_cols(const nib_tensor *t)
{
    return t->n_dims ? t->shape[t->n_dims - 1] : 1;
}

uint64_t nib_tensor_rows(const nib_tensor *t)
{
    uint64_t n = 1;
    for (int i = 0; i + 1 < t->n_dims; i++) n *= t->shape[i];
    return n;
}

uint64_t nib_tensor_elems(const nib_tensor *t)
{
    return nib_tensor_rows(t) * nib_tensor_cols(t);
}

char *nib_tensor_shape_str(const nib_tensor *t, char *buf, size_t n)
{
    size_t at = (size_t)snprintf(buf, n, "[");
    for (int i = 0; i < t->n_dims && at < n; i++)
        at += (size_t)snprintf(buf + at, n - at, "%s%llu", i ? ", " : "",
                               (unsigned long long)t->shape[i]);
    if (at < n) snprintf(buf + at, n - at, "]");
    return buf;
}

/* ---- errors ---- */

bool nib_is_lfs_pointer(const void *p, size_t n)
{
    static const char start[] = "version https://git-lfs";
    return n >= sizeof start - 1 && !memcmp(p, start, sizeof start - 1);
}

nib_code nib_fail_lfs(nib_err *err)
{
    return nib_fail(err, NIB_EFORMAT,
                    "a git-lfs pointer, not the file itself; fetch it with 'git lfs pull'");
}

nib_code nib_wrap_file(nib_err *err, const nib_file *f)
{
    return err->code == NIB_EIO ? NIB_EIO : nib_wrap(err, "%s", f->path);
}

nib_tensor nib_tensor_slice(const nib_tensor *t, uint64_t row, uint64_t n, const char *name)
{
    nib_tensor view = *t;
    const uint64_t row_bytes = t->bytes / nib_tensor_rows(t);
    view.name = name;
    view.n_dims = 2;
    view.shape[1] = nib_tensor_cols(t);
    view.shape[0] = n;
    view.offset += row * row_bytes;
    view.bytes = n * row_bytes;
    if (t->factor) { /* a slice begins where a factor does, or lies in one's rows */
        view.factor += row / t->factor_rows;
        if (n < t->factor_rows) view.factor_rows = n;
    }
    return view;
}

/* A view's bytes are those that its weights take where they are stored, as far as they can be told
 * apart. */
static nib_tensor view_of(const nib_tensor *t, uint64_t rows, uint64_t cols, const char *name)
{
    return (nib_tensor){.name = name,
                        .codec = t->codec,
                        .n_dims = 2,
                        .shape = {rows, cols},
                        .bytes = t->bytes / nib_tensor_elems(t) * rows * cols,
                        .of = t};
}

nib_tensor nib_tensor_rows_of(const nib_tensor *t, uint64_t row, uint64_t n, uint64_t step,
                              const char *name)
{
    nib_tensor view = view_of(t, n, nib_tensor_cols(t), name);
    view.of_row = row;
    view.of_step = step;
    return view;
}

nib_tensor nib_tensor_columns_of(const nib_tensor *t, const uint32_t *order, const char *name)
{
    nib_tensor view = nib_tensor_rows_of(t, 0, nib_tensor_rows(t), 1, name);
    view.of_col = order;
    if (t->n_dims < 2) { /* a vector stays one */
        view.n_dims = t->n_dims;
        view.shape[0] = nib_tensor_cols(t);
    }
    return view;
}

nib_tensor nib_tensor_turned(const nib_tensor *t, uint64_t row, uint64_t n, const char *name)
{
    nib_tensor view = view_of(t, nib_tensor_cols(t), n, name);
    view.of_row = row;
    return view;
}

nib_tensor nib_tensor_stack(const nib_tensor *part, size_t n, const char *name)
{
    nib_tensor all = {.name = name,
                      .codec = part->codec,
                      .n_dims = 2,
                      .shape = {0, nib_tensor_cols(part)},
                      .part = part,
                      .n_parts = n};
    for (size_t i = 0; i < n; i++) {
        all.shape[0] += nib_tensor_rows(&part[i]);
        all.bytes += part[i].bytes;
    }
    return all;
}

nib_tensor nib_tensor_strided(const nib_tensor *t, uint64_t first, uint64_t rows, uint64_t cols,
                              uint64_t row_step, uint64_t col_step, const char *name)
{
    nib_tensor view = *t;
    view.name = name;
    view.n_dims = 2;
    view.shape[0] = rows;
    view.shape[1] = cols;
    view.offset += first * t->codec->bytes;
    view.bytes = rows * cols * t->codec->bytes;
    view.row_step = row_step;
    view.col_step = col_step;
    return view;
}
