/* SPDX-License-Identifier: MIT */
/* calib/imatrix.c - see imatrix.h. The matrix in memory and in its GGUF layout; nothing here runs a
 * model. */
#include "calib/imatrix.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/rd.h"
#include "base/str.h"
#include "calib/imatrix_legacy.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char SUMS[] = ".in_sum2", COUNTS[] = ".counts";
static const size_t LEGACY_FILE_MAX = (size_t)4 << 30;

/* ---- the matrix in memory ---- */

static void free_entry(nib_imatrix_entry *e)
{
    nib_free(e->name);
    nib_free(e->in_sum2);
    nib_free(e->counts);
}

void nib_imatrix_free(nib_imatrix *m)
{
    for (size_t i = 0; i < m->n; i++) free_entry(&m->entry[i]);
    for (size_t i = 0; i < m->n_datasets; i++) nib_free(m->datasets[i]);
    nib_free(m->entry);
    nib_free(m->datasets);
    nib_free(m->path);
    *m = (nib_imatrix){0};
}

nib_code nib_imatrix_add(nib_imatrix *m, const char *name, size_t n_name, size_t cols, size_t n_mat,
                         nib_imatrix_entry **out, nib_err *err)
{
    size_t n_sums;
    if (!nib_mul(cols, n_mat, &n_sums))
        return nib_fail(err, NIB_EFORMAT, "entry '%.*s': %zu x %zu values are too many",
                        (int)n_name, name, n_mat, cols);
    nib_imatrix_entry *grown = nib_grow(m->entry, m->n, m->n + 1, sizeof *grown);
    if (!grown) return nib_fail_nomem(err, "an importance matrix");
    m->entry = grown;
    nib_imatrix_entry e = {.name = nib_strndup(name, n_name),
                           .cols = cols,
                           .n_mat = n_mat,
                           .in_sum2 = nib_calloc(n_sums, sizeof(double)),
                           .counts = nib_calloc(n_mat, sizeof(double))};
    if (!e.name || !e.in_sum2 || !e.counts) {
        free_entry(&e);
        return nib_fail_nomem(err, "an importance matrix");
    }
    m->entry[m->n] = e;
    *out = &m->entry[m->n++];
    return NIB_OK;
}

nib_code nib_imatrix_add_dataset(nib_imatrix *m, const char *name, size_t n_name, nib_err *err)
{
    char **grown = nib_grow(m->datasets, m->n_datasets, m->n_datasets + 1, sizeof *grown);
    if (grown) m->datasets = grown;
    char *copy = grown ? nib_strndup(name, n_name) : NULL;
    if (!copy) return nib_fail_nomem(err, "a data set's name");
    m->datasets[m->n_datasets++] = copy;
    return NIB_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const nib_imatrix_entry *)a)->name, ((const nib_imatrix_entry *)b)->name);
}

nib_code nib_imatrix_sort(nib_imatrix *m, nib_err *err)
{
    if (m->n) qsort(m->entry, m->n, sizeof *m->entry, by_name);
    for (size_t i = 1; i < m->n; i++)
        if (!by_name(&m->entry[i - 1], &m->entry[i]))
            return nib_fail(err, NIB_EFORMAT, "entry '%.200s' is there twice", m->entry[i].name);
    return NIB_OK;
}

static int compare_key(const void *name, const void *entry)
{
    return strcmp(name, ((const nib_imatrix_entry *)entry)->name);
}

nib_imatrix_entry *nib_imatrix_find(const nib_imatrix *m, const char *name)
{
    return m->n ? bsearch(name, m->entry, m->n, sizeof *m->entry, compare_key) : NULL;
}

size_t nib_imatrix_few(const nib_imatrix_entry *e)
{
    size_t n = 0;
    for (size_t i = 0; e->n_mat > 1 && i < e->n_mat; i++) n += e->counts[i] < NIB_IMATRIX_FEW;
    return n;
}

