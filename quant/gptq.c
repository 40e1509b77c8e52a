/* SPDX-License-Identifier: MIT */
/* quant/gptq.c - see gptq.h. With the damped Hessian factored, H = R'R, R upper triangular, the
 * error of a row is
 *
 *     (w-q)' H (w-q) = sum over c of (R_cc (w_c - q_c) + sum over k > c of R_ck (w_k - q_k))^2
 *
 * so that columns can be rounded from the last to the first, each to the grid point nearest to
 * w_c + sum R_ck (w_k - q_k) / R_cc, as in back substitution. That is GPTQ (arXiv:2210.17323),
 * which feeds errors forward with the factor of H^-1; the values are the same, and there is no
 * inverse. The factor is made in factor.c; coordinate descent is in descend.c. */
#include "base/linalg.h"
#include "base/par.h"
#include "quant/round.h"
#include "quant/solver.h"

#include <assert.h>
#include <string.h>

enum { L = NIB_LANES };

nib_gptq_opts nib_gptq_defaults(void)
{
    return (nib_gptq_opts){.damp = NIB_GPTQ_DAMP,
                           .order = NIB_ORDER_DIAGONAL,
                           .when = NIB_PARAMS_AHEAD,
                           .lazy = 128,
                           .sweeps = NIB_GPTQ_SWEEPS};
}

nib_code nib_gptq_new(nib_gptq **out, const nib_gptq_opts *opts, const nib_ctx *ctx, nib_err *err)
{
    assert(opts->lazy > 0 && (opts->group > 0 || opts->order != NIB_ORDER_GROUPS));
    nib_gptq *g = nib_calloc(1, sizeof *g);
    *out = NULL;
    if (g) g->chunk = nib_calloc((size_t)ctx->threads, sizeof *g->chunk);
    if (!g || !g->chunk) {
        nib_free(g);
        return nib_fail_nomem(err, "a solver");
    }
    g->opts = *opts;
    g->ctx = *ctx;
    *out = g;
    return NIB_OK;
}

static void chunk_fini(nib_chunk *ch)
{
    for (size_t i = 0; i < sizeof ch->memory / sizeof *ch->memory; i++)
        nib_buf_free(&ch->memory[i]);
}

void nib_gptq_free(nib_gptq *g)
{
    if (!g) return;
    for (size_t i = 0; i < sizeof g->memory / sizeof *g->memory; i++) nib_buf_free(&g->memory[i]);
    for (int t = 0; t < g->ctx.threads; t++) chunk_fini(&g->chunk[t]);
    nib_free(g->chunk);
    nib_free(g);
}

/* What the rows of one solve share. */
typedef struct {
    const nib_gptq *g;
    const nib_codec *codec;
    const nib_lanes *k;
    nib_levels levels;
    const float *w;
    size_t rows, cols;
    uint8_t *code;
    nib_block_param *param;
    double *error; /* [chunks][3]: energy, rtn, solved; NULL: nobody asks */
} job;

/* Rows [row, row + n) transposed, other lanes zero. */
static void load(nib_chunk *ch, const job *j, size_t row, size_t n)
{
    memset(ch->w, 0, ch->cols * L * sizeof *ch->w);
    for (size_t i0 = 0; i0 < ch->cols; i0 += L) {
        const size_t i1 = ch->cols - i0 < L ? ch->cols : i0 + L;
        for (size_t l = 0; l < n; l++) {
            const float *w = j->w + (row + l) * j->cols;
            for (size_t i = i0; i < i1; i++) ch->w[i * L + l] = w[j->g->outer[i]];
        }
    }
}

/* Dead inputs count for nothing. */
static void clear_dead(nib_chunk *ch, const nib_gptq *g)
{
    for (size_t i = 0; i < ch->cols; i++)
        if (g->dead[i]) memset(ch->w + i * L, 0, L * sizeof *ch->w);
}

static void store(const nib_chunk *ch, const job *j, size_t row, size_t n)
{
    const size_t per_block = j->codec->block / j->codec->sub;
    for (size_t l = 0; l < n; l++) {
        uint8_t *code = j->code + (row + l) * j->cols;
        nib_block_param *param = j->param + (row + l) * ch->n_blocks;
        for (size_t i = 0; i < ch->cols; i++) code[j->g->outer[i]] = ch->code[i * L + l];
        for (size_t b = 0; b < ch->n_blocks; b++) {
            param[b] = (nib_block_param){
                .d = ch->d[b * L + l], .dmin = ch->dmin[b * L + l], .zero = ch->zero[b * L + l]};
            for (size_t s = 0; s < per_block; s++) {
                param[b].sc[s] = (int16_t)ch->sc[(b * per_block + s) * L + l];
                param[b].mn[s] = (int16_t)ch->mn[(b * per_block + s) * L + l];
            }
        }
    }
}

