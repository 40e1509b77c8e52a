/* SPDX-License-Identifier: MIT */
/* gguf_dump - a GGUF file as nibble's reader sees it, whole, as JSON for a comparison with another
 * reader: {"kv": [{"key", "type", "elem", "value"}], "tensors": [{"name", "type", "shape",
 * "offset"}]}. Types are GGUF's numbers; shapes have the contiguous dimension first, offsets count
 * from the start of the file, both as in GGUF.
 *
 *   gguf_dump FILE */
#include "base/rd.h"
#include "formats/gguf.h"

#include <stdio.h>
#include <string.h>

static bool add_scalar(nib_json *to, const char *key, nib_gguf_vtype type, nib_rd *r)
{
    switch (type) {
    case NIB_GGUF_U8: return nib_json_add_num(to, key, nib_rd_u8(r));
    case NIB_GGUF_I8: return nib_json_add_num(to, key, (int8_t)nib_rd_u8(r));
    case NIB_GGUF_U16: return nib_json_add_num(to, key, nib_rd_u16(r));
    case NIB_GGUF_I16: return nib_json_add_num(to, key, (int16_t)nib_rd_u16(r));
    case NIB_GGUF_U32: return nib_json_add_num(to, key, nib_rd_u32(r));
    case NIB_GGUF_I32: return nib_json_add_num(to, key, nib_rd_i32(r));
    case NIB_GGUF_F32: return nib_json_add_num(to, key, (double)nib_rd_f32(r));
    case NIB_GGUF_BOOL: return nib_json_add_bool(to, key, nib_rd_u8(r) != 0);
    case NIB_GGUF_U64: return nib_json_add_num(to, key, (double)nib_rd_u64(r));
    case NIB_GGUF_I64: return nib_json_add_num(to, key, (double)(int64_t)nib_rd_u64(r));
    case NIB_GGUF_F64: {
        uint64_t u = nib_rd_u64(r);
        double v;
        memcpy(&v, &u, sizeof v);
        return nib_json_add_num(to, key, v);
    }
    default: return false; /* strings and arrays are not scalars */
    }
}

static bool add_value(nib_json *o, const nib_gguf_kv *kv)
{
    bool array = kv->type == NIB_GGUF_ARR;
    nib_gguf_vtype type = array ? kv->elem : kv->type;
    nib_json *to = array ? nib_json_add_array(o, "value") : o;
    const char *key = array ? NULL : "value";
    const nib_str *s = kv->data;
    /* The longest scalar has 8 bytes; the true end is the set's own business. */
    nib_rd r = {.p = kv->data, .end = (const uint8_t *)kv->data + 8 * kv->n};
    if (!to) return false;
    for (size_t i = 0; i < kv->n; i++)
        if (!(type == NIB_GGUF_STR ? nib_json_add_str(to, key, s[i].p)
                                   : add_scalar(to, key, type, &r)))
            return false;
    return true;
}

static bool add_kvs(nib_json *root, const nib_gguf_kvs *kvs)
{
    nib_json *list = nib_json_add_array(root, "kv");
    for (size_t i = 0; list && i < nib_gguf_kvs_count(kvs); i++) {
        const nib_gguf_kv *kv = nib_gguf_kvs_at(kvs, i);
        nib_json *o = nib_json_add_object(list, NULL);
        if (!o || !nib_json_add_str(o, "key", kv->key) || !nib_json_add_num(o, "type", kv->type) ||
            (kv->type == NIB_GGUF_ARR && !nib_json_add_num(o, "elem", kv->elem)) ||
            !add_value(o, kv))
            return false;
    }
    return list;
}

static bool add_tensors(nib_json *root, const nib_source *src)
{
    nib_json *list = nib_json_add_array(root, "tensors");
    for (size_t i = 0; list && i < nib_source_count(src); i++) {
        const nib_tensor *t = nib_source_at(src, i);
        nib_json *o = nib_json_add_object(list, NULL), *shape = NULL;
        if (!o || !nib_json_add_str(o, "name", t->name) ||
            !nib_json_add_num(o, "type", nib_gguf_type_id(t->codec->type)) ||
            !nib_json_add_num(o, "offset", (double)t->offset) ||
            !(shape = nib_json_add_array(o, "shape")))
            return false;
        for (int d = t->n_dims; d-- > 0;)
            if (!nib_json_add_num(shape, NULL, (double)t->shape[d])) return false;
    }
    return list;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: gguf_dump FILE\n");
        return 2;
    }
    nib_err err = {0};
    nib_source *src = NULL;
    char *text = NULL;
    nib_json *root = nib_json_new_object();
    nib_code rc = nib_source_open(&src, argv[1], &err);
    if (!rc && !nib_source_kvs(src))
        rc = nib_fail(&err, NIB_EINVAL, "%s: not a GGUF file", argv[1]);
    if (!rc && (!root || !add_kvs(root, nib_source_kvs(src)) || !add_tensors(root, src) ||
                !(text = nib_json_print(root, false))))
        rc = nib_fail_nomem(&err, "the dump");
    if (rc)
        fprintf(stderr, "gguf_dump: %s\n", err.msg);
    else
        puts(text);
    nib_free(text);
    nib_json_free(root);
    nib_source_close(src);
    return rc ? 1 : 0;
}
