/* SPDX-License-Identifier: MIT */
/* tests/support/outliers.c - see outliers.h. */
#include "tests/support/outliers.h"

#include "base/file.h"
#include "base/half.h"
#include "base/mem.h"
#include "formats/safetensors.h"
#include "infer/model.h"
#include "tests/support/gen.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

enum { ROWS = 64, SMALL_FILE_MAX = 1 << 28 };
static const double SCALE_MIN = 20, SCALE_MAX = 60;

/* Where in a block a vector of scales sits. */
typedef enum { AT_ATTN_NORM, AT_FFN_NORM, AT_FFN_INNER } site;

typedef struct {
    const gen_outlier_spec *spec;
    const nib_source *src;
    const nib_model *m;
    const nib_ctx *ctx;
    float *scale_in, *scale_out; /* [widest side] of columns and of rows */
    float *x;                    /* [ROWS][widest]                       */
    uint16_t *half;
    nib_buf raw;
} twin;

/* SplitMix64. */
static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static void fill_ones(float *s, size_t n)
{
    for (size_t i = 0; i < n; i++) s[i] = 1;
}

/* The scales of n channels at a site: mostly 1, the chosen ones evenly spread in the logarithm. */
static void fill_scales(const twin *t, uint32_t layer, site at, size_t n, float *s)
{
    uint64_t state = t->spec->seed * 1000003 + layer * 3u + (unsigned)at;
    size_t chosen = n * t->spec->channels / 256;
    fill_ones(s, n);
    for (size_t i = 0; i < (chosen ? chosen : 1); i++) {
        const size_t channel = (size_t)(next(&state) % n);
        const double u = (double)(next(&state) >> 11) / 9007199254740992.0;
        s[channel] = (float)(SCALE_MIN * pow(SCALE_MAX / SCALE_MIN, u));
    }
}

static void invert(float *s, size_t n)
{
    for (size_t i = 0; i < n; i++) s[i] = 1 / s[i];
}

/* What a tensor's columns and rows are multiplied by. */
static void choose_scales(const twin *t, const nib_tensor *tensor, size_t rows, size_t cols)
{
    nib_place p;
    fill_ones(t->scale_in, cols);
    fill_ones(t->scale_out, rows);
    if (!nib_model_place(t->m, tensor, &p)) return;
    const bool up = p.role == NIB_ROLE_FFN_UP, gate = p.role == NIB_ROLE_FFN_GATE;
    if (up) /* a bias is one row here, but one channel for each of its columns */
        fill_scales(t, p.layer, AT_FFN_INNER, p.bias ? cols : rows,
                    p.bias ? t->scale_in : t->scale_out);
    if (p.bias) return;
    if (p.role == NIB_ROLE_ATTN_NORM || p.role == NIB_ROLE_FFN_NORM) {
        fill_scales(t, p.layer, p.role == NIB_ROLE_ATTN_NORM ? AT_ATTN_NORM : AT_FFN_NORM, cols,
                    t->scale_in);
    } else if (p.role == NIB_ROLE_ATTN_Q || p.role == NIB_ROLE_ATTN_K ||
               p.role == NIB_ROLE_ATTN_V) {
        fill_scales(t, p.layer, AT_ATTN_NORM, cols, t->scale_in);
        invert(t->scale_in, cols);
    } else if (gate || up) {
        fill_scales(t, p.layer, AT_FFN_NORM, cols, t->scale_in);
        invert(t->scale_in, cols);
    } else if (p.role == NIB_ROLE_FFN_DOWN) {
        fill_scales(t, p.layer, AT_FFN_INNER, cols, t->scale_in);
        invert(t->scale_in, cols);
    }
}

static nib_code write_tensor(twin *t, nib_st_writer *w, size_t index, const nib_tensor *tensor,
                             nib_err *err)
{
    const size_t rows = (size_t)nib_tensor_rows(tensor), cols = (size_t)nib_tensor_cols(tensor);
    nib_code rc = NIB_OK;
    choose_scales(t, tensor, rows, cols);
    for (size_t r = 0; r < rows && !rc; r += ROWS) {
        const size_t n = rows - r < ROWS ? rows - r : ROWS;
        rc = nib_source_read_rows(t->src, tensor, r, n, t->x, &t->raw, t->ctx->cpu, err);
        if (rc) break;
        for (size_t i = 0; i < n * cols; i++) {
            t->x[i] *= t->scale_in[i % cols] * t->scale_out[r + i / cols];
            t->half[i] = nib_f32_to_bf16(t->x[i]);
        }
        if (t->spec->dtype == NIB_F32)
            rc = nib_st_write(w, index, t->x, n * cols * sizeof *t->x, err);
        else
            rc = nib_st_write(w, index, t->half, n * cols * sizeof *t->half, err);
    }
    return rc;
}