static void take_param(nib_chunk *ch, size_t b, size_t l, const nib_block_param *p)
{
    const size_t per_block = ch->codec->block / ch->codec->sub;
    ch->d[b * L + l] = p->d;
    ch->dmin[b * L + l] = p->dmin;
    ch->zero[b * L + l] = p->zero;
    for (size_t s = 0; s < per_block; s++) {
        ch->sc[(b * per_block + s) * L + l] = p->sc[s];
        ch->mn[(b * per_block + s) * L + l] = p->mn[s];
    }
}

/* Fit block b of every lane to `from`[col][lane] (columns of the block). */
static void fit_block(nib_chunk *ch, const job *j, size_t b, const float *from, const float *imp,
                      const float *mean_square)
{
    const nib_codec *c = j->codec;
    const size_t n = c->block;
    nib_block_param p[L];
    nib_fit_in in[L];
    for (size_t l = 0; l < L; l++) {
        float *row = ch->row + l * n;
        for (size_t i = 0; i < n; i++) row[i] = from[i * L + l];
        in[l] = (nib_fit_in){row, imp, mean_square[l]};
    }
    c->fit(c, p, in, L, j->g->ctx.cpu);
    for (size_t l = 0; l < L; l++) take_param(ch, b, l, &p[l]);
}

static void mean_squares(const nib_chunk *ch, float *ms)
{
    double sum[L] = {0};
    for (const float *w = ch->w; w < ch->w + ch->cols * L; w += L)
        for (int l = 0; l < L; l++) sum[l] += (double)w[l] * w[l];
    for (int l = 0; l < L; l++) ms[l] = (float)(sum[l] / (double)ch->cols);
}

static void fit_all(nib_chunk *ch, const job *j, const float *ms)
{
    const size_t block = j->codec->block;
    for (size_t b = 0; b < ch->n_blocks; b++)
        fit_block(ch, j, b, ch->w + b * block * L, j->g->imp + b * block, ms);
}

/* The same where they were fitted before, all of the matrix together. Lanes without a row are as
 * the first. */
static void take_fitted(nib_chunk *ch, const job *j, size_t row, size_t n)
{
    for (size_t l = 0; l < L; l++)
        for (size_t b = 0; b < ch->n_blocks; b++)
            take_param(ch, b, l, &j->param[(row + (l < n ? l : 0)) * ch->n_blocks + b]);
}

/* Round every column to nearest, from w. */
static void round_all(nib_chunk *ch)
{
    static const float even[NIB_VEC_MAX] = {1, 1, 1, 1, 1, 1, 1, 1};
    const size_t step = ch->codec->vec ? ch->codec->vec : 1;
    nib_lane_grid grid;
    for (size_t i = 0; i < ch->cols; i += step) {
        if (i % ch->codec->sub == 0) nib_chunk_grid(ch, i / ch->codec->sub, &grid);
        if (ch->codec->vec)
            ch->k->round_points(ch->codec, L, even, grid.scale, grid.minus, ch->w + i * L,
                                ch->q + i * L, ch->code + i * L);
        else
            ch->k->round(&ch->levels, &grid, ch->w + i * L, ch->q + i * L, ch->code + i * L);
    }
}

/* What is best for column c of the order, given that the columns after it have moved as e says, and
 * `sum`, R times e for those from `from` on: [lane]. */
static void best_value(const nib_chunk *ch, const nib_gptq *g, size_t c, size_t from,
                       const float *e, float *sum, float *best)
{
    const float *r = g->r + c * ch->cols, *w = ch->w + (size_t)g->perm[c] * L;
    const float inv = 1.0f / r[c];
    ch->k->pull(from - c - 1, r + c + 1, e + (c + 1) * L, sum);
    for (int l = 0; l < L; l++) best[l] = w[l] + sum[l] * inv;
}

/* Fit the blocks whose first column in order is in [lo, hi), to what is best for their columns
 * given those from hi on, which are rounded. sum: of all columns down to the last one of these
 * blocks. */
static void fit_reached(nib_chunk *ch, const job *j, size_t lo, size_t hi, const float *sum,
                        const float *ms)
{
    const nib_gptq *g = j->g;
    const size_t block = j->codec->block, bottom = lo / block * block;
    float *from = ch->tmp + (g->opts.lazy + block) * L;
    for (size_t c = hi; c-- > bottom;) {
        float best[L], s[L];
        const float *w = ch->w + (size_t)g->perm[c] * L;
        memcpy(s, sum + (c - bottom) * L, sizeof s);
        best_value(ch, g, c, hi, ch->work, s, best);
        for (int l = 0; l < L; l++) ch->work[c * L + l] = w[l] - best[l];
        memcpy(from + g->perm[c] % block * L, best, sizeof best);
        const size_t b = g->perm[c] / block;
        if (c % block == 0 && c + block <= hi) fit_block(ch, j, b, from, g->imp + b * block, ms);
    }
}

