/* SPDX-License-Identifier: MIT */
/* run/plan/carry.c - see carry.h. Tests: tests/run/test_convert.c. */
#include "run/plan/carry.h"

#include "base/par.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 128, WHOLE_F16 = 2048 }; /* all whole numbers up to it are numbers of f16 */

/* Of one thread. */
typedef struct {
    nib_buf raw, code, param;
    nib_carry_fault fault;
} work;

typedef struct {
    const nib_carry *k;
    const uint32_t *group_of; /* [cols] */
    size_t cols, groups;      /* of the source; of the result */
    size_t source_groups;
    uint8_t *code;
    nib_block_param *param;
    work *work;
} job;

static nib_code check_scales(const job *j, const nib_packing_rows *r, size_t row, nib_err *err)
{
    for (size_t i = 0; i < r->n * j->source_groups; i++)
        if (!isfinite(r->scale[i]))
            return nib_fail(err, NIB_ENUMERIC, "tensor '%.200s': row %zu has a scale that is %s",
                            j->k->t->name, row + i / j->source_groups,
                            isnan(r->scale[i]) ? "NaN" : "infinite");
    return NIB_OK;
}

static nib_code carry_chunk(job *j, size_t row, size_t n, work *w, nib_err *err)
{
    const nib_carry *k = j->k;
    nib_packing_rows r;
    nib_code rc = nib_source_read_ints(&r, k->src, k->t, row, n, &w->raw, err);
    if (!rc) rc = check_scales(j, &r, row, err);
    for (size_t i = 0; i < n && !rc; i++) {
        const size_t to = k->row_to ? k->row_to[row + i] : row + i;
        const nib_grid_row from = {.cols = j->cols,
                                   .code = r.code + i * j->cols,
                                   .scale = r.scale + i * j->source_groups,
                                   .zero = r.zero + i * j->source_groups,
                                   .group_of = j->group_of,
                                   .from = k->col_from};
        size_t at = 0;
        const nib_held held =
            nib_regrid_row(j->code ? j->code + to * j->cols : w->code.p,
                           j->code ? j->param + to * j->groups : w->param.p, &k->to, &from, &at);
        if (!held || (w->fault.why && w->fault.row <= row + i)) continue;
        w->fault = (nib_carry_fault){held, row + i, at};
        break;
    }
    return rc;
}

static nib_code carry_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    job *j = arg;
    work *w = &j->work[thread];
    if (!nib_buf_reserve(&w->code, j->cols, 1) ||
        !nib_buf_reserve(&w->param, j->groups, sizeof *j->param))
        return nib_fail_nomem(err, "a row");
    return carry_chunk(j, begin, end - begin, w, err);
}

static uint32_t *list_groups(const nib_int_groups *g, size_t cols)
{
    uint32_t *of = nib_alloc(cols, sizeof *of);
    for (size_t c = 0; of && c < cols; c++)
        of[c] = g->g_idx ? g->g_idx[c] : (uint32_t)(c / g->group);
    return of;
}

nib_code nib_carry_matrix(uint8_t *code, nib_block_param *param, nib_carry_fault *fault,
                          const nib_carry *k, const nib_ctx *ctx, nib_err *err)
{
    nib_int_groups g;
    *fault = (nib_carry_fault){0};
    if (!nib_tensor_ints(k->t, &g))
        return nib_fail(err, NIB_EINVAL, "tensor '%.200s' holds no integers", k->t->name);
    const size_t cols = (size_t)nib_tensor_cols(k->t), rows = (size_t)nib_tensor_rows(k->t);
    uint32_t *group_of = list_groups(&g, cols);
    job j = {.k = k,
             .group_of = group_of,
             .cols = cols,
             .groups = (cols + k->to.group - 1) / k->to.group,
             .source_groups = (size_t)g.groups,
             .code = code,
             .param = param,
             .work = nib_calloc((size_t)ctx->threads, sizeof *j.work)};
    nib_code rc = group_of && j.work ? nib_par_for(ctx->threads, rows, ROWS, carry_rows, &j, err)
                                     : nib_fail_nomem(err, "work memory");
    for (int i = 0; i < ctx->threads && j.work; i++) {
        work *w = &j.work[i];
        if (w->fault.why && (!fault->why || w->fault.row < fault->row)) *fault = w->fault;
        nib_buf_free(&w->raw);
        nib_buf_free(&w->code);
        nib_buf_free(&w->param);
    }
    nib_free(j.work);
    nib_free(group_of);
    return rc;
}

void nib_carry_say(char *text, size_t n, const nib_carry_fault *fault, const nib_grid *to)
{
    static const char *const what[] = {
        [NIB_HELD_NOT_SCALES] = "have several scales",
        [NIB_HELD_NOT_SCALE] = "have a scale or a minimum that is no number of its dtype",
        [NIB_HELD_NOT_LEVELS] = "hold more than its codes and zero points"};
    snprintf(text, n, "in row %llu the %zu columns from %llu on %s", (unsigned long long)fault->row,
             to->group, (unsigned long long)fault->col, what[fault->why]);
}

