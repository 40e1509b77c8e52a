/* SPDX-License-Identifier: MIT */
/* quant/grouped.c - see grouped.h. The products themselves are in dot_kern.c. */
#include "quant/grouped.h"

#include "base/cpu.h"
#include "base/mem.h"
#include "quant/dot_impl.h"

#include <string.h>

enum { RUN = 32, LEVELS = 256 };

extern const nib_dot_kern nib_dot_c, nib_dot_avx2, nib_dot_avx512;

struct nib_grouped {
    size_t rows, cols, groups, runs;
    unsigned bits;
    size_t run_bytes, zeros; /* zeros: numbers of a row's `least`, `groups` or none */
    float level[LEVELS];
    uint32_t *place; /* [cols] of each column in the order                         */
    uint32_t *end;   /* [groups] runs of a row up to the end of each               */
    uint8_t *code;   /* [rows][runs][run_bytes], in 8 bits less the middle         */
    float *scale;    /* [rows][groups]                                             */
    float *least;    /* [rows][zeros]: scale times the zero point less the middle  */
    bool levels;
};

static size_t group_of(const nib_grouped_shape *s, size_t c)
{
    return s->g_idx ? s->g_idx[c] : c / s->group;
}

/* Runs of a row; at most one for each column. */
static size_t count_runs(const nib_grouped_shape *s)
{
    const size_t tail = s->cols % (s->group ? s->group : 1);
    if (s->g_idx) return s->cols / RUN + s->groups; /* at most */
    return s->cols / s->group * ((s->group + RUN - 1) / RUN) + (tail + RUN - 1) / RUN;
}

static size_t bytes_of_run(const nib_grouped_shape *s)
{
    return s->bits <= 4 ? RUN / 2 : RUN;
}

uint64_t nib_grouped_bytes(const nib_grouped_shape *s)
{
    const size_t numbers = s->level ? 1 : 2;
    size_t row, all;
    if (!nib_mul(count_runs(s), bytes_of_run(s), &row) ||
        !nib_add(row, s->groups * numbers * sizeof(float), &row) || !nib_mul(row, s->rows, &all) ||
        !nib_add(all, (s->cols + s->groups) * sizeof(uint32_t), &all))
        return UINT64_MAX;
    return all;
}

/* Where each column goes, and where groups end. */
static void place_columns(nib_grouped *w, const nib_grouped_shape *s)
{
    size_t run = 0;
    memset(w->end, 0, w->groups * sizeof *w->end);
    for (size_t c = 0; c < w->cols; c++) w->place[c] = w->end[group_of(s, c)]++;
    for (size_t g = 0; g < w->groups; g++) { /* from columns of a group to where it begins */
        const size_t n = (w->end[g] + RUN - 1) / RUN;
        w->end[g] = (uint32_t)run;
        run += n;
    }
    for (size_t c = 0; c < w->cols; c++) w->place[c] += w->end[group_of(s, c)] * RUN;
    for (size_t g = 0; g + 1 < w->groups; g++) w->end[g] = w->end[g + 1];
    if (w->groups) w->end[w->groups - 1] = (uint32_t)run;
    w->runs = run;
}

nib_code nib_grouped_new(nib_grouped **out, const nib_grouped_shape *s, nib_err *err)
{
    *out = NULL;
    nib_grouped *w = nib_calloc(1, sizeof *w);
    if (!w) return nib_fail_nomem(err, "weights");
    *w = (nib_grouped){.rows = s->rows,
                       .cols = s->cols,
                       .groups = s->groups,
                       .bits = s->bits,
                       .run_bytes = bytes_of_run(s),
                       .zeros = s->level ? 0 : s->groups,
                       .levels = s->level};
    if (s->level) memcpy(w->level, s->level, (sizeof *w->level) << s->bits);
    w->place = nib_alloc(s->cols, sizeof *w->place);
    w->end = nib_alloc(s->groups, sizeof *w->end);
    if (w->place && w->end) {
        size_t row;
        place_columns(w, s);
        if (nib_mul(w->runs, w->run_bytes, &row)) w->code = nib_calloc(s->rows, row);
        w->scale = nib_alloc(s->rows, s->groups * sizeof *w->scale);
        w->least = nib_alloc(s->rows, w->zeros * sizeof *w->least);
    }
    if (!w->code || !w->scale || !w->least) {
        nib_grouped_free(w);
        return nib_fail_nomem(err, "weights");
    }
    *out = w;
    return NIB_OK;
}