/* Columns [c, c + vec) of the order, which are one vector, given that those from `from` on have
 * moved as e says; sum: R times that, of column c and the next ones. With R_b the vector's diagonal
 * block and s = sum its error is |R_b (w - q) + s|^2 = (t - q)' R_b' R_b (t - q) for t = w + R_b^-1
 * s: the nearest point to t in the metric of the block. */
static void round_vector(nib_chunk *ch, const nib_gptq *g, size_t c, size_t from, const float *sum)
{
    enum { V = NIB_VEC_MAX };
    const size_t n = ch->cols, vec = ch->codec->vec, first = g->perm[c] / vec * vec;
    float a[V * V] = {0}, t[V * L], none[V * L] = {0}, value[V * L], move[V * L], gain[L];
    uint8_t code[V * L];
    nib_lane_grid grid;
    nib_chunk_grid(ch, first / ch->codec->sub, &grid);
    for (size_t i = vec; i-- > 0;) { /* t, in the order of the columns as they are stored */
        const float *w = ch->w + (size_t)g->perm[c + i] * L;
        float *e = ch->work + (c + i) * L, s[L];
        memcpy(s, sum + i * L, sizeof s);
        best_value(ch, g, c + i, from, ch->work, s, t + (g->perm[c + i] - first) * L);
        for (int l = 0; l < L; l++) e[l] = w[l] - t[(g->perm[c + i] - first) * L + l];
        for (size_t j = 0; j < vec; j++) {
            double dot = 0;
            for (size_t k = 0; k <= (i < j ? i : j); k++)
                dot += (double)g->r[(c + k) * n + c + i] * g->r[(c + k) * n + c + j];
            a[(g->perm[c + i] - first) * V + (g->perm[c + j] - first)] = (float)dot;
        }
    }
    ch->k->take_point(ch->codec, &grid, a, V, t, none, value, move, code, gain);
    memcpy(ch->q + first * L, value, vec * L * sizeof *value);
    memcpy(ch->code + first * L, code, vec * L);
    for (size_t i = 0; i < vec; i++) {
        const size_t col = g->perm[c + i];
        for (int l = 0; l < L; l++)
            ch->work[(c + i) * L + l] = ch->w[col * L + l] - ch->q[col * L + l];
    }
}

/* The GPTQ pass: work[c], w - q of column perm[c], from the last to the first. */
static void round_in_turn(nib_chunk *ch, const job *j, const float *ms)
{
    const nib_gptq *g = j->g;
    const size_t n = ch->cols, lazy = g->opts.lazy, block = j->codec->block;
    float *sum = ch->tmp; /* [lazy + block][L] */
    for (size_t hi = n, lo; hi > 0; hi = lo) {
        lo = hi > lazy ? hi - lazy : 0;
        const bool fit = g->opts.when == NIB_PARAMS_REACHED;
        const size_t bottom = fit ? lo / block * block : lo;
        nib_gemm_nn(hi - bottom, L, n - hi, g->r + bottom * n + hi, n, ch->work + hi * L, L, sum, L,
                    0);
        if (fit) fit_reached(ch, j, lo, hi, sum, ms);
        for (size_t c = hi; j->codec->vec && c > lo; c -= j->codec->vec)
            round_vector(ch, g, c - j->codec->vec, hi, sum + (c - j->codec->vec - bottom) * L);
        for (size_t c = hi; !j->codec->vec && c-- > lo;) {
            const size_t col = g->perm[c];
            float best[L], *q = ch->q + col * L;
            nib_lane_grid grid;
            nib_chunk_grid(ch, col / j->codec->sub, &grid);
            best_value(ch, g, c, hi, ch->work, sum + (c - bottom) * L, best);
            ch->k->round(&ch->levels, &grid, best, q, ch->code + col * L);
            for (int l = 0; l < L; l++) ch->work[c * L + l] = ch->w[col * L + l] - q[l];
        }
    }
}

/* Energy and error of rounding to nearest, for the report. */
static void measure_plain(nib_chunk *ch, double *error)
{
    memset(ch->q, 0, ch->cols * L * sizeof *ch->q);
    error[0] = nib_chunk_error(ch);
    round_all(ch);
    error[1] = nib_chunk_error(ch);
}