/* The sums of channel j and the rows of all matrices. */
static double sum_of_all(const nib_imatrix_entry *e, size_t j, double *rows)
{
    double sum = 0;
    *rows = 0;
    for (size_t i = 0; i < e->n_mat; i++) {
        if (!(e->counts[i] > 0)) continue;
        sum += e->in_sum2[i * e->cols + j];
        *rows += e->counts[i];
    }
    return sum;
}

void nib_imatrix_values(const nib_imatrix_entry *e, size_t first, size_t n, float *importance)
{
    for (size_t i = first; i < first + n; i++) {
        const double seen = e->counts[i] > 0 ? e->counts[i] : 0;
        const bool few = e->n_mat > 1 && seen < NIB_IMATRIX_FEW;
        for (size_t j = 0; j < e->cols; j++, importance++) {
            double sum = seen > 0 ? e->in_sum2[i * e->cols + j] : 0, rows = seen, all_rows = 0;
            const double all = few ? sum_of_all(e, j, &all_rows) : 0;
            if (all_rows > 0) {
                sum += NIB_IMATRIX_FEW * (all / all_rows);
                rows += NIB_IMATRIX_FEW;
            }
            *importance = rows > 0 ? (float)(sum / rows) : 1.0f;
        }
    }
}

/* Index of the first value that is negative, NaN or infinite, or n. */
static size_t find_bad(const double *x, size_t n)
{
    size_t i = 0;
    while (i < n && isfinite(x[i]) && x[i] >= 0) i++;
    return i;
}

static nib_code check_values(const nib_imatrix *m, nib_err *err)
{
    for (size_t i = 0; i < m->n; i++) {
        const nib_imatrix_entry *e = &m->entry[i];
        size_t n = e->cols * e->n_mat, at = find_bad(e->in_sum2, n);
        if (at < n)
            return nib_fail(
                err, NIB_ENUMERIC,
                "entry '%.200s': value %zu is %g; sums of squares are finite and not negative",
                e->name, at, e->in_sum2[at]);
        if ((at = find_bad(e->counts, e->n_mat)) < e->n_mat)
            return nib_fail(err, NIB_ENUMERIC,
                            "entry '%.200s': count %zu is %g; counts are finite and not negative",
                            e->name, at, e->counts[at]);
    }
    return NIB_OK;
}

/* ---- GGUF: reading ---- */

static nib_code read_keys(nib_imatrix *m, const nib_gguf_kvs *kvs, nib_err *err)
{
    nib_str type;
    const void *names;
    size_t n;
    uint64_t count, size;
    if (!nib_gguf_get_str(kvs, "general.type", &type))
        return nib_fail(err, NIB_EFORMAT, "not an importance matrix: no key 'general.type'");
    if (strcmp(type.p, "imatrix"))
        return nib_fail(err, NIB_EFORMAT,
                        "not an importance matrix: general.type is '%.40s', not 'imatrix'", type.p);
    if (!nib_gguf_get_arr(kvs, "imatrix.datasets", NIB_GGUF_STR, &names, &n))
        return nib_fail(err, NIB_EFORMAT, "no key 'imatrix.datasets' that is an array of strings");
    if (!nib_gguf_get_u64(kvs, "imatrix.chunk_count", &count) || count > UINT32_MAX)
        return nib_fail(err, NIB_EFORMAT, "no key 'imatrix.chunk_count' that is a 32-bit integer");
    if (!nib_gguf_get_u64(kvs, "imatrix.chunk_size", &size) || size > UINT32_MAX)
        return nib_fail(err, NIB_EFORMAT, "no key 'imatrix.chunk_size' that is a 32-bit integer");
    m->chunk_count = (uint32_t)count;
    m->chunk_size = (uint32_t)size;
    for (size_t i = 0; i < n; i++) {
        const nib_str *s = (const nib_str *)names + i;
        nib_code rc = nib_imatrix_add_dataset(m, s->p, s->n, err);
        if (rc) return rc;
    }
    return NIB_OK;
}

