/* SPDX-License-Identifier: MIT */
/* base/par.h - parallel loops. The only header that knows how threads are made (OpenMP).
 *
 * One construct: split a range into chunks, run them, wait. The chunk size depends on the data,
 * never on the number of threads, and each task writes its own slice; partial sums are kept per
 * chunk and combined in chunk order. So results do not depend on the number of threads. */
#ifndef NIB_BASE_PAR_H
#define NIB_BASE_PAR_H

#include "base/err.h"

#include <stddef.h>

/* One chunk [begin, end). `thread` < the thread count and selects per-thread scratch memory. */
typedef nib_code nib_par_fn(void *arg, size_t begin, size_t end, int thread, nib_err *err);

/* Run fn over [0, n) in chunks of `chunk` (the last may be shorter), at most `threads` at a time,
 * chunks handed out in order. Returns the error of the lowest failing chunk; chunks not yet
 * started when one fails are skipped. Does not nest. BLAS inside a chunk runs on that thread. */
NIB_MUST_USE nib_code nib_par_for(int threads, size_t n, size_t chunk, nib_par_fn *fn, void *arg,
                                  nib_err *err);

/* How many processors this process may use. */
int nib_par_cores(void);

#endif
