/* SPDX-License-Identifier: MIT */
/* quant/levels.c - what the solvers' loops need to know of a codec, and which loops this processor
 * runs. Tests: tests/quant/test_solver.c. */
#include "quant/int_kern.h"
#include "quant/lanes.h"

#include "base/cpu.h"

#include <string.h>

extern const nib_lanes nib_lanes_c, nib_lanes_avx2, nib_lanes_avx512;
extern const nib_int_kern nib_int_kern_c, nib_int_kern_avx2, nib_int_kern_avx512;

const nib_lanes *nib_lanes_get(unsigned cpu)
{
    return NIB_KERNELS(nib_lanes, cpu);
}

const nib_int_kern *nib_int_kern_get(unsigned cpu)
{
    return NIB_KERNELS(nib_int_kern, cpu);
}

void nib_levels_init(nib_levels *lv, const nib_codec *c)
{
    memset(lv, 0, sizeof *lv);
    lv->n_codes = c->n_codes;
    lv->level0 = (float)c->level0;
    lv->codebook = c->codebook != NULL;
    lv->codec = c;
    lv->small = c->small;
    if (!c->codebook) return;
    for (int k = 0; k < c->n_codes; k++) lv->level[k] = c->codebook[k];
    for (int k = 0; k + 1 < c->n_codes; k++) lv->middle[k] = (lv->level[k] + lv->level[k + 1]) / 2;
}
