/* SPDX-License-Identifier: MIT */
/* Any bytes as a folder: config.json up to the first zero byte, model.safetensors after it. Refused
 * with a message, or every weight can be read, or reading it says why not. */
#include "base/mem.h"
#include "tests/fuzz/open.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WEIGHTS_MAX = 1 << 20 }; /* of a tensor that is read */

static char folder[] = "/tmp/nibble-fuzz-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void clean_up(void)
{
    unlink(in_folder("config.json"));
    unlink(in_folder("model.safetensors"));
    rmdir(folder);
}

static void put(const char *name, const uint8_t *data, size_t n)
{
    FILE *f = fopen(in_folder(name), "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f)) abort();
}

static void read_weights(const nib_source *s)
{
    nib_buf raw = {0}, w = {0};
    nib_err err;
    for (size_t i = 0; i < nib_source_count(s); i++) {
        const nib_tensor *t = nib_source_at(s, i);
        const uint64_t n = nib_tensor_elems(t);
        if (!n || n > WEIGHTS_MAX || !nib_tensor_readable(t)) continue;
        float *v = nib_buf_reserve(&w, (size_t)n, sizeof *v);
        if (!v) abort();
        err = (nib_err){0};
        const nib_code rc = nib_source_read_rows(s, t, 0, nib_tensor_rows(t), v, &raw, 0, &err);
        if (rc && (!err.msg[0] || err.code != rc)) abort();
    }
    nib_buf_free(&raw);
    nib_buf_free(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static bool made;
    if (!made && (!mkdtemp(folder) || atexit(clean_up))) abort();
    made = true;
    const uint8_t *zero = n ? memchr(data, 0, n) : NULL;
    const size_t config = zero ? (size_t)(zero - data) : n;
    put("config.json", data, config);
    put("model.safetensors", zero ? zero + 1 : data, zero ? n - config - 1 : 0);
    nib_source *s;
    nib_err err = {0};
    nib_code rc = nib_source_open(&s, folder, &err);
    if (rc ? s || !err.msg[0] || err.code != rc : !s) abort();
    if (!s) return 0;
    fuzz_read_all(s);
    read_weights(s);
    nib_source_close(s);
    return 0;
}
