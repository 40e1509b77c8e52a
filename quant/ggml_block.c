/* SPDX-License-Identifier: MIT */
/* quant/ggml_block.c - block formats: choice of kernels, fit and encode around the searches.
 *
 * Importances that are all zero. The reference then finds no scale and writes zeros. Here a group
 * of weights that share a scale, and whose importances are all zero, gets the smallest positive
 * importance of its block, or 1 where the whole block has none. Groups are sub-blocks; in formats
 * with minimums, whose search finds a scale without weights too, they are blocks. Everything else
 * is the reference's to the byte. Tests: tests/quant/test_codec.c, tests/quant/test_golden.c. */
#include "quant/ggml_block.h"

#include "base/cpu.h"
#include "base/mem.h"

#include <string.h>

enum { ROWS_AT_ONCE = 16 }; /* as many rows as lanes: no lane idles, whatever a row's blocks */

const nib_encode_kern *nib_encode_for(unsigned cpu)
{
    return NIB_KERNELS(nib_encode, cpu);
}

const nib_decode_kern *nib_decode_for(unsigned cpu)
{
    return NIB_KERNELS(nib_decode, cpu);
}

/* ---- importances ---- */

static float smallest_positive(const float *x, size_t n)
{
    float least = 0;
    for (size_t i = 0; i < n; i++)
        if (x[i] > 0 && (least == 0 || x[i] < least)) least = x[i];
    return least > 0 ? least : 1;
}

static bool all_zero(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (x[i] > 0) return false;
    return true;
}

/* Copy with zero groups filled; returns how many blocks have one. */
static size_t fill_zero_groups(float *dst, const float *imp, size_t cols, const nib_codec *c)
{
    size_t blocks = 0, group = c->mn_max ? c->block : c->sub;
    memcpy(dst, imp, cols * sizeof *dst);
    for (size_t at = 0; at < cols; at += c->block) {
        bool filled = false;
        for (size_t g = at; g < at + c->block; g += group) {
            if (!all_zero(imp + g, group)) continue;
            float v = smallest_positive(imp + at, c->block);
            for (size_t i = 0; i < group; i++) dst[g + i] = v;
            filled = true;
        }
        blocks += filled;
    }
    return blocks;
}

void nib_block_importances(float *dst, const float *imp, const nib_codec *c)
{
    fill_zero_groups(dst, imp, c->block, c);
}

/* ---- parameters alone ---- */

/* Blocks in lanes; idle lanes repeat the last block. A scale that overflows f16 stays infinite, so
 * that the bytes tell: see valid() of codec.h. */
void nib_block_fit(const nib_codec *c, nib_block_param *p, const nib_fit_in *in, size_t n,
                   unsigned cpu)
{
    const nib_encode_kern *k = nib_encode_for(cpu);
    float imp[NIB_BLOCK_MAX];
    uint8_t code[NIB_LANES_MAX * NIB_BLOCK_MAX];
    nib_block_param lane[NIB_LANES_MAX];
    const bool weighted = n && in->imp && c->uses_importance;
    nib_lane_in block;
    if (weighted) fill_zero_groups(imp, in->imp, c->block, c);
    for (size_t at = 0; at < n; at += k->lanes) {
        const size_t here = n - at < k->lanes ? n - at : k->lanes;
        for (size_t i = 0; i < k->lanes; i++) {
            const nib_fit_in *one = &in[at + (i < here ? i : here - 1)];
            block.w[i] = one->w;
            block.imp[i] = weighted ? imp : NULL;
            block.mean_square[i] = one->row_mean_square;
        }
        memset(lane, 0, sizeof lane);
        k->search[c->type](lane, code, &block);
        for (size_t i = 0; i < here; i++) p[at + i] = lane[i];
    }
}

/* ---- rows ---- */

typedef struct {
    const nib_codec *c;
    const nib_encode_kern *k;
    const float *imp; /* [cols] or NULL */
    size_t cols;
} encoder;

/* sum of squares / cols of up to 16 rows. */
static void mean_squares(float *ms, const encoder *e, const float *w, size_t rows)
{
    const float *row[NIB_LANES_MAX];
    for (size_t r = 0; r < rows; r += e->k->lanes) {
        float sum[NIB_LANES_MAX];
        size_t n = rows - r < e->k->lanes ? rows - r : e->k->lanes;
        for (size_t i = 0; i < e->k->lanes; i++) row[i] = w + (r + (i < n ? i : n - 1)) * e->cols;
        e->k->sum_squares(sum, row, e->cols);
        for (size_t i = 0; i < n; i++) ms[r + i] = sum[i] / (float)e->cols;
    }
}

/* Up to 16 rows; their blocks, one after the other, go to the lanes. */
static void encode_rows(const encoder *e, uint8_t *dst, const float *w, size_t rows)
{
    const nib_codec *c = e->c;
    size_t per_row = e->cols / c->block, blocks = rows * per_row, lanes = e->k->lanes;
    float ms[ROWS_AT_ONCE] = {0};
    uint8_t code[NIB_LANES_MAX * NIB_BLOCK_MAX];
    nib_block_param p[NIB_LANES_MAX];
    nib_lane_in in;
    if (e->imp && c->block == 32) mean_squares(ms, e, w, rows);
    for (size_t at = 0; at < blocks; at += lanes) {
        size_t n = blocks - at < lanes ? blocks - at : lanes;
        for (size_t i = 0; i < lanes; i++) { /* idle lanes repeat the last block */
            size_t b = at + (i < n ? i : n - 1);
            in.w[i] = w + b * c->block;
            in.imp[i] = e->imp ? e->imp + b % per_row * c->block : NULL;
            in.mean_square[i] = ms[b / per_row];
        }
        e->k->search[c->type](p, code, &in);
        for (size_t i = 0; i < n; i++)
            c->pack(dst + (at + i) * c->bytes, &p[i], code + i * c->block);
    }
}

size_t nib_block_encode(const nib_codec *c, uint8_t *dst, const float *w, const float *imp,
                        size_t rows, size_t cols, unsigned cpu, void *scratch)
{
    encoder e = {.c = c, .k = nib_encode_for(cpu), .cols = cols};
    size_t zero = 0, row_bytes = cols / c->block * c->bytes;
    if (imp && c->uses_importance) {
        e.imp = scratch;
        zero = fill_zero_groups(scratch, imp, cols, c) * rows;
    }
    for (size_t r = 0; r < rows; r += ROWS_AT_ONCE) {
        size_t n = rows - r < ROWS_AT_ONCE ? rows - r : ROWS_AT_ONCE;
        encode_rows(&e, dst + r * row_bytes, w + r * cols, n);
    }
    return zero;
}

size_t nib_encode_scratch(size_t cols)
{
    size_t bytes;
    return nib_mul(cols, sizeof(float), &bytes) ? bytes : 0;
}
