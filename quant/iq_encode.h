/* SPDX-License-Identifier: MIT */
/* quant/iq_encode.h - searches of the formats with codebooks of vectors (see nib_lane_search), of
 * this NIB_ISA. Private to the kernel files. */
#ifndef NIB_QUANT_IQ_ENCODE_H
#define NIB_QUANT_IQ_ENCODE_H

#include "quant/ggml_block.h"

#define NIB_IQ_PASTE2(a, b) a##b
#define NIB_IQ_PASTE(a, b) NIB_IQ_PASTE2(a, b)
#define NIB_IQ_SEARCH(name) NIB_IQ_PASTE(nib_search_##name##_, NIB_ISA)

nib_lane_search NIB_IQ_SEARCH(iq3_s), NIB_IQ_SEARCH(iq3_xxs), NIB_IQ_SEARCH(iq2_s),
    NIB_IQ_SEARCH(iq2_xs), NIB_IQ_SEARCH(iq2_xxs), NIB_IQ_SEARCH(iq1_m), NIB_IQ_SEARCH(iq1_s);

#endif
