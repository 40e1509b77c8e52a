/* SPDX-License-Identifier: MIT */
/* report/made_by.h - how a model was made, as far as it says so itself. */
#ifndef NIB_REPORT_MADE_BY_H
#define NIB_REPORT_MADE_BY_H

#include "formats/source.h"

/* One line, cut off where it is long; the caller frees it. nibble's recipe; of other tools' files
 * the "quantization_config" of a folder, or the importance matrix that a GGUF file names. NULL: it
 * says nothing, or memory is short. */
char *nib_made_by(const nib_source *s);

#endif