/* All elements of an F32 or F64 tensor as f64; no rounding. */
static nib_code read_doubles(const nib_source *src, const nib_tensor *t, double *dst, nib_buf *raw,
                             nib_err *err)
{
    nib_type type = t->codec->type;
    if (type != NIB_F32 && type != NIB_F64)
        return nib_fail(err, NIB_EFORMAT, "tensor '%.200s' is of type %s, should be f32", t->name,
                        t->codec->name);
    uint8_t *bytes = nib_buf_reserve(raw, t->bytes, 1);
    if (!bytes) return nib_fail_nomem(err, "an importance matrix");
    nib_code rc = nib_source_read(src, t, 0, bytes, t->bytes, err);
    if (rc) return rc;
    nib_rd r = {bytes, bytes + t->bytes, false};
    for (size_t i = 0, n = nib_tensor_elems(t); i < n; i++)
        if (type == NIB_F32) {
            dst[i] = nib_rd_f32(&r);
        } else {
            uint64_t u = nib_rd_u64(&r);
            memcpy(&dst[i], &u, 8);
        }
    return NIB_OK;
}

static nib_code read_pair(nib_imatrix *m, const nib_source *src, const nib_tensor *sums,
                          size_t n_name, nib_buf *raw, nib_err *err)
{
    char counts_name[NIB_GGUF_NAME_MAX + 1];
    snprintf(counts_name, sizeof counts_name, "%.*s%s", (int)n_name, sums->name, COUNTS);
    const nib_tensor *counts = nib_source_find(src, counts_name);
    uint64_t cols = nib_tensor_cols(sums), n_mat = nib_tensor_rows(sums);
    if (!counts)
        return nib_fail(err, NIB_EFORMAT, "tensor '%.200s' has no '%.200s'", sums->name,
                        counts_name);
    if (!cols || !n_mat) return nib_fail(err, NIB_EFORMAT, "tensor '%.200s' is empty", sums->name);
    uint64_t n_counts = nib_tensor_elems(counts);
    if (n_counts != 1 && n_counts != n_mat)
        return nib_fail(err, NIB_EFORMAT,
                        "tensor '%.200s' has %llu values, should have one per matrix: %llu",
                        counts->name, (unsigned long long)n_counts, (unsigned long long)n_mat);
    nib_imatrix_entry *e;
    nib_code rc = nib_imatrix_add(m, sums->name, n_name, cols, n_mat, &e, err);
    if (rc || (rc = read_doubles(src, sums, e->in_sum2, raw, err)) ||
        (rc = read_doubles(src, counts, e->counts, raw, err)))
        return rc;
    for (size_t k = n_counts; k < n_mat; k++) e->counts[k] = e->counts[0];
    return NIB_OK;
}

static nib_code read_tensors(nib_imatrix *m, const nib_source *src, nib_err *err)
{
    nib_code rc = NIB_OK;
    nib_buf raw = {0};
    for (size_t i = 0; i < nib_source_count(src) && !rc; i++) {
        const nib_tensor *t = nib_source_at(src, i);
        char sums_name[NIB_GGUF_NAME_MAX + sizeof SUMS];
        size_t n;
        if ((n = nib_stem(t->name, SUMS))) {
            rc = read_pair(m, src, t, n, &raw, err);
        } else if ((n = nib_stem(t->name, COUNTS))) {
            snprintf(sums_name, sizeof sums_name, "%.*s%s", (int)n, t->name, SUMS);
            if (!nib_source_find(src, sums_name))
                rc = nib_fail(err, NIB_EFORMAT, "tensor '%.200s' has no '%.200s'", t->name,
                              sums_name);
        }
    }
    nib_buf_free(&raw);
    return rc;
}

/* Far above what models compute; more, and f32 sums of weighted errors would overflow. */
static nib_code check_means(const nib_imatrix *m, nib_err *err)
{
    static const double most = 1e30;
    for (size_t i = 0; i < m->n; i++) {
        const nib_imatrix_entry *e = &m->entry[i];
        for (size_t j = 0; j < e->cols * e->n_mat; j++) {
            const double count = e->counts[j / e->cols];
            if (count > 0 && e->in_sum2[j] / count > most)
                return nib_fail(err, NIB_ENUMERIC,
                                "entry '%.200s': value %zu, %g of %g rows, is a mean square above "
                                "%g",
                                e->name, j, e->in_sum2[j], count, most);
        }
    }
    return NIB_OK;
}

