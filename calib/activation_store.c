/* SPDX-License-Identifier: MIT */
/* calib/activation_store.c - see activation_store.h. */
#define _XOPEN_SOURCE 700 /* mkstemp */
#include "calib/activation_store.h"

#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static nib_code open_file(nib_activation_store *r, const char *beside, nib_err *err)
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

nib_code nib_activation_store_new(nib_activation_store *r, size_t n, size_t cols, uint64_t limit,
                                  const char *beside, nib_err *err)
{
    size_t bytes;
    *r = (nib_activation_store){.cols = cols, .fd = -1};
    if (!nib_mul(n, cols, &bytes) || !nib_mul(bytes, sizeof(float), &bytes))
        return nib_fail_nomem(err, "activations");
    if (bytes > limit) return open_file(r, beside, err);
    r->ram_bytes = bytes;
    r->ram = nib_alloc(bytes, 1);
    return r->ram ? NIB_OK : nib_fail_nomem(err, "activations");
}

static const char FILE_NAME[] = "the temporary file of activations";

nib_code nib_activation_store_put(nib_activation_store *r, size_t first, size_t n, const float *x,
                                  nib_err *err)
{
    const size_t at = first * r->cols, bytes = n * r->cols * sizeof *x;
    if (!r->ram) return nib_fd_write(r->fd, FILE_NAME, (uint64_t)at * sizeof *x, x, bytes, err);
    memcpy(r->ram + at, x, bytes);
    return NIB_OK;
}

nib_code nib_activation_store_get(const nib_activation_store *r, size_t first, size_t n, float *x,
                                  nib_err *err)
{
    const size_t at = first * r->cols, bytes = n * r->cols * sizeof *x;
    if (!r->ram) return nib_fd_read(r->fd, FILE_NAME, (uint64_t)at * sizeof *x, x, bytes, err);
    memcpy(x, r->ram + at, bytes);
    return NIB_OK;
}

void nib_activation_store_free(nib_activation_store *r)
{
    if (!r->ram && r->cols && r->fd >= 0) close(r->fd);
    nib_free(r->ram);
    *r = (nib_activation_store){.fd = -1};
}
