/* SPDX-License-Identifier: MIT */
/* calib/fingerprint.c - see fingerprint.h. */
#include "calib/fingerprint.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLE_BYTES = 4096 };

uint64_t nib_hash(uint64_t h, const void *data, size_t n)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001B3u;
    return h;
}

void nib_hash_text(char text[NIB_HASH_DIGITS + 1], uint64_t h)
{
    snprintf(text, NIB_HASH_DIGITS + 1, "%016" PRIx64, h);
}

bool nib_hash_add(nib_json *to, const char *key, uint64_t h)
{
    char text[NIB_HASH_DIGITS + 1];
    nib_hash_text(text, h);
    return nib_json_add_str(to, key, text);
}

bool nib_hash_get(uint64_t *h, const nib_json *from, const char *key)
{
    const char *text;
    if (!nib_json_str(nib_json_get(from, key), &text)) return false;
    if (strlen(text) != NIB_HASH_DIGITS || strspn(text, "0123456789abcdef") != NIB_HASH_DIGITS)
        return false;
    *h = strtoull(text, NULL, 16);
    return true;
}

static nib_code hash_tensor(uint64_t *h, const nib_source *src, const nib_tensor *t, nib_err *err)
{
    uint8_t sample[SAMPLE_BYTES];
    size_t n = t->bytes < sizeof sample ? t->bytes : sizeof sample;
    nib_code rc = nib_source_read(src, t, 0, sample, n, err);
    if (rc) return rc;
    *h = nib_hash(*h, t->name, strlen(t->name) + 1);
    *h = nib_hash(*h, t->codec->name, strlen(t->codec->name) + 1);
    *h = nib_hash(*h, t->shape, (size_t)t->n_dims * sizeof t->shape[0]);
    *h = nib_hash(*h, sample, n);
    return NIB_OK;
}

nib_code nib_model_fingerprint(uint64_t *out, const nib_model *m, nib_err *err)
{
    uint64_t h = NIB_HASH_START;
    for (size_t i = 0; i < nib_source_count(m->src); i++) {
        nib_code rc = hash_tensor(&h, m->src, nib_source_at(m->src, i), err);
        if (rc) return rc;
    }
    *out = h;
    return NIB_OK;
}
