/* SPDX-License-Identifier: MIT */
/* infer/kv_scales.c - see kv_scales.h. Tests: tests/run/test_kv_ranges.c. */
#include "infer/kv_scales.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void nib_kv_scales_free(nib_kv_scales *s)
{
    for (int of = 0; of < 2; of++) nib_free(s->of[of]);
    *s = (nib_kv_scales){.n_layer = 0};
}

/* Beside the layer that makes keys, or queries, keys and values at once. */
bool nib_kv_scale_name(char *buf, size_t n, const nib_model *m, uint32_t layer, int of)
{
    static const nib_role makers[] = {NIB_ROLE_ATTN_K, NIB_ROLE_ATTN_QKV, NIB_ROLE_ATTN_OUTPUT};
    char name[512];
    for (size_t i = 0; i < sizeof makers / sizeof *makers; i++) {
        const nib_place at = {.layer = layer, .role = makers[i]};
        if (!nib_model_param(m, layer, makers[i])->weight) continue;
        nib_place_hf_name(m->arch, at, name, sizeof name);
        const size_t stem = strlen(name) - (sizeof ".weight" - 1);
        size_t parent = stem;
        while (parent && name[parent - 1] != '.') parent--;
        const int len =
            snprintf(buf, n, "%.*s%s", (int)parent, name, of ? "v_scale" : "k_scale");
        return len > 0 && (size_t)len < n;
    }
    return false;
}

/* One for all heads, or one for each, into scale[n_head]. */
static nib_code read_one(float *scale, size_t n_head, const nib_model *m, const nib_tensor *t,
                         nib_err *err)
{
    nib_buf raw = {0};
    const uint64_t n = nib_tensor_elems(t);
    if ((n != 1 && n != n_head) || !t->codec->decode || t->codec->block != 1)
        return nib_fail(err, NIB_EFORMAT,
                        "tensor '%.200s': should be one number, or one for each of %zu heads",
                        t->name, n_head);
    uint8_t *bytes = nib_buf_reserve(&raw, (size_t)t->bytes, 1);
    nib_code rc = bytes ? nib_source_read(m->src, t, 0, bytes, (size_t)t->bytes, err)
                        : nib_fail_nomem(err, "scales of keys and values");
    if (!rc) t->codec->decode(scale, bytes, (size_t)n, 0);
    nib_buf_free(&raw);
    for (size_t i = 1; i < n_head && n == 1 && !rc; i++) scale[i] = scale[0];
    for (size_t i = 0; i < n_head && !rc; i++)
        if (!(scale[i] > 0) || !isfinite(scale[i]))
            rc = nib_fail(err, NIB_EFORMAT, "tensor '%.200s': the scale is %g", t->name,
                          (double)scale[i]);
    return rc;
}

nib_code nib_kv_scales_read(nib_kv_scales *s, const nib_model *m, nib_err *err)
{
    const size_t n = m->hp.n_head_kv;
    nib_code rc = NIB_OK;
    *s = (nib_kv_scales){.n_layer = m->hp.n_layer, .n_head = n};
    for (int of = 0; of < 2; of++)
        if (!(s->of[of] = nib_alloc(s->n_layer * n, sizeof(float))))
            rc = nib_fail_nomem(err, "scales of keys and values");
    for (uint32_t l = 0; l < s->n_layer && !rc; l++)
        for (int of = 0; of < 2 && !rc; of++) {
            char name[512];
            const nib_tensor *t = nib_kv_scale_name(name, sizeof name, m, l, of)
                                      ? nib_source_find(m->src, name)
                                      : NULL;
            if (t)
                rc = read_one(s->of[of] + l * n, n, m, t, err);
            else if (l || of)
                rc = nib_fail(err, NIB_EFORMAT, "tensor '%s' is missing, others of its kind are "
                                                "there", name);
            else
                rc = nib_fail(err, NIB_EINVAL,
                              "%s has no scales for keys and values; 'nibble calibrate --kv-cache' "
                              "and 'quantize --kv-scales' make a folder with such",
                              nib_source_path(m->src));
        }
    if (rc) nib_kv_scales_free(s);
    return rc;
}
