/* SPDX-License-Identifier: MIT */
/* formats/gguf_kv.c - an ordered set of GGUF key/value records in memory; see gguf.h.
 *
 * Records keep their order; a second list of indices, sorted by key, finds them. Values live in an
 * arena: what a replaced or deleted record held is freed with the set.
 * Tests: tests/formats/test_gguf.c. */
#include "formats/gguf_int.h"

#include <string.h>

struct nib_gguf_kvs {
    nib_arena mem;
    nib_gguf_kv *kv;  /* [n] in order             */
    uint32_t *sorted; /* [n] indices, by key      */
    size_t n, cap;
};

size_t nib_gguf_vtype_size(nib_gguf_vtype t)
{
    static const uint8_t size[NIB_GGUF_VTYPE_COUNT] = {
        [NIB_GGUF_U8] = 1,  [NIB_GGUF_I8] = 1,  [NIB_GGUF_U16] = 2, [NIB_GGUF_I16] = 2,
        [NIB_GGUF_U32] = 4, [NIB_GGUF_I32] = 4, [NIB_GGUF_F32] = 4, [NIB_GGUF_BOOL] = 1,
        [NIB_GGUF_U64] = 8, [NIB_GGUF_I64] = 8, [NIB_GGUF_F64] = 8,
    };
    return (unsigned)t < NIB_GGUF_VTYPE_COUNT ? size[t] : 0;
}

nib_gguf_kvs *nib_gguf_kvs_new(void)
{
    return nib_calloc(1, sizeof(nib_gguf_kvs));
}

void nib_gguf_kvs_free(nib_gguf_kvs *k)
{
    if (!k) return;
    nib_arena_free(&k->mem);
    nib_free(k->kv);
    nib_free(k->sorted);
    nib_free(k);
}

nib_arena *nib_gguf_kvs_arena(nib_gguf_kvs *k)
{
    return &k->mem;
}

size_t nib_gguf_kvs_count(const nib_gguf_kvs *k)
{
    return k->n;
}

const nib_gguf_kv *nib_gguf_kvs_at(const nib_gguf_kvs *k, size_t i)
{
    return &k->kv[i];
}

