/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_vocab.c - tokens as strings and as bytes, and how to find them.
 *
 * Tests: tests/infer/test_tokenizer.c. */
#include "infer/tokenizer_alphabet.h"
#include "infer/tokenizer_word.h"

#include <stdio.h>
#include <string.h>

enum { PAD_NAME_MAX = 24 };

/* ---- map ---- */

static uint64_t hash(const char *p, size_t n)
{
    uint64_t h = 0xCBF29CE484222325u ^ n;
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        h = (h ^ w) * 0x9E3779B97F4A7C15u;
        h ^= h >> 29;
    }
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * 0x100000001B3u;
    h *= 0x9E3779B97F4A7C15u;
    return h ^ h >> 32;
}

static uint32_t *map_slot(const nib_strmap *m, const char *p, size_t n)
{
    for (size_t i = (size_t)hash(p, n) & m->mask;; i = (i + 1) & m->mask) {
        uint32_t k = m->slot[i];
        if (!k || (m->key[k - 1].n == n && !memcmp(m->key[k - 1].p, p, n))) return &m->slot[i];
    }
}

static nib_code map_init(nib_strmap *m, const nib_str *key, size_t n, nib_err *err)
{
    size_t slots = 16;
    while (slots < 2 * n) slots *= 2;
    m->key = key;
    m->mask = slots - 1;
    m->slot = nib_calloc(slots, sizeof *m->slot);
    return m->slot ? NIB_OK : nib_fail_nomem(err, "vocabulary");
}

static int32_t map_find(const nib_strmap *m, const char *p, size_t n)
{
    return (int32_t)*map_slot(m, p, n) - 1;
}

/* ---- vocabulary ---- */

static nib_code copy_tokens(nib_vocab *v, const nib_str *text, const uint8_t *type, bool alphabet,
                            nib_err *err)
{
    size_t total = 0, n = v->n;
    for (size_t i = 0; i < n; i++) {
        size_t k = text[i].p && text[i].n > PAD_NAME_MAX ? text[i].n : PAD_NAME_MAX;
        if (!nib_add(total, 2 * k + 2, &total)) return nib_fail_nomem(err, "vocabulary");
    }
    v->text = nib_calloc(n, sizeof *v->text);
    v->raw = nib_calloc(n, sizeof *v->raw);
    v->type = nib_calloc(n, 1);
    v->blob = nib_alloc(total, 1);
    if (!v->text || !v->raw || !v->type || !v->blob) return nib_fail_nomem(err, "vocabulary");
    char *at = v->blob;
    for (size_t i = 0; i < n; i++) {
        bool none = !text[i].p || !text[i].n;
        size_t k = text[i].n;
        v->type[i] = none ? NIB_TOKEN_UNUSED : type[i];
        if (none)
            k = (size_t)snprintf(at, PAD_NAME_MAX, text[i].p ? "[EMPTY_%zu]" : "[PAD%zu]", i);
        else
            memcpy(at, text[i].p, k);
        v->text[i] = (nib_str){at, k};
        at += k;
        *at++ = 0;
        if (!alphabet) {
            v->raw[i] = v->text[i];
            continue;
        }
        bool spelled = v->type[i] == NIB_TOKEN_NORMAL || v->type[i] == NIB_TOKEN_BYTE;
        size_t k_raw = spelled ? nib_alphabet_get(v->text[i].p, k, at) : k;
        if (!spelled) memcpy(at, v->text[i].p, k);
        v->raw[i] = (nib_str){at, k_raw};
        at += k_raw;
        *at++ = 0;
    }
    return NIB_OK;
}

nib_code nib_vocab_build(nib_vocab *v, const nib_str *text, const uint8_t *type, size_t n,
                         bool alphabet, nib_err *err)
{
    nib_code rc;
    *v = (nib_vocab){0};
    if (!n || n > NIB_VOCAB_MAX)
        return nib_fail(err, NIB_EFORMAT, "vocabulary of %zu tokens; allowed are 1 to %d", n,
                        NIB_VOCAB_MAX);
    v->n = n;
    if ((rc = copy_tokens(v, text, type, alphabet, err))) return rc;
    if ((rc = map_init(&v->by_text, v->text, n, err))) return rc;
    if ((rc = map_init(&v->by_raw, v->raw, n, err))) return rc;
    for (size_t i = 0; i < n; i++) {
        uint32_t *slot = map_slot(&v->by_text, v->text[i].p, v->text[i].n);
        if (*slot)
            return nib_fail(err, NIB_EFORMAT, "token '%.80s' is there twice, as %u and as %zu",
                            v->text[i].p, *slot - 1, i);
        *slot = (uint32_t)i + 1;
        if (!alphabet || v->type[i] != NIB_TOKEN_NORMAL) continue;
        slot = map_slot(&v->by_raw, v->raw[i].p, v->raw[i].n);
        if (!*slot) *slot = (uint32_t)i + 1;
    }
    return NIB_OK;
}

void nib_vocab_fini(nib_vocab *v)
{
    nib_free(v->text);
    nib_free(v->raw);
    nib_free(v->type);
    nib_free(v->blob);
    nib_free(v->by_text.slot);
    nib_free(v->by_raw.slot);
    *v = (nib_vocab){0};
}

int32_t nib_vocab_find(const nib_vocab *v, const char *text, size_t n)
{
    return map_find(&v->by_text, text, n);
}

int32_t nib_vocab_find_raw(const nib_vocab *v, const char *raw, size_t n)
{
    return map_find(&v->by_raw, raw, n);
}

int32_t nib_vocab_find_piece(const nib_vocab *v, const char *text, size_t n)
{
    const int32_t id = nib_vocab_find(v, text, n);
    if (id < 0) return -1;
    const uint8_t type = v->type[id];
    const bool is_piece =
        type == NIB_TOKEN_NORMAL || type == NIB_TOKEN_USER || type == NIB_TOKEN_UNUSED;
    return is_piece ? id : -1;
}

void nib_vocab_bytes(const nib_vocab *v, int32_t byte_id[256])
{
    char name[8];
    for (unsigned b = 0; b < 256; b++) {
        const int n = snprintf(name, sizeof name, "<0x%02X>", b);
        byte_id[b] = nib_vocab_find(v, name, (size_t)n);
    }
}

int nib_shown(nib_str s)
{
    return s.n < 80 ? (int)s.n : 80;
}
