/* SPDX-License-Identifier: MIT */
/* run/rows.c - see rows.h. */
#define _XOPEN_SOURCE 700
#include "run/rows.h"

#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static nib_code open_file(nib_rows *r, const char *beside, nib_err *err)
{
    size_t dir = (size_t)(nib_path_base(beside) - beside);
    char *path = nib_alloc(dir + 32, 1);
    if (!path) return nib_fail_nomem(err, "a path");
    snprintf(path, dir + 32, "%.*s.nibble-rows.XXXXXX", (int)dir, beside);
    r->fd = mkstemp(path);
    nib_code rc = r->fd < 0 ? nib_fail_sys(err, errno, "%s", path) : NIB_OK;
    if (!rc) unlink(path);
    nib_free(path);
    return rc;
}

nib_code nib_rows_new(nib_rows *r, size_t n, size_t cols, uint64_t limit, const char *beside,
                      nib_err *err)
{
    size_t bytes;
    *r = (nib_rows){.cols = cols, .fd = -1};
    if (!nib_mul(n, cols, &bytes) || !nib_mul(bytes, sizeof(float), &bytes))
        return nib_fail_nomem(err, "activations");
    if (bytes > limit) return open_file(r, beside, err);
    r->ram_bytes = bytes;
    r->ram = nib_alloc(bytes, 1);
    return r->ram ? NIB_OK : nib_fail_nomem(err, "activations");
}

static nib_code transfer(const nib_rows *r, bool write_it, size_t first, size_t n, float *x,
                         nib_err *err)
{
    size_t left = n * r->cols * sizeof *x;
    uint64_t offset = (uint64_t)first * r->cols * sizeof *x;
    for (char *p = (char *)x; left;) {
        ssize_t k =
            write_it ? pwrite(r->fd, p, left, (off_t)offset) : pread(r->fd, p, left, (off_t)offset);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0)
            return nib_fail_sys(err, k < 0 ? errno : EIO, "the temporary file of activations");
        p += k;
        offset += (uint64_t)k;
        left -= (size_t)k;
    }
    return NIB_OK;
}

nib_code nib_rows_put(nib_rows *r, size_t first, size_t n, const float *x, nib_err *err)
{
    if (!r->ram) return transfer(r, true, first, n, (float *)x, err);
    memcpy(r->ram + first * r->cols, x, n * r->cols * sizeof *x);
    return NIB_OK;
}

nib_code nib_rows_get(const nib_rows *r, size_t first, size_t n, float *x, nib_err *err)
{
    if (!r->ram) return transfer(r, false, first, n, x, err);
    memcpy(x, r->ram + first * r->cols, n * r->cols * sizeof *x);
    return NIB_OK;
}

void nib_rows_free(nib_rows *r)
{
    if (!r->ram && r->cols && r->fd >= 0) close(r->fd);
    nib_free(r->ram);
    *r = (nib_rows){.fd = -1};
}
