/* SPDX-License-Identifier: MIT */
/* infer/resident.c - see resident.h. Tests: tests/infer/test_linear_few.c. */
#include "infer/resident.h"

#include "base/par.h"

enum { PIECE = 4 << 20, FIRST_ROOM = 256 };

void nib_resident_free(nib_resident *r)
{
    for (size_t i = 0; i < r->room; i++) {
        nib_free(r->entry[i].kept.rows);
        nib_grouped_free(r->entry[i].kept.grouped);
    }
    nib_free(r->entry);
    *r = (nib_resident){0};
}

static nib_resident_entry *find(const nib_resident *r, const nib_tensor *t)
{
    size_t i = ((uintptr_t)t >> 4) * 0x9E3779B97F4A7C15u >> 20;
    for (i &= r->room - 1; r->entry[i].tensor && r->entry[i].tensor != t;
         i = (i + 1) & (r->room - 1)) {
    }
    return &r->entry[i];
}

/* At most half of the table is in use. */
static nib_code make_room(nib_resident *r, nib_err *err)
{
    nib_resident old = *r;
    if (2 * (r->n + 1) <= r->room) return NIB_OK;
    r->room = old.room ? 2 * old.room : FIRST_ROOM;
    r->entry = nib_calloc(r->room, sizeof *r->entry);
    if (!r->entry) {
        *r = old;
        return nib_fail_nomem(err, "the table of weights");
    }
    for (size_t i = 0; i < old.room; i++)
        if (old.entry[i].tensor) *find(r, old.entry[i].tensor) = old.entry[i];
    nib_free(old.entry);
    return NIB_OK;
}

/* ---- reading ---- */

typedef struct {
    const nib_source *src;
    const nib_tensor *t; /* what is read                                          */
    uint64_t row, step;  /* row r of the weight is its row `row` + r * step       */
    const nib_ctx *ctx;
    size_t cols, rows, row_bytes;
    nib_kept *to;
    nib_buf *raw; /* [threads] */
} reading;

static bool computes(const nib_tensor *t)
{
    return t->plus != 0 || t->times != 0 || t->neg_exp;
}

/* The tensor whose rows a view's are, unless it changes them. */
static void find_rows(reading *r, const nib_tensor *t)
{
    r->row = 0;
    r->step = 1;
    while (t->of && t->of_step && !t->of_col && !computes(t)) {
        r->row = t->of_row + r->row * t->of_step;
        r->step *= t->of_step;
        t = t->of;
    }
    r->t = t;
}

static nib_code read_plain(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const reading *r = arg;
    const size_t n = r->row_bytes;
    uint8_t *to = r->to->rows + begin * n;
    nib_code rc = NIB_OK;
    (void)thread;
    if (r->step == 1)
        return nib_source_read(r->src, r->t, (r->row + begin) * n, to, (end - begin) * n, err);
    for (size_t i = begin; i < end && !rc; i++, to += n)
        rc = nib_source_read(r->src, r->t, (r->row + i * r->step) * n, to, n, err);
    return rc;
}

static nib_code read_grouped(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const reading *r = arg;
    const size_t at_once = r->step == 1 ? end - begin : 1;
    nib_coded c;
    nib_packing_rows p;
    nib_code rc = NIB_OK;
    if (!nib_tensor_coded(&c, r->t)) return NIB_OK;
    for (size_t i = begin; i < end && !rc; i += at_once) {
        rc = nib_source_read_coded(&p, r->src, r->t, r->row + i * r->step, at_once, &r->raw[thread],
                                   err);
        for (size_t k = 0; k < at_once && !rc; k++)
            nib_grouped_set(r->to->grouped, i + k, p.code + k * r->cols, p.scale + k * c.groups,
                            p.zero + k * c.groups);
    }
    return rc;
}

static nib_code read_decoded(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const reading *r = arg;
    float *to = (float *)(void *)r->to->rows + begin * r->cols;
    return nib_source_read_rows(r->src, r->t, r->row + begin, end - begin, to, &r->raw[thread],
                                r->ctx->cpu, err);
}

static nib_code read_all(reading *r, nib_par_fn *read, nib_err *err)
{
    const size_t each = PIECE / r->cols ? PIECE / r->cols : 1;
    r->raw = nib_calloc((size_t)r->ctx->threads, sizeof *r->raw);
    if (!r->raw) return nib_fail_nomem(err, "packed rows");
    nib_code rc = nib_par_for(r->ctx->threads, r->rows, each, read, r, err);
    for (int i = 0; i < r->ctx->threads; i++) nib_buf_free(&r->raw[i]);
    nib_free(r->raw);
    return rc;
}

static bool take(nib_resident *r, uint64_t bytes)
{
    if (bytes > SIZE_MAX || (r->left && bytes > *r->left)) return false;
    if (r->left) *r->left -= bytes;
    r->bytes += bytes;
    return true;
}

/* Rows of r->row_bytes, if there is room. */
static nib_code keep_rows(nib_resident *all, reading *r, const nib_codec *c, nib_par_fn *read,
                          nib_err *err)
{
    if (!nib_codec_row_bytes(c, r->cols, &r->row_bytes) ||
        !take(all, (uint64_t)r->row_bytes * r->rows))
        return NIB_OK;
    r->to->codec = c;
    r->to->rows = nib_alloc(r->rows, r->row_bytes);
    return r->to->rows ? read_all(r, read, err) : nib_fail_nomem(err, "weights");
}

static nib_code keep_grouped(nib_resident *all, reading *r, const nib_coded *c, nib_err *err)
{
    const nib_grouped_shape s = {.rows = r->rows,
                                 .cols = r->cols,
                                 .groups = (size_t)c->groups,
                                 .bits = c->bits,
                                 .group = (size_t)c->group,
                                 .g_idx = c->g_idx,
                                 .level = c->integers ? NULL : c->level};
    if (!take(all, nib_grouped_bytes(&s))) return NIB_OK;
    nib_code rc = nib_grouped_new(&r->to->grouped, &s, err);
    if (!rc) rc = read_all(r, read_grouped, err);
    if (!rc) nib_grouped_done(r->to->grouped);
    return rc;
}

static nib_code keep(nib_resident *all, nib_kept *to, const nib_source *src, const nib_tensor *t,
                     const nib_ctx *ctx, nib_err *err)
{
    nib_coded coded;
    reading r = {.src = src,
                 .ctx = ctx,
                 .cols = (size_t)nib_tensor_cols(t),
                 .rows = (size_t)nib_tensor_rows(t),
                 .to = to};
    find_rows(&r, t);
    if (nib_tensor_is_plain(r.t) && r.t->codec->decode)
        return keep_rows(all, &r, r.t->codec, read_plain, err);
    if (nib_tensor_coded(&coded, r.t)) return keep_grouped(all, &r, &coded, err);
    r.t = t;
    r.row = 0;
    return keep_rows(all, &r, nib_codec_get(NIB_F32), read_decoded, err);
}

nib_code nib_resident_get(nib_resident *r, const nib_source *src, const nib_tensor *t,
                          const nib_ctx *ctx, nib_kept *kept, nib_err *err)
{
    nib_code rc = make_room(r, err);
    if (rc) return rc;
    nib_resident_entry *e = find(r, t);
    if (!e->tensor) {
        e->tensor = t;
        r->n++;
        rc = keep(r, &e->kept, src, t, ctx, err);
    }
    *kept = e->kept;
    return rc;
}