/* Where `key` is, or belongs, in the sorted list. */
static size_t place(const nib_gguf_kvs *k, const char *key, bool *found)
{
    size_t low = 0, high = k->n;
    *found = false;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int d = strcmp(key, k->kv[k->sorted[mid]].key);
        if (!d) {
            *found = true;
            return mid;
        }
        if (d < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

const nib_gguf_kv *nib_gguf_kvs_find(const nib_gguf_kvs *k, const char *key)
{
    bool found;
    size_t at = place(k, key, &found);
    return found ? &k->kv[k->sorted[at]] : NULL;
}

/* ---- changing ---- */

static bool reserve_one(nib_gguf_kvs *k)
{
    if (k->n < k->cap) return true;
    size_t cap = k->cap ? k->cap * 2 : 64;
    nib_gguf_kv *kv = nib_grow(k->kv, k->cap, cap, sizeof *kv);
    if (!kv) return false;
    k->kv = kv;
    uint32_t *sorted = nib_grow(k->sorted, k->cap, cap, sizeof *sorted);
    if (!sorted) return false;
    k->sorted = sorted;
    k->cap = cap;
    return true;
}

bool nib_gguf_kvs_put_new(nib_gguf_kvs *k, const nib_gguf_kv *kv, bool *twice)
{
    size_t at = place(k, kv->key, twice);
    if (*twice || !reserve_one(k)) return false;
    memmove(k->sorted + at + 1, k->sorted + at, (k->n - at) * sizeof *k->sorted);
    k->sorted[at] = (uint32_t)k->n;
    k->kv[k->n++] = *kv;
    return true;
}

/* Copy of n strings: the table and all their bytes. */
static nib_str *copy_strings(nib_arena *mem, const nib_str *s, size_t n)
{
    nib_str *copy = nib_arena_alloc(mem, n, sizeof *copy, _Alignof(nib_str));
    for (size_t i = 0; copy && i < n; i++) {
        char *p = nib_arena_str(mem, s[i].p, s[i].n);
        if (!p) return NULL;
        copy[i] = (nib_str){p, s[i].n};
    }
    return copy;
}

bool nib_gguf_set_kv(nib_gguf_kvs *k, const nib_gguf_kv *kv)
{
    nib_gguf_kv copy = *kv;
    nib_gguf_vtype elem = kv->type == NIB_GGUF_ARR ? kv->elem : kv->type;
    copy.elem = elem;
    if (elem == NIB_GGUF_STR) {
        copy.data = copy_strings(&k->mem, kv->data, kv->n);
    } else {
        size_t size = nib_gguf_vtype_size(elem);
        void *data = nib_arena_alloc(&k->mem, kv->n, size, 8);
        if (data && kv->n) memcpy(data, kv->data, kv->n * size);
        copy.data = data;
    }
    if (!copy.data) return false;
    bool found;
    size_t at = place(k, kv->key, &found);
    if (found) {
        nib_gguf_kv *old = &k->kv[k->sorted[at]];
        copy.key = old->key;
        *old = copy;
        return true;
    }
    copy.key = nib_arena_str(&k->mem, kv->key, strlen(kv->key));
    return copy.key && nib_gguf_kvs_put_new(k, &copy, &found);
}

static bool set(nib_gguf_kvs *k, const char *key, nib_gguf_vtype type, const void *data)
{
    return nib_gguf_set_kv(k, &(nib_gguf_kv){key, type, type, 1, data});
}

bool nib_gguf_set_u16(nib_gguf_kvs *k, const char *key, uint16_t v)
{
    return set(k, key, NIB_GGUF_U16, &v);
}

bool nib_gguf_set_u32(nib_gguf_kvs *k, const char *key, uint32_t v)
{
    return set(k, key, NIB_GGUF_U32, &v);
}

bool nib_gguf_set_i32(nib_gguf_kvs *k, const char *key, int32_t v)
{
    return set(k, key, NIB_GGUF_I32, &v);
}

bool nib_gguf_set_f32(nib_gguf_kvs *k, const char *key, float v)
{
    return set(k, key, NIB_GGUF_F32, &v);
}

bool nib_gguf_set_bool(nib_gguf_kvs *k, const char *key, bool v)
{
    uint8_t byte = v;
    return set(k, key, NIB_GGUF_BOOL, &byte);
}

bool nib_gguf_set_str(nib_gguf_kvs *k, const char *key, const char *s, size_t n)
{
    nib_str str = {s, n};
    return set(k, key, NIB_GGUF_STR, &str);
}

bool nib_gguf_set_arr(nib_gguf_kvs *k, const char *key, nib_gguf_vtype elem, const void *data,
                      size_t n)
{
    return nib_gguf_set_kv(k, &(nib_gguf_kv){key, NIB_GGUF_ARR, elem, n, data});
}

void nib_gguf_del(nib_gguf_kvs *k, const char *key)
{
    bool found;
    size_t at = place(k, key, &found);
    if (!found) return;
    uint32_t gone = k->sorted[at];
    k->n--;
    memmove(k->kv + gone, k->kv + gone + 1, (k->n - gone) * sizeof *k->kv);
    memmove(k->sorted + at, k->sorted + at + 1, (k->n - at) * sizeof *k->sorted);
    for (size_t i = 0; i < k->n; i++) k->sorted[i] -= k->sorted[i] > gone;
}

/* ---- typed reads ---- */

static const nib_gguf_kv *find_scalar(const nib_gguf_kvs *k, const char *key, nib_gguf_vtype type)
{
    const nib_gguf_kv *kv = nib_gguf_kvs_find(k, key);
    return kv && kv->type == type ? kv : NULL;
}

bool nib_gguf_get_u64(const nib_gguf_kvs *k, const char *key, uint64_t *out)
{
    const nib_gguf_kv *kv = nib_gguf_kvs_find(k, key);
    if (!kv) return false;
    const uint8_t *p = kv->data;
    size_t size = nib_gguf_vtype_size(kv->type);
    bool is_signed = false;
    switch (kv->type) {
    case NIB_GGUF_I8:
    case NIB_GGUF_I16:
    case NIB_GGUF_I32:
    case NIB_GGUF_I64: is_signed = true; break;
    case NIB_GGUF_U8:
    case NIB_GGUF_U16:
    case NIB_GGUF_U32:
    case NIB_GGUF_U64: break;
    default: return false;
    }
    if (is_signed && p[size - 1] & 0x80) return false;
    uint64_t v = 0;
    for (size_t i = size; i-- > 0;) v = v << 8 | p[i];
    *out = v;
    return true;
}

bool nib_gguf_get_f32(const nib_gguf_kvs *k, const char *key, float *out)
{
    const nib_gguf_kv *kv = find_scalar(k, key, NIB_GGUF_F32);
    if (kv) memcpy(out, kv->data, sizeof *out);
    return kv;
}

bool nib_gguf_get_bool(const nib_gguf_kvs *k, const char *key, bool *out)
{
    const nib_gguf_kv *kv = find_scalar(k, key, NIB_GGUF_BOOL);
    if (kv) *out = *(const uint8_t *)kv->data;
    return kv;
}

bool nib_gguf_get_str(const nib_gguf_kvs *k, const char *key, nib_str *out)
{
    const nib_gguf_kv *kv = find_scalar(k, key, NIB_GGUF_STR);
    if (kv) *out = *(const nib_str *)kv->data;
    return kv;
}

bool nib_gguf_get_arr(const nib_gguf_kvs *k, const char *key, nib_gguf_vtype elem,
                      const void **data, size_t *n)
{
    const nib_gguf_kv *kv = find_scalar(k, key, NIB_GGUF_ARR);
    if (!kv || kv->elem != elem) return false;
    *data = kv->data;
    *n = kv->n;
    return true;
}

bool nib_gguf_is_layout_key(const char *key)
{
    return !strcmp(key, "general.alignment") || !strcmp(key, "split.no") ||
           !strcmp(key, "split.count") || !strcmp(key, "split.tensors.count");
}