nib_grid nib_carry_grid_of(const nib_packed_parts *l)
{
    const nib_int_codec c = nib_packing_codec(l);
    const int32_t middle = 1 << (l->format.bits - 1);
    const bool any = l->format.kind == NIB_PACKING_HQQ; /* whole or not */
    return (nib_grid){.n_codes = 1 << l->format.bits,
                      .zero_low = any             ? -WHOLE_F16
                                  : l->format.sym ? middle
                                                  : (int32_t)c.zero_min,
                      .zero_high = any             ? WHOLE_F16
                                   : l->format.sym ? middle
                                                   : (1 << l->format.bits) - 1,
                      .group = (size_t)l->group,
                      .scale_type = l->format.scale_type};
}

bool nib_carry_grid(nib_grid *to, const nib_plan_tensor *t)
{
    if (!t->layout.n_parts) return nib_grid_of_codec(to, t->codec);
    *to = nib_carry_grid_of(&t->layout);
    return true;
}

nib_code nib_carry_order(const uint32_t **order, const nib_tensor *t, nib_arena *memory,
                         nib_err *err)
{
    nib_int_groups g;
    *order = NULL;
    if (!nib_tensor_ints(t, &g) || !g.g_idx) return NIB_OK;
    const size_t cols = (size_t)nib_tensor_cols(t);
    bool natural = true;
    for (size_t c = 0; c < cols && natural; c++) natural = g.g_idx[c] == c / g.group;
    if (natural) return NIB_OK;
    uint32_t *at = nib_calloc((size_t)g.groups, sizeof *at);
    uint32_t *list = nib_arena_alloc(memory, cols, sizeof *list, sizeof *list);
    nib_code rc = at && list ? NIB_OK : nib_fail_nomem(err, "an order of columns");
    bool whole = true; /* groups of the same number of columns */
    for (size_t c = 0; c < cols && !rc && whole; c++) {
        const uint32_t group = g.g_idx[c];
        const size_t to = group * g.group + at[group]++;
        whole = at[group] <= g.group && to < cols;
        if (whole) list[to] = (uint32_t)c;
    }
    if (!rc && whole) *order = list;
    nib_free(at);
    return rc;
}

/* Channels of a head so that those of a group follow each other, in order[dim]; false: a group has
 * columns elsewhere too. `group` is of the head's columns, `each` that of a whole one. */
static bool gather_groups(uint32_t *order, const uint32_t *group, size_t dim, size_t each)
{
    size_t n = 0;
    for (size_t d = 0; d < dim; d++) {
        bool placed = false;
        size_t count = 0;
        for (size_t i = 0; i < d && !placed; i++) placed = group[i] == group[d];
        for (size_t i = d; i < dim && !placed; i++)
            if (group[i] == group[d]) order[n + count++] = (uint32_t)i;
        if (!placed && count != each) return false;
        n += count;
    }
    return true;
}

/* Does the order bring together what belongs to a group in another head, too? */
static bool fits(const uint32_t *order, const uint32_t *group, size_t dim, size_t each)
{
    for (size_t i = 0; i < dim; i++)
        if (group[order[i]] != group[order[i / each * each]]) return false;
    return true;
}

nib_code nib_carry_order_in_heads(const uint32_t **columns, const uint32_t **rows,
                                  const nib_tensor *t, const nib_carry_heads *heads,
                                  nib_arena *memory, nib_err *err)
{
    nib_int_groups g;
    const uint32_t *any;
    const size_t dim = heads->dim, sharing = heads->n / heads->n_kv;
    nib_code rc = nib_carry_order(&any, t, memory, err);
    *columns = *rows = NULL;
    if (rc || !any || !nib_tensor_ints(t, &g) || heads->n * dim != nib_tensor_cols(t) ||
        dim % g.group)
        return rc;
    uint32_t *of_kv = nib_arena_alloc(memory, heads->n_kv * dim, sizeof *of_kv, sizeof *of_kv);
    uint32_t *of_q = nib_arena_alloc(memory, heads->n * dim, sizeof *of_q, sizeof *of_q);
    if (!of_kv || !of_q) return nib_fail_nomem(err, "an order of columns");
    for (size_t h = 0; h < heads->n; h++) {
        const size_t kv = h / sharing;
        const uint32_t *group = g.g_idx + h * dim;
        uint32_t *order = of_kv + kv * dim; /* counted inside the head, for now */
        if (h % sharing ? !fits(order, group, dim, (size_t)g.group)
                        : !gather_groups(order, group, dim, (size_t)g.group))
            return NIB_OK;
        for (size_t i = 0; i < dim; i++) of_q[h * dim + i] = (uint32_t)(h * dim) + order[i];
    }
    for (size_t i = 0; i < heads->n_kv * dim; i++) of_kv[i] += (uint32_t)(i / dim * dim);
    *columns = of_q;
    *rows = of_kv;
    return NIB_OK;
}
