/* SPDX-License-Identifier: MIT */
/* base/err.c - record errors and add context. Tests: tests/base/test_str.c. */
#include "base/err.h"

#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void record(nib_err *err, nib_code code, int sys_errno, const char *fmt, va_list ap)
{
    err->code = code;
    err->sys_errno = sys_errno;
    int n = vsnprintf(err->cause, sizeof err->cause, fmt, ap);
    if (sys_errno && n >= 0 && (size_t)n < sizeof err->cause)
        snprintf(err->cause + n, sizeof err->cause - (size_t)n, ": %s", strerror(sys_errno));
    nib_one_line(err->cause);
    memcpy(err->msg, err->cause, sizeof err->cause);
}

nib_code nib_fail(nib_err *err, nib_code code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    record(err, code, 0, fmt, ap);
    va_end(ap);
    return code;
}

nib_code nib_fail_sys(nib_err *err, int sys_errno, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    record(err, NIB_EIO, sys_errno, fmt, ap);
    va_end(ap);
    return NIB_EIO;
}

nib_code nib_wrap(nib_err *err, const char *fmt, ...)
{
    char old[sizeof err->msg];
    memcpy(old, err->msg, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof err->msg)
        snprintf(err->msg + n, sizeof err->msg - (size_t)n, ": %s", old);
    nib_one_line(err->msg);
    return err->code;
}

nib_code nib_fail_nomem(nib_err *err, const char *what)
{
    return nib_fail(err, NIB_ENOMEM, "out of memory for %s", what);
}