/* What both layouts must satisfy. */
static nib_code check_all(nib_imatrix *m, nib_err *err)
{
    if (!m->n) return nib_fail(err, NIB_EFORMAT, "no entries");
    nib_code rc = nib_imatrix_sort(m, err);
    if (!rc) rc = check_values(m, err);
    return rc ? rc : check_means(m, err);
}

nib_code nib_imatrix_read(nib_imatrix *m, const nib_source *src, nib_err *err)
{
    const nib_gguf_kvs *kvs = nib_source_kvs(src);
    nib_code rc;
    *m = (nib_imatrix){0};
    if (!kvs)
        rc = nib_fail(err, NIB_EFORMAT, "not a GGUF file");
    else if (!(rc = read_keys(m, kvs, err)) && !(rc = read_tensors(m, src, err)))
        rc = check_all(m, err);
    if (!rc && !(m->path = nib_strdup(nib_source_path(src))))
        rc = nib_fail_nomem(err, "a file name");
    if (rc) {
        nib_imatrix_free(m);
        return nib_wrap(err, "%s", nib_source_path(src));
    }
    return NIB_OK;
}

/* ---- opening ---- */

static nib_code load_legacy(nib_imatrix *m, const char *path, nib_err *err)
{
    char *data;
    size_t n;
    *m = (nib_imatrix){0};
    nib_code rc = nib_file_slurp(&data, &n, path, LEGACY_FILE_MAX, err);
    if (rc) return rc;
    rc = nib_imatrix_parse_legacy(m, data, n, err);
    nib_free(data);
    if (!rc) rc = check_all(m, err);
    if (!rc && !(m->path = nib_strdup(path))) rc = nib_fail_nomem(err, "a file name");
    if (rc) {
        nib_imatrix_free(m);
        return nib_wrap(err, "%s", path);
    }
    return NIB_OK;
}

nib_code nib_imatrix_load(nib_imatrix *m, const char *path, nib_err *err)
{
    char magic[4];
    nib_source *src;
    *m = (nib_imatrix){0};
    nib_code rc = nib_file_head(magic, sizeof magic, path, err);
    if (rc) return rc;
    if (!nib_gguf_begins_with(magic)) return load_legacy(m, path, err);
    if ((rc = nib_source_open(&src, path, err))) return rc;
    rc = nib_imatrix_read(m, src, err);
    nib_source_close(src);
    return rc;
}

/* ---- GGUF: writing ---- */

static bool set_keys(nib_gguf_kvs *kvs, const nib_imatrix *m, const nib_gguf_kvs *extra)
{
    nib_str *names = nib_alloc(m->n_datasets, sizeof *names);
    if (!names) return false;
    for (size_t i = 0; i < m->n_datasets; i++)
        names[i] = (nib_str){m->datasets[i], strlen(m->datasets[i])};
    bool ok = nib_gguf_set_str(kvs, "general.type", "imatrix", 7) &&
              nib_gguf_set_arr(kvs, "imatrix.datasets", NIB_GGUF_STR, names, m->n_datasets) &&
              nib_gguf_set_u32(kvs, "imatrix.chunk_count", m->chunk_count) &&
              nib_gguf_set_u32(kvs, "imatrix.chunk_size", m->chunk_size);
    for (size_t i = 0; ok && extra && i < nib_gguf_kvs_count(extra); i++)
        ok = nib_gguf_set_kv(kvs, nib_gguf_kvs_at(extra, i));
    nib_free(names);
    return ok;
}

