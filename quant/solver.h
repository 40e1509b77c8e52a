/* SPDX-License-Identifier: MIT */
/* quant/solver.h - what a solver is made of. Private to gptq.c and factor.c. */
#ifndef NIB_QUANT_SOLVER_H
#define NIB_QUANT_SOLVER_H

#include "base/mem.h"
#include "quant/chunk.h"
#include "quant/gptq.h"

struct nib_gptq {
    nib_gptq_opts opts;
    nib_ctx ctx;
    size_t cols, together;
    float *h;        /* [cols][cols] damped, full                                           */
    float *imp;      /* [cols] diagonal of the undamped H                                   */
    uint32_t *perm;  /* [cols] order of rounding: perm[cols-1] is the first column, perm[0]
                        the last                                                            */
    uint32_t *outer; /* [cols] stored column of column c. All else here, h and imp too,
                        counts columns after this permutation, which mostly is the identity */
    bool *dead;      /* [cols] inputs that never fired                                      */
    double *work;    /* [cols][cols] for the factorization, then home of                    */
    const float *r;  /* [cols][cols] R, upper triangle, rows and columns as in perm         */
    double damp;
    float keep;        /* what h was multiplied by off the diagonal                         */
    nib_buf memory[6]; /* of the arrays above, kept from one Hessian to the next            */
    nib_chunk *chunk;  /* [threads] */
};

#endif
