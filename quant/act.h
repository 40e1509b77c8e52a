/* SPDX-License-Identifier: MIT */
/* quant/act.h - how the inputs of a linear layer are rounded (W8A8). */
#ifndef NIB_QUANT_ACT_H
#define NIB_QUANT_ACT_H

#include "quant/range.h"

#include <stdbool.h>
#include <stdint.h>

/* Are a linear layer's inputs rounded too, to 8-bit integers: x = scale * (q - zero)? */
typedef enum {
    NIB_ACT_NONE,
    NIB_ACT_TOKEN,  /* each token by its own range, found as it comes */
    NIB_ACT_TENSOR, /* all by one range, found beforehand             */
} nib_act_scheme;

typedef struct {
    float scale;
    int32_t zero; /* from -128 to 127; 0 where symmetric */
} nib_act_range;

/* The grid on a range. */
static inline nib_act_range nib_act_range_on(const nib_range *r, bool sym)
{
    return sym ? (nib_act_range){r->scale, 0} : (nib_act_range){r->asym_scale, r->zero};
}

typedef struct {
    nib_act_scheme scheme;
    bool sym;            /* zero is 0; else it is chosen so that a range's ends are -128 and 127 */
    unsigned bits;       /* 8 */
    nib_act_range range; /* of NIB_ACT_TENSOR */
} nib_act_quant;

#endif
