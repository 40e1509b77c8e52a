/* SPDX-License-Identifier: MIT */
/* infer/linear.c - see linear.h. All tile sizes depend on the data alone, so the result does not
 * depend on the number of threads.
 * Tests: tests/infer/test_graph.c, tests/infer/test_linear_int8.c. */
#include "infer/linear.h"

#include "base/linalg.h"
#include "base/par.h"
#include "infer/linear_few.h"
#include "infer/linear_int8.h"

/* Two ways to share a product among threads, chosen by its shape alone. Where rows are few or
 * outputs many, each thread decodes a panel of outputs for itself and multiplies it with all rows
 * while it is in the cache. Otherwise a slab of the weight is decoded by all, then cut into tiles.
 * BLAS copies both sides of a product, so these should be large both ways, yet there should be
 * enough of them for many threads. */
enum {
    FEW_ROWS = 64,      /* of x: panels of PANEL_FEW outputs                          */
    MANY_OUT = 1 << 14, /* outputs: panels of PANEL                                   */
    PANEL_FEW = 64,
    PANEL = 512,
    SLAB = 8 << 20,      /* weights, 32 MiB                                            */
    TILE_ROWS = 512,     /* rows of x of a tile                                        */
    TILE_AREA = 1 << 18, /* outputs x rows of a tile: outputs go up where rows are few */
    TILE_OUT_MIN = 128,  /* outputs of a tile: at least, and at most                   */
    TILE_OUT_MAX = 1024,
    ENOUGH_TILES = 16,
    DECODE_ROWS = 32,
    WIDE_SIDE = 64, /* rows and outputs of a part of a product in f64 */
    WIDE_DEPTH = 1024,
};

typedef struct {
    nib_linear *l;
    const nib_tensor *w;
    const float *decoded; /* all of w, or NULL */
    const float *bias, *x;
    float *y;
    size_t rows, in, out;
    size_t panel;      /* outputs of a panel or tile                                */
    const float *slab; /* decoded weights of outputs first .. first + n_slab - 1 */
    size_t first, n_slab;
    unsigned how;
} product;

nib_code nib_linear_init(nib_linear *l, const nib_source *src, const nib_ctx *ctx, nib_err *err)
{
    *l = (nib_linear){.src = src, .ctx = *ctx};
    l->thread = nib_calloc((size_t)ctx->threads, sizeof *l->thread);
    return l->thread ? NIB_OK : nib_fail_nomem(err, "work memory of the threads");
}

void nib_linear_fini(nib_linear *l)
{
    for (int i = 0; l->thread && i < l->ctx.threads; i++) {
        nib_buf_free(&l->thread[i].raw);
        nib_buf_free(&l->thread[i].panel);
        nib_buf_free(&l->thread[i].code);
        nib_buf_free(&l->thread[i].wide);
    }
    nib_free(l->thread);
    nib_buf_free(&l->slab);
    nib_buf_free(&l->code);
    nib_buf_free(&l->scale);
    nib_buf_free(&l->rounded);
    nib_buf_free(&l->ordered);
    nib_resident_free(&l->resident);
    *l = (nib_linear){0};
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void widen(double *to, const float *from, size_t rows, size_t cols, size_t step)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) to[r * cols + c] = (double)from[r * step + c];
}

/* Of a tile, n rows from r on times m outputs from o on, weights at `w`, in f64. */
static void wide_part(const product *p, double *work, const float *w, size_t r, size_t n, size_t o,
                      size_t m)
{
    double *a = work, *b = a + WIDE_SIDE * WIDE_DEPTH, *c = b + WIDE_SIDE * WIDE_DEPTH;
    for (size_t k = 0; k < p->in; k += WIDE_DEPTH) {
        const size_t depth = min_size(WIDE_DEPTH, p->in - k);
        widen(a, p->x + r * p->in + k, n, depth, p->in);
        widen(b, w + k, m, depth, p->in);
        nib_dgemm_nt(n, m, depth, a, depth, b, depth, c, m, k > 0);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < m; j++) {
            float *y = p->y + (r + i) * p->out + o + j;
            *y = (float)(c[i * m + j] + (double)(p->how & NIB_LINEAR_ADD ? *y : 0) +
                         (double)(p->bias ? p->bias[o + j] : 0));
        }
}

static nib_code wide_tile(const product *p, const float *w, size_t r0, size_t r1, size_t o0,
                          size_t o1, int thread, nib_err *err)
{
    double *work =
        nib_buf_reserve(&p->l->thread[thread].wide,
                        2 * WIDE_SIDE * WIDE_DEPTH + WIDE_SIDE * WIDE_SIDE, sizeof *work);
    if (!work) return nib_fail_nomem(err, "a product in f64");
    for (size_t o = o0; o < o1; o += WIDE_SIDE)
        for (size_t r = r0; r < r1; r += WIDE_SIDE)
            wide_part(p, work, w + (o - o0) * p->in, r, min_size(WIDE_SIDE, r1 - r), o,
                      min_size(WIDE_SIDE, o1 - o));
    return NIB_OK;
}

