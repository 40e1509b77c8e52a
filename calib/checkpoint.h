/* SPDX-License-Identifier: MIT */
/* calib/checkpoint.h - an unfinished calibration run on disk.
 *
 * The file is an importance matrix with F64 tensors, which lose nothing, and two more keys: the
 * fingerprint of the run (model, windows, options) and how many windows are done. */
#ifndef NIB_CALIB_CHECKPOINT_H
#define NIB_CALIB_CHECKPOINT_H

#include "calib/collect_importance.h"

/* Of what decides the result: the tensors (names, shapes, the first bytes of each), the windows,
 * the options. */
NIB_MUST_USE nib_code nib_checkpoint_fingerprint(uint64_t *out, const nib_model *m,
                                                 const nib_windows *w, const nib_calib_opts *opts,
                                                 nib_err *err);

/* Write *m and how many of its windows are summed up, in place of what is there. */
NIB_MUST_USE nib_code nib_checkpoint_save(const nib_imatrix *m, uint64_t fingerprint,
                                          size_t windows_done, const char *path, nib_err *err);

/* Fill the entries of *m from `path`. *windows_done stays 0 when there is no such file, or when it
 * is of another run (warned about). */
NIB_MUST_USE nib_code nib_checkpoint_load(nib_imatrix *m, uint64_t fingerprint,
                                          size_t *windows_done, const char *path, nib_log *log,
                                          nib_err *err);

#endif
