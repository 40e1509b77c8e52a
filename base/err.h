/* SPDX-License-Identifier: MIT */
/* base/err.h - errors are values on the caller's stack.
 *
 * The innermost function records what is wrong with nib_fail(): the value found and the value
 * allowed. Each level above puts its context in front with nib_wrap(): which tensor, which file.
 * The user sees one line that goes from file to byte: control characters, which names in hostile
 * files may hold, become spaces. Reporting never allocates. */
#ifndef NIB_BASE_ERR_H
#define NIB_BASE_ERR_H

#define NIB_MUST_USE __attribute__((warn_unused_result))
#define NIB_PRINTF(f, a) __attribute__((format(printf, f, a)))

typedef enum {
    NIB_OK = 0,
    NIB_EINVAL,   /* the command line, the recipe or an argument is wrong (exit status 2) */
    NIB_EIO,      /* the system said no; see sys_errno                                   */
    NIB_EFORMAT,  /* a file is not what it claims to be                                  */
    NIB_ENOMEM,   /* out of memory, or a size that no memory holds                       */
    NIB_ENUMERIC, /* NaN, Inf, or a matrix that will not factor                          */
} nib_code;

typedef struct {
    nib_code code;
    int sys_errno;   /* for NIB_EIO, else 0                        */
    char cause[512]; /* innermost reason: set once, never rewritten */
    char msg[1536];  /* cause with the context added on the way up  */
} nib_err;

/* Record a new error over whatever was there; returns `code` so that `return nib_fail(...)` reads
 * well. `err` is never NULL, here and everywhere. */
nib_code nib_fail(nib_err *err, nib_code code, const char *fmt, ...) NIB_PRINTF(3, 4);

/* Record NIB_EIO: the message followed by ": " and strerror(sys_errno). */
nib_code nib_fail_sys(nib_err *err, int sys_errno, const char *fmt, ...) NIB_PRINTF(3, 4);

/* Put "context: " in front of an error already recorded; returns its code. */
nib_code nib_wrap(nib_err *err, const char *fmt, ...) NIB_PRINTF(2, 3);

/* The one message for a failed allocation. */
nib_code nib_fail_nomem(nib_err *err, const char *what);

#endif
