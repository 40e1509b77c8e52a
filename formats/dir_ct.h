/* SPDX-License-Identifier: MIT */
/* formats/dir_ct.h - inside formats/: the configuration of compressed-tensors folders, the same for
 * both kinds of layout. */
#ifndef NIB_FORMATS_DIR_CT_H
#define NIB_FORMATS_DIR_CT_H

#include "formats/layout_impl.h"

/* The members config_read and config_write of nib_layout_ops. */
NIB_MUST_USE nib_code nib_ct_config_read(nib_layout_rules *rules, const nib_json *config,
                                         nib_err *err);
NIB_MUST_USE bool nib_ct_config_write(nib_json *config, const nib_layout_format *f,
                                      const nib_layout_note *note);

#endif
