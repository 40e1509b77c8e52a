/* SPDX-License-Identifier: MIT */
/* quant/int_kern.c - see int_kern.h.
 * Tests: tests/quant/test_codec_int.c, tests/quant/test_codec.c. */
#include "quant/int_kern.h"

#include "quant/vec.h"

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define TABLE JOIN(nib_int_kern, NIB_ISA)

enum { REGISTERS = NIB_INT_TRIALS / LANES };

static void try_steps(nib_int_sums *s, const float *x, const float *w, size_t n, const float *step,
                      float low, float high)
{
    const vf lo = v_set(low), hi = v_set(high), magic = v_set(12582912.0f);
    vf size[REGISTERS], per_step[REGISTERS];
    vf ee[REGISTERS], el[REGISTERS], ll[REGISTERS];
    for (int r = 0; r < REGISTERS; r++) {
        size[r] = v_load(step + r * LANES);
        per_step[r] = v_set(1) / size[r];
        ee[r] = el[r] = ll[r] = v_set(0);
    }
    for (size_t i = 0; i < n; i++) {
        const vf xi = v_set(x[i]), wi = v_set(w ? w[i] : 1);
        for (int r = 0; r < REGISTERS; r++) {
            const vf l = v_min(v_max(xi * per_step[r], lo), hi) + magic - magic; /* nearest even */
            const vf e = xi - size[r] * l, we = wi * e;
            ee[r] += we * e;
            el[r] += we * l;
            ll[r] += wi * l * l;
        }
    }
    for (int r = 0; r < REGISTERS; r++) {
        v_store(s->ee + r * LANES, ee[r]);
        v_store(s->el + r * LANES, el[r]);
        v_store(s->ll + r * LANES, ll[r]);
    }
}

static void try_ladder(nib_ladder_sums *s, const nib_ladder *v, const float *x, const float *w,
                       size_t n, const float *D)
{
    for (int r = 0; r < NIB_INT_TRIALS; r += LANES) {
        const vf d = v_load(D + r), none = v_set(0);
        const vf inverse = v_sel(v_gt(d, none), v_set(1) / d, none);
        vf xl = none, ll = none, ee = none;
        for (size_t i = 0; i < n; i++) {
            const vf xi = v_set(x[i]), wi = v_set(w[i]), at = xi * inverse;
            vf l = v_set(v->level[0]);
            for (int k = 1; k < v->n; k++)
                l = v_sel(v_ge(at, v_set(v->middle[k])), v_set(v->level[k]), l);
            const vf e = xi - d * l;
            xl += wi * xi * l;
            ll += wi * l * l;
            ee += wi * e * e;
        }
        v_store(s->xl + r, xl);
        v_store(s->ll + r, ll);
        v_store(s->ee + r, ee);
    }
}

extern const nib_int_kern TABLE;
const nib_int_kern TABLE = {try_steps, try_ladder};
