/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_vocab.c - tokens as strings and as bytes, and how to find them.
 *
 * Byte-level vocabularies write bytes as printable characters: 0x21-0x7E, 0xA1-0xAC and 0xAE-0xFF
 * stand for themselves, the other 68 are U+0100, U+0101 ... in increasing order (space is U+0120).
 */
#include "infer/tokenizer_impl.h"

#include <stdio.h>
#include <string.h>

enum { PAD_NAME_MAX = 24 };

/* ---- byte alphabet ---- */

static bool is_printable(unsigned b)
{
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
}

/* The byte that a character stands for; -1: none. The odd bytes in order are 0-32, 127-160, 173. */
static int byte_of(uint32_t cp)
{
    if (cp < 0x100) return is_printable(cp) ? (int)cp : -1;
    uint32_t k = cp - 0x100;
    if (k <= 32) return (int)k;
    if (k <= 66) return (int)(k - 33 + 127);
    return k == 67 ? 173 : -1;
}

/* Bytes of a token in the byte alphabet into out[text.n]. A token with any other character stands
 * for its own bytes, as it does in Hugging Face's decoder. */
static size_t decode_text(nib_str text, char *out)
{
    size_t n = 0;
    for (size_t i = 0, len; i < text.n; i += len) {
        uint32_t cp = 0;
        len = nib_utf8_get(text.p + i, text.n - i, &cp);
        int b = len ? byte_of(cp) : -1;
        if (b < 0) {
            memcpy(out, text.p, text.n);
            return text.n;
        }
        out[n++] = (char)b;
    }
    return n;
}

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

static nib_code copy_tokens(nib_vocab *v, const nib_str *text, const uint8_t *type, nib_err *err)
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
        bool spelled = v->type[i] == NIB_TOKEN_NORMAL || v->type[i] == NIB_TOKEN_BYTE;
        size_t k_raw = spelled ? decode_text(v->text[i], at) : k;
        if (!spelled) memcpy(at, v->text[i].p, k);
        v->raw[i] = (nib_str){at, k_raw};
        at += k_raw;
        *at++ = 0;
    }
    return NIB_OK;
}

nib_code nib_vocab_build(nib_vocab *v, const nib_str *text, const uint8_t *type, size_t n,
                         nib_err *err)
{
    nib_code rc;
    *v = (nib_vocab){0};
    if (!n || n > NIB_VOCAB_MAX)
        return nib_fail(err, NIB_EFORMAT, "vocabulary of %zu tokens; allowed are 1 to %d", n,
                        NIB_VOCAB_MAX);
    v->n = n;
    if ((rc = copy_tokens(v, text, type, err))) return rc;
    if ((rc = map_init(&v->by_text, v->text, n, err))) return rc;
    if ((rc = map_init(&v->by_raw, v->raw, n, err))) return rc;
    for (size_t i = 0; i < n; i++) {
        uint32_t *slot = map_slot(&v->by_text, v->text[i].p, v->text[i].n);
        if (*slot)
            return nib_fail(err, NIB_EFORMAT, "token '%.80s' is there twice, as %u and as %zu",
                            v->text[i].p, *slot - 1, i);
        *slot = (uint32_t)i + 1;
        if (v->type[i] != NIB_TOKEN_NORMAL) continue;
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

void nib_vocab_bytes(const nib_vocab *v, int32_t byte_id[256])
{
    for (uint32_t cp = 0; cp < 0x144; cp++) {
        char c[2] = {(char)cp, 0};
        size_t n = 1;
        if (cp >= 0x80) {
            c[0] = (char)(0xC0 | cp >> 6);
            c[1] = (char)(0x80 | (cp & 0x3F));
            n = 2;
        }
        if (byte_of(cp) >= 0) byte_id[byte_of(cp)] = nib_vocab_find(v, c, n);
    }
}

/* ---- merges ---- */

/* How much of a string a message shows. */
static int shown(nib_str s)
{
    return s.n < 80 ? (int)s.n : 80;
}

nib_code nib_vocab_add_merge(const nib_vocab *v, nib_bpe *b, nib_str left, nib_str right,
                             nib_err *err)
{
    char both[512], *p = both;
    size_t n;
    if (!nib_add(left.n, right.n, &n)) return nib_fail_nomem(err, "merge");
    if (n > sizeof both && !(p = nib_alloc(n, 1))) return nib_fail_nomem(err, "merge");
    memcpy(p, left.p, left.n);
    memcpy(p + left.n, right.p, right.n);
    int32_t l = nib_vocab_find(v, left.p, left.n), r = nib_vocab_find(v, right.p, right.n),
            to = nib_vocab_find(v, p, n);
    if (p != both) nib_free(p);
    const char *what = l < 0 ? "left part" : r < 0 ? "right part" : to < 0 ? "result" : NULL;
    if (what)
        return nib_fail(err, NIB_EFORMAT,
                        "merge %u, '%.*s' with '%.*s': the %s is not in the vocabulary", b->n,
                        shown(left), left.p, shown(right), right.p, what);
    if (!nib_bpe_add(b, l, r, to))
        return nib_fail(err, NIB_EFORMAT, "merge %u, '%.*s' with '%.*s', is there twice", b->n,
                        shown(left), left.p, shown(right), right.p);
    return NIB_OK;
}
