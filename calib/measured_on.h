/* SPDX-License-Identifier: MIT */
/* calib/measured_on.h - of which model and windows a JSON file of statistics is: the head that such
 * files have in common.
 *
 *     {"format": FORMAT, "version": 1, "model": "FINGERPRINT",
 *      "windows": {"count": 128, "tokens": 2048, "fingerprint": "..."}, ...} */
#ifndef NIB_CALIB_MEASURED_ON_H
#define NIB_CALIB_MEASURED_ON_H

#include "calib/text.h"
#include "infer/model.h"

typedef struct {
    uint64_t model, text; /* fingerprints: of the model, of the windows */
    size_t n_windows, n_ctx;
} nib_measured_on;

NIB_MUST_USE nib_code nib_measured_on_get(nib_measured_on *on, const nib_model *m,
                                          const nib_windows *w, nib_err *err);

/* False: memory is short. */
NIB_MUST_USE bool nib_measured_on_write(nib_json *root, const char *format,
                                        const nib_measured_on *on);

/* NIB_EFORMAT names the key: another format or version, or measured on another model than m. */
NIB_MUST_USE nib_code nib_measured_on_read(nib_measured_on *on, const nib_json *root,
                                           const char *format, const nib_model *m, nib_err *err);

#endif
