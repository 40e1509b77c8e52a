/* SPDX-License-Identifier: MIT */
/* base/ctx.h - how to run: what every longer call is given. Plain data, set by the caller. */
#ifndef NIB_BASE_CTX_H
#define NIB_BASE_CTX_H

#include "base/log.h"

typedef struct {
    int threads;  /* at least 1                                       */
    unsigned cpu; /* NIB_CPU_* mask that selects kernels; 0 = plain C */
    nib_log *log; /* borrowed; NULL is silent                         */
} nib_ctx;

#endif
