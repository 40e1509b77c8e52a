/* SPDX-License-Identifier: MIT */
/* quant/regrid.c - see regrid.h. Tests: tests/formats/test_lossless.c. */
#include "quant/regrid.h"

#include <math.h>

bool nib_grid_of_codec(nib_grid *g, const nib_codec *c)
{
    if (!c->quantized || !c->pack || c->codebook || c->sc_min != 1 || c->sc_max != 1 ||
        c->mn_max > 1)
        return false;
    *g = (nib_grid){.n_codes = c->n_codes,
                    .zero_low = -c->level0,
                    .zero_high = -c->level0,
                    .minimum = c->mn_max == 1,
                    .group = c->block,
                    .scale_type = c->scale_type};
    if (g->minimum) g->zero_low = -INT16_MAX, g->zero_high = INT16_MAX;
    return true;
}

static bool stored(nib_type type, float x)
{
    return isfinite(x) && nib_scale_stored(type, x) == x;
}

static int32_t clamp(int32_t x, int32_t low, int32_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* What the columns of one group of the result have in common. */
typedef struct {
    float scale;
    int32_t zero, low, high; /* of levels */
    bool one_scale, one_zero;
} group_facts;

static size_t source_column(const nib_grid_row *r, size_t c)
{
    return r->from ? r->from[c] : c;
}

static group_facts look(const nib_grid_row *r, size_t first, size_t end)
{
    const uint32_t g0 = r->group_of[source_column(r, first)];
    group_facts f = {r->scale[g0], r->zero[g0], INT32_MAX, INT32_MIN, true, true};
    for (size_t c = first; c < end; c++) {
        const size_t k = source_column(r, c);
        const uint32_t g = r->group_of[k];
        const int32_t level = r->code[k] - r->zero[g];
        f.one_scale &= r->scale[g] == f.scale;
        f.one_zero &= r->zero[g] == f.zero;
        if (level < f.low) f.low = level;
        if (level > f.high) f.high = level;
    }
    return f;
}

/* Zero points under which all levels are codes; none where *low > *high. */
static void zero_range(const nib_grid *to, const group_facts *f, int32_t *low, int32_t *high)
{
    *low = -f->low > to->zero_low ? -f->low : to->zero_low;
    *high = to->n_codes - 1 - f->high;
    if (*high > to->zero_high) *high = to->zero_high;
}

/* The one of them that is taken, and with a minimum the first whose product with the scale is
 * exact. */
static nib_held choose_zero(int32_t *zero, const nib_grid *to, const group_facts *f)
{
    int32_t low, high;
    zero_range(to, f, &low, &high);
    if (low > high) return NIB_HELD_NOT_LEVELS;
    const bool kept = f->one_zero && f->zero >= low && f->zero <= high;
    *zero = kept ? f->zero : clamp(to->n_codes / 2, low, high);
    if (!to->minimum || stored(to->scale_type, f->scale * (float)*zero)) return NIB_HELD;
    for (*zero = low; *zero <= high; ++*zero)
        if (stored(to->scale_type, f->scale * (float)*zero)) return NIB_HELD;
    return NIB_HELD_NOT_SCALE;
}

nib_held nib_regrid_row(uint8_t *code, nib_block_param *param, const nib_grid *to,
                        const nib_grid_row *row, size_t *at)
{
    for (size_t first = 0; first < row->cols; first += to->group, param++) {
        const size_t end = row->cols - first < to->group ? row->cols : first + to->group;
        const group_facts f = look(row, first, end);
        int32_t zero;
        nib_held held = !f.one_scale                       ? NIB_HELD_NOT_SCALES
                        : !stored(to->scale_type, f.scale) ? NIB_HELD_NOT_SCALE
                                                           : choose_zero(&zero, to, &f);
        if (held) {
            if (at) *at = first;
            return held;
        }
        *param = (nib_block_param){.d = f.scale, .zero = to->minimum ? 0 : (float)zero, .sc = {1}};
        if (to->minimum) param->dmin = f.scale * (float)zero, param->mn[0] = 1;
        for (size_t c = first; c < end; c++) {
            const size_t k = source_column(row, c);
            code[c] = (uint8_t)(row->code[k] - row->zero[row->group_of[k]] + zero);
        }
    }
    return NIB_HELD;
}