static nib_code solve_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    job *j = arg;
    const nib_gptq *g = j->g;
    nib_chunk *ch = &g->chunk[thread];
    double *error = j->error ? j->error + begin / L * 3 : NULL;
    float ms[L];
    nib_code rc = nib_codec_check(j->codec, j->w + begin * g->cols, (end - begin) * g->cols, err);
    if (rc) return rc;
    load(ch, j, begin, end - begin);
    mean_squares(ch, ms);
    if (ch->n_blocks > 1)
        clear_dead(ch, g); /* a grid of the whole row spans them, as the reference's */
    if (j->codec->finish)
        take_fitted(ch, j, begin, end - begin);
    else if (g->opts.when == NIB_PARAMS_AHEAD || error)
        fit_all(ch, j, ms);
    clear_dead(ch, g);
    if (error) measure_plain(ch, error);
    round_in_turn(ch, j, ms);
    if (g->opts.sweeps) nib_chunk_descend(ch, g->opts.sweeps);
    if (error) error[2] = nib_chunk_error(ch);
    store(ch, j, begin, end - begin);
    return NIB_OK;
}

static bool chunk_init(nib_chunk *ch, const job *j)
{
    const nib_codec *c = j->codec;
    nib_buf *m = ch->memory;
    const size_t column = L * sizeof(float);
    ch->codec = c, ch->k = j->k, ch->levels = j->levels, ch->cols = j->cols, ch->h = j->g->h;
    ch->n_blocks = j->cols / c->block;
    ch->n_subs = j->cols / c->sub;
    if (!(ch->w = nib_buf_reserve(&m[0], ch->cols, column)) ||
        !(ch->work = nib_buf_reserve(&m[1], ch->cols, column)) ||
        !(ch->q = nib_buf_reserve(&m[2], ch->cols, column)) ||
        !(ch->code = nib_buf_reserve(&m[3], ch->cols, L)) ||
        !(ch->d = nib_buf_reserve(&m[4], ch->n_blocks, 3 * column)) ||
        !(ch->sc = nib_buf_reserve(&m[5], ch->n_subs, 2 * column)) ||
        !(ch->tmp = nib_buf_reserve(&m[6], nib_chunk_tmp(c, j->g->opts.lazy), sizeof(float))) ||
        !(ch->row = nib_buf_reserve(&m[7], c->block, column)))
        return false;
    ch->dmin = ch->d + ch->n_blocks * L;
    ch->zero = ch->dmin + ch->n_blocks * L;
    ch->mn = ch->sc + ch->n_subs * L;
    return true;
}

static void sum_errors(const job *j, nib_gptq_report *report)
{
    double sum[3] = {0};
    for (size_t i = 0; i < (j->rows + L - 1) / L; i++)
        for (int k = 0; k < 3; k++) sum[k] += j->error[i * 3 + k];
    report->energy = sum[0];
    report->rtn = sum[0] > 0 ? sum[1] / sum[0] : 0;
    report->solved = sum[0] > 0 ? sum[2] / sum[0] : 0;
}

nib_code nib_gptq_solve(nib_gptq *g, const nib_codec *c, const float *w, size_t rows, uint8_t *code,
                        nib_block_param *param, nib_gptq_report *report, nib_err *err)
{
    nib_code rc = NIB_OK;
    job j = {.g = g,
             .codec = c,
             .k = nib_lanes_get(g->ctx.cpu),
             .w = w,
             .rows = rows,
             .cols = g->cols,
             .code = code,
             .param = param};
    /* A block is fitted as a whole when it is reached, so its columns must come one after another.
     */
    assert(g->opts.order != NIB_ORDER_GROUPS || g->opts.when == NIB_PARAMS_AHEAD ||
           g->opts.group == c->block);
    if (g->cols % c->block)
        return nib_fail(err, NIB_EINVAL,
                        "%s: rows of %zu weights are no multiple of its block of %u", c->name,
                        g->cols, c->block);
    /* Vectors must come whole, and not be cut by the products in between. */
    assert(!c->vec || (g->together % c->vec == 0 && g->opts.lazy % c->vec == 0));
    nib_levels_init(&j.levels, c);
    /* What rows have in common is fitted before any is solved. */
    assert(!c->finish || g->opts.when == NIB_PARAMS_AHEAD);
    if (c->finish) rc = nib_fit_rows(c, w, g->imp, rows, g->cols, param, &g->ctx, err);
    if (rc) return rc;
    if (report && !(j.error = nib_calloc((rows + L - 1) / L, 3 * sizeof *j.error)))
        return nib_fail_nomem(err, "the solver");
    for (int t = 0; t < g->ctx.threads && !rc; t++)
        if (!chunk_init(&g->chunk[t], &j)) rc = nib_fail_nomem(err, "the solver's work memory");
    if (!rc) rc = nib_par_for(g->ctx.threads, rows, L, solve_rows, &j, err);
    if (!rc && report) sum_errors(&j, report);
    nib_free(j.error);
    return rc;
}
