/* SPDX-License-Identifier: MIT */
/* formats/packed_ct.h - inside formats/: the configuration of compressed-tensors folders, the same
 * for all kinds of layout. */
#ifndef NIB_FORMATS_PACKED_CT_H
#define NIB_FORMATS_PACKED_CT_H

#include "formats/packed_format_impl.h"

/* F16 and BF16 of such weights, else F32. */
nib_type nib_ct_scale_type(nib_type weight);

/* The members config_read and config_write of nib_packing_ops. */
NIB_MUST_USE nib_code nib_ct_config_read(nib_packing_rules *rules, const nib_json *config,
                                         nib_err *err);
NIB_MUST_USE bool nib_ct_config_write(nib_json *config, const nib_packing *f,
                                      const nib_packing_note *note);

#endif