/* The source's tensors as the writer wants them, in its order; *widest: the longest side. */
static nib_st_tensor *describe(const twin *t, size_t n, size_t *widest)
{
    nib_st_tensor *st = nib_calloc(n, sizeof *st);
    *widest = 1;
    for (size_t i = 0; i < n && st; i++) {
        const nib_tensor *from = nib_source_at(t->src, i);
        const size_t rows = (size_t)nib_tensor_rows(from), cols = (size_t)nib_tensor_cols(from);
        st[i] = (nib_st_tensor){.name = from->name, .type = t->spec->dtype, .n_dims = from->n_dims};
        memcpy(st[i].shape, from->shape, sizeof st[i].shape);
        if (rows > *widest) *widest = rows;
        if (cols > *widest) *widest = cols;
    }
    if (st) nib_st_sort(st, n);
    return st;
}

static nib_code write_weights(twin *t, const char *to, nib_err *err)
{
    const size_t n = nib_source_count(t->src);
    size_t widest;
    nib_st_writer *w = NULL;
    nib_code rc = NIB_OK;
    nib_st_tensor *st = describe(t, n, &widest);
    char *path = nib_path_join(to, "model.safetensors");
    t->scale_in = nib_alloc(widest, sizeof *t->scale_in);
    t->scale_out = nib_alloc(widest, sizeof *t->scale_out);
    t->x = nib_alloc(widest, ROWS * sizeof *t->x);
    t->half = nib_alloc(widest, ROWS * sizeof *t->half);
    if (!st || !path || !t->scale_in || !t->scale_out || !t->x || !t->half)
        rc = nib_fail_nomem(err, "work memory");
    if (!rc) rc = nib_st_begin(&w, path, st, n, true, err);
    for (size_t i = 0; i < n && !rc; i++)
        rc = write_tensor(t, w, i, nib_source_find(t->src, st[i].name), err);
    if (!rc) {
        rc = nib_st_end(w, err);
        w = NULL;
    }
    nib_st_abort(w);
    nib_free(t->scale_in);
    nib_free(t->scale_out);
    nib_free(t->x);
    nib_free(t->half);
    nib_buf_free(&t->raw);
    nib_free(path);
    nib_free(st);
    return rc;
}

/* Everything small that a folder may have beside the weights. */
static nib_code copy_files(const char *from, const char *to, nib_err *err)
{
    static const char *const name[] = {"config.json",           "tokenizer.json",
                                       "tokenizer_config.json", "generation_config.json",
                                       "chat_template.jinja",   "special_tokens_map.json"};
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < sizeof name / sizeof *name && !rc; i++) {
        char *text = NULL, *path = nib_path_join(from, name[i]);
        size_t n;
        if (!path) return nib_fail_nomem(err, "a path");
        if (nib_file_exists(path)) {
            rc = nib_file_slurp(&text, &n, path, SMALL_FILE_MAX, err);
            if (!rc) rc = gen_text_write(to, name[i], text, n, err);
        }
        nib_free(text);
        nib_free(path);
    }
    return rc;
}

nib_code gen_outliers(const gen_outlier_spec *spec, const char *from, const char *to,
                      const nib_ctx *ctx, nib_err *err)
{
    nib_source *src = NULL;
    nib_model m = {0};
    nib_code rc = nib_source_open(&src, from, err);
    if (!rc && nib_source_get_kind(src) != NIB_SOURCE_HF)
        rc = nib_fail(err, NIB_EINVAL, "%s: a Hugging Face folder is needed", from);
    if (!rc) rc = nib_model_open(&m, src, err);
    if (!rc && mkdir(to, 0777) && errno != EEXIST)
        rc = nib_fail(err, NIB_EIO, "%s: %s", to, strerror(errno));
    twin t = {.spec = spec, .src = src, .m = &m, .ctx = ctx};
    if (!rc) rc = write_weights(&t, to, err);
    if (!rc) rc = copy_files(from, to, err);
    nib_model_close(&m);
    nib_source_close(src);
    return rc;
}