void nib_grouped_free(nib_grouped *w)
{
    if (!w) return;
    nib_free(w->place);
    nib_free(w->end);
    nib_free(w->code);
    nib_free(w->scale);
    nib_free(w->least);
    nib_free(w);
}

static unsigned middle(const nib_grouped *w)
{
    return 1u << (w->bits - 1);
}

void nib_grouped_set(nib_grouped *w, size_t row, const uint8_t *code, const float *scale,
                     const int32_t *zero)
{
    uint8_t *to = w->code + row * w->runs * w->run_bytes;
    const bool half = w->run_bytes < RUN;
    const uint8_t less = (uint8_t)(w->levels ? 0 : middle(w));
    for (size_t c = 0; c < w->cols; c++) {
        const size_t at = w->place[c], run = at / RUN, j = at % RUN;
        if (half)
            to[run * RUN / 2 + j % 16] |= (uint8_t)(code[c] << (j < 16 ? 0 : 4));
        else
            to[at] = (uint8_t)(code[c] - less);
    }
    memcpy(w->scale + row * w->groups, scale, w->groups * sizeof *scale);
    for (size_t g = 0; g < w->zeros; g++)
        w->least[row * w->zeros + g] = scale[g] * (float)(zero[g] - (int32_t)middle(w));
}

void nib_grouped_done(nib_grouped *w)
{
    for (size_t i = 0; i < w->rows * w->zeros; i++)
        if (w->least[i] != 0) return;
    nib_free(w->least);
    w->least = NULL;
    w->zeros = 0;
}

size_t nib_grouped_step(const nib_grouped *w)
{
    return w->runs * RUN;
}

size_t nib_grouped_groups(const nib_grouped *w)
{
    return w->groups;
}

void nib_grouped_order(float *to, float *sum, const nib_grouped *w, const float *x)
{
    memset(to, 0, nib_grouped_step(w) * sizeof *to);
    for (size_t c = 0; c < w->cols; c++) to[w->place[c]] = x[c];
    for (size_t g = 0; g < w->groups; g++) {
        float s[RUN] = {0};
        for (size_t run = g ? w->end[g - 1] : 0; run < w->end[g]; run++)
            for (size_t j = 0; j < RUN; j++) s[j] += to[run * RUN + j];
        for (size_t n = RUN / 2; n; n /= 2)
            for (size_t j = 0; j < n; j++) s[j] += s[j + n];
        sum[g] = s[0];
    }
}

void nib_grouped_dot(const nib_grouped *w, float *y, size_t y_step, size_t first, size_t n_rows,
                     const nib_dot_in *in, unsigned cpu)
{
    const nib_dot_kern *kern = NIB_KERNELS(nib_dot, cpu);
    const bool half = w->run_bytes < RUN;
    nib_dot_groups_fn *dot = half        ? w->levels ? kern->level4 : kern->int4
                             : w->levels ? kern->level8
                                         : kern->int8;
    for (size_t r = 0; r < n_rows; r++) {
        const size_t row = first + r;
        const nib_dot_groups now = {.n = w->groups,
                                    .end = w->end,
                                    .code = w->code + row * w->runs * w->run_bytes,
                                    .scale = w->scale + row * w->groups,
                                    .least = w->zeros ? w->least + row * w->groups : NULL,
                                    .level = w->level,
                                    .middle = (int8_t)middle(w)};
        for (size_t i = 0; i < in->n; i += NIB_DOT_VECTORS) {
            float sum[NIB_DOT_VECTORS];
            nib_dot_in some = *in;
            some.x += i * in->step;
            some.sum += i * in->sum_step;
            some.n = in->n - i < NIB_DOT_VECTORS ? in->n - i : NIB_DOT_VECTORS;
            dot(sum, &now, &some);
            for (size_t k = 0; k < some.n; k++) y[(i + k) * y_step + r] = sum[k];
        }
    }
}
