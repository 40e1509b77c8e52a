/* SPDX-License-Identifier: MIT */
/* base/par.c - see par.h. The only file that sees OpenMP. */
#include "base/par.h"

#include <omp.h>

int nib_par_cores(void)
{
    return omp_get_num_procs();
}

static nib_code run_alone(size_t n, size_t chunk, nib_par_fn *fn, void *arg, nib_err *err)
{
    for (size_t begin = 0; begin < n; begin += chunk) {
        size_t end = n - begin < chunk ? n : begin + chunk;
        nib_code rc = fn(arg, begin, end, 0, err);
        if (rc) return rc;
    }
    return NIB_OK;
}

/* The team is always of the full size: OpenMP keeps its threads from loop to loop only then. */
nib_code nib_par_for(int threads, size_t n, size_t chunk, nib_par_fn *fn, void *arg, nib_err *err)
{
    size_t n_chunks = n / chunk + (n % chunk != 0);
    size_t failed = n_chunks; /* lowest failing chunk so far */
    if (threads < 2 || n_chunks < 2) return run_alone(n, chunk, fn, arg, err);

#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (size_t c = 0; c < n_chunks; c++) {
        size_t low;
#pragma omp atomic read
        low = failed;
        if (c > low) continue;
        size_t begin = c * chunk, end = n - begin < chunk ? n : begin + chunk;
        nib_err mine = {0};
        if (fn(arg, begin, end, omp_get_thread_num(), &mine) == NIB_OK) continue;
#pragma omp critical(nib_par_error)
        if (c < failed) {
#pragma omp atomic write
            failed = c;
            *err = mine;
        }
    }
    return failed < n_chunks ? err->code : NIB_OK;
}