/* The two tensors of an entry, the names in name[2]. */
static nib_code describe(const nib_imatrix_entry *e, nib_type type,
                         char name[2][NIB_GGUF_NAME_MAX + 1], nib_gguf_tensor t[2], nib_err *err)
{
    size_t n = strlen(e->name);
    if (n + strlen(SUMS) > NIB_GGUF_NAME_MAX)
        return nib_fail(err, NIB_EINVAL, "entry '%.200s': the name is longer than %zu bytes",
                        e->name, NIB_GGUF_NAME_MAX - strlen(SUMS));
    snprintf(name[0], NIB_GGUF_NAME_MAX + 1, "%s%s", e->name, SUMS);
    snprintf(name[1], NIB_GGUF_NAME_MAX + 1, "%s%s", e->name, COUNTS);
    t[0] = (nib_gguf_tensor){name[0], type, 1, {e->cols}};
    t[1] = (nib_gguf_tensor){name[1], type, 1, {1}};
    if (e->n_mat > 1) {
        t[0] = (nib_gguf_tensor){name[0], type, 2, {e->n_mat, e->cols}};
        t[1] = (nib_gguf_tensor){name[1], type, 2, {e->n_mat, 1}};
    }
    return NIB_OK;
}

static nib_code write_doubles(nib_gguf_writer *w, size_t tensor, nib_type type, const double *x,
                              size_t n, nib_buf *scratch, nib_err *err)
{
    if (type == NIB_F64) return nib_gguf_write(w, tensor, x, n * sizeof *x, err);
    float *f = nib_buf_reserve(scratch, n, sizeof *f);
    if (!f) return nib_fail_nomem(err, "an importance matrix");
    for (size_t i = 0; i < n; i++) {
        if (x[i] > FLT_MAX)
            return nib_fail(err, NIB_ENUMERIC, "value %zu is %g, which f32 does not hold", i, x[i]);
        f[i] = (float)x[i];
    }
    return nib_gguf_write(w, tensor, f, n * sizeof *f, err);
}

static nib_code write_entries(nib_gguf_writer *w, const nib_imatrix *m, nib_type type, nib_err *err)
{
    nib_code rc = NIB_OK;
    nib_buf scratch = {0};
    for (size_t i = 0; i < m->n && !rc; i++) {
        const nib_imatrix_entry *e = &m->entry[i];
        rc = write_doubles(w, 2 * i, type, e->in_sum2, e->cols * e->n_mat, &scratch, err);
        if (!rc) rc = write_doubles(w, 2 * i + 1, type, e->counts, e->n_mat, &scratch, err);
        if (rc) nib_wrap(err, "entry '%.200s'", e->name);
    }
    nib_buf_free(&scratch);
    return rc;
}

nib_code nib_imatrix_write(const nib_imatrix *m, nib_type type, const nib_gguf_kvs *extra,
                           const char *path, bool force, nib_err *err)
{
    nib_gguf_writer *w = NULL;
    nib_gguf_kvs *kvs = nib_gguf_kvs_new();
    nib_gguf_tensor *t = nib_alloc(m->n, 2 * sizeof *t);
    char(*name)[NIB_GGUF_NAME_MAX + 1] = nib_alloc(m->n, 2 * sizeof *name);
    nib_code rc = check_values(m, err);
    if (rc) goto done;
    if (!kvs || !t || !name || !set_keys(kvs, m, extra)) {
        rc = nib_fail_nomem(err, "an importance matrix");
        goto done;
    }
    for (size_t i = 0; i < m->n; i++)
        if ((rc = describe(&m->entry[i], type, name + 2 * i, t + 2 * i, err))) goto done;
    if ((rc = nib_gguf_begin(&w, path, kvs, t, 2 * m->n, 0, force, err))) goto done;
    if ((rc = write_entries(w, m, type, err))) goto done;
    rc = nib_gguf_end(w, err);
    w = NULL;
done:
    nib_gguf_abort(w);
    nib_free(name);
    nib_free(t);
    nib_gguf_kvs_free(kvs);
    return rc;
}

nib_code nib_imatrix_save(const nib_imatrix *m, const char *path, bool force, nib_err *err)
{
    return nib_imatrix_write(m, NIB_F32, NULL, path, force, err);
}