/* Rows [r0, r1) of x times outputs [o0, o1), whose weights are at `w`. */
static nib_code tile(const product *p, const float *w, size_t r0, size_t r1, size_t o0, size_t o1,
                     int thread, nib_err *err)
{
    if (p->how & NIB_LINEAR_F64) return wide_tile(p, w, r0, r1, o0, o1, thread, err);
    nib_gemm_nt(r1 - r0, o1 - o0, p->in, p->x + r0 * p->in, p->in, w, p->in,
                p->y + r0 * p->out + o0, p->out, p->how & NIB_LINEAR_ADD);
    for (size_t r = r0; r < r1 && p->bias; r++)
        for (size_t o = o0; o < o1; o++) p->y[r * p->out + o] += p->bias[o];
    return NIB_OK;
}

static nib_code decode(const product *p, float *dst, size_t begin, size_t end, int thread,
                       nib_err *err)
{
    return nib_source_read_rows(p->l->src, p->w, begin, end - begin, dst, &p->l->thread[thread].raw,
                                p->l->ctx.cpu, err);
}

static nib_code own_panel(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const product *p = arg;
    if (p->decoded) return tile(p, p->decoded + begin * p->in, 0, p->rows, begin, end, thread, err);
    float *w = nib_buf_reserve(&p->l->thread[thread].panel, p->panel, p->in * sizeof *w);
    if (!w) return nib_fail_nomem(err, "decoded weights");
    nib_code rc = decode(p, w, begin, end, thread, err);
    return rc ? rc : tile(p, w, 0, p->rows, begin, end, thread, err);
}

static nib_code decode_slab(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const product *p = arg;
    return decode(p, (float *)p->l->slab.p + begin * p->in, p->first + begin, p->first + end,
                  thread, err);
}

static size_t row_tiles(const product *p)
{
    return (p->rows + TILE_ROWS - 1) / TILE_ROWS;
}

/* One tile; they are numbered panel by panel. */
static nib_code multiply_slab(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const product *p = arg;
    (void)end;
    size_t r0 = begin % row_tiles(p) * TILE_ROWS, o0 = begin / row_tiles(p) * p->panel;
    size_t r1 = min_size(r0 + TILE_ROWS, p->rows), o1 = min_size(o0 + p->panel, p->n_slab);
    return tile(p, p->slab + o0 * p->in, r0, r1, p->first + o0, p->first + o1, thread, err);
}

static size_t n_tiles(const product *p)
{
    return (p->n_slab + p->panel - 1) / p->panel * row_tiles(p);
}

/* The whole slab, in tiles: large ones, but enough of them to share out. */
static nib_code multiply(product *p, nib_err *err)
{
    p->panel = min_size(TILE_OUT_MAX, TILE_AREA / min_size(p->rows, TILE_ROWS));
    while (p->panel > TILE_OUT_MIN && n_tiles(p) < ENOUGH_TILES) p->panel /= 2;
    return nib_par_for(p->l->ctx.threads, n_tiles(p), 1, multiply_slab, p, err);
}

static nib_code by_slabs(product *p, nib_err *err)
{
    const int threads = p->l->ctx.threads;
    const size_t most = min_size(SLAB / p->in < TILE_OUT_MAX ? TILE_OUT_MAX : SLAB / p->in, p->out);
    p->slab = nib_buf_reserve(&p->l->slab, most, p->in * sizeof *p->slab);
    if (!p->slab) return nib_fail_nomem(err, "decoded weights");
    for (p->first = 0; p->first < p->out; p->first += p->n_slab) {
        p->n_slab = min_size(most, p->out - p->first);
        nib_code rc = nib_par_for(threads, p->n_slab, DECODE_ROWS, decode_slab, p, err);
        if (!rc) rc = multiply(p, err);
        if (rc) return rc;
    }
    return NIB_OK;
}

static nib_code in_floats(product *p, nib_err *err)
{
    if (p->rows <= FEW_ROWS || p->out >= MANY_OUT) {
        p->panel = p->rows <= FEW_ROWS ? PANEL_FEW : PANEL;
        return nib_par_for(p->l->ctx.threads, p->out, p->panel, own_panel, p, err);
    }
    if (!p->decoded) return by_slabs(p, err);
    p->slab = p->decoded;
    p->n_slab = p->out;
    return multiply(p, err);
}

nib_code nib_linear_apply(nib_linear *l, const nib_tensor *w, const float *decoded,
                          const float *bias, const float *x, size_t rows, float *y, unsigned how,
                          nib_err *err)
{
    const bool add = how & NIB_LINEAR_ADD;
    const nib_act_quant *act = decoded ? NULL : nib_tensor_act(w);
    const bool integers = act && nib_tensor_int8(w);
    nib_code rc = NIB_OK;
    if (act && !integers && !l->keeps)
        rc = nib_linear_round(l, act, x, rows, (size_t)nib_tensor_cols(w), &x, err);
    if (rc) {
        ;
    } else if (integers) {
        rc = nib_linear_int8(l, w, bias, x, rows, y, add, err);
    } else if (!decoded && l->few && rows <= NIB_FEW_ROWS) {
        rc = nib_linear_few(l, w, bias, x, rows, y, add, err);
    } else {
        product p = {.l = l,
                     .w = w,
                     .decoded = decoded,
                     .bias = bias,
                     .x = x,
                     .y = y,
                     .rows = rows,
                     .in = (size_t)nib_tensor_cols(w),
                     .out = (size_t)nib_tensor_rows(w),
                     .how = how};
        rc = in_floats(&p, err);
    }
    return rc ? nib_wrap(err, "tensor '%s'", w->name) : NIB_OK;
}
