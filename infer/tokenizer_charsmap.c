/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_charsmap.c - see tokenizer_charsmap.h.
 *
 * A unit of the trie: its children lie around offset(u) = (u >> 10) << ((u & 512) >> 6), the one of
 * byte c at that place xor c; the low byte and the top bit must then be c; bit 8 says that a value
 * hangs at offset(child) itself: 31 bits, where the replacement begins. The trie comes from a file:
 * every step is checked against its size.
 *
 * Tests: tests/infer/test_tokenizer_golden.c. */
#include "infer/tokenizer_charsmap.h"
#include "base/mem.h"

#include <string.h>

enum { GRAPHEME_MAX = 6 }; /* bytes from which on a cluster is not looked up as a whole */

static uint32_t get_u32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

nib_code nib_charsmap_init(nib_charsmap *m, const void *data, size_t n, nib_err *err)
{
    const unsigned char *p = data;
    *m = (nib_charsmap){0};
    if (n < 4) return nib_fail(err, NIB_EFORMAT, "table of characters of %zu bytes", n);
    const size_t trie = get_u32(p);
    if (trie > n - 4 || trie % 4 || !trie)
        return nib_fail(err, NIB_EFORMAT,
                        "table of characters: a trie of %zu bytes in a table of %zu", trie, n);
    m->n_units = trie / 4;
    m->n = n;
    m->data = (unsigned char *)nib_strndup(data, n);
    return m->data ? NIB_OK : nib_fail_nomem(err, "table of characters");
}

void nib_charsmap_fini(nib_charsmap *m)
{
    nib_free(m->data);
    *m = (nib_charsmap){0};
}

static uint32_t unit_at(const nib_charsmap *m, size_t i)
{
    return get_u32(m->data + 4 + 4 * i);
}

static size_t offset(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & 512) >> 6);
}

/* What the text begins with: bytes of the longest match, or of the shortest, and its replacement.
 */
static size_t match(const nib_charsmap *m, const char *text, size_t n, bool shortest,
                    const char **replacement)
{
    size_t found = 0, at = offset(unit_at(m, 0));
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)text[i];
        at ^= c;
        if (!c || at >= m->n_units || (unit_at(m, at) & 0x800000FFu) != c) break;
        const uint32_t unit = unit_at(m, at);
        at ^= offset(unit);
        if (!(unit & 256)) continue;
        if (at >= m->n_units) break;
        const uint32_t value = unit_at(m, at) & 0x7FFFFFFFu;
        if (value >= m->n - 4 - 4 * m->n_units) break;
        *replacement = (const char *)m->data + 4 + 4 * m->n_units + value;
        found = i + 1;
        if (shortest) break;
    }
    return found;
}

/* One cluster or character, looked up whole: what its beginning matches stands for all of it. */
static nib_code add_whole(const nib_charsmap *m, nib_text *t, const char *p, size_t n, bool *found,
                          nib_err *err)
{
    const char *to;
    *found = match(m, p, n, true, &to);
    return *found ? nib_text_add(t, to, strlen(to), err) : NIB_OK;
}

static nib_code add_cluster(const nib_charsmap *m, nib_text *t, const char *p, size_t n,
                            nib_err *err)
{
    bool found = false;
    uint32_t cp;
    nib_code rc = n < GRAPHEME_MAX ? add_whole(m, t, p, n, &found, err) : NIB_OK;
    for (size_t i = 0, k; i < n && !found && !rc; i += k) {
        bool one;
        k = nib_utf8_get(p + i, n - i, &cp);
        rc = add_whole(m, t, p + i, k, &one, err);
        if (!rc && !one) rc = nib_text_add(t, p + i, k, err);
    }
    return rc;
}

nib_code nib_charsmap_add(const nib_charsmap *m, nib_text *t, bool by_grapheme, const char *text,
                          size_t n, nib_err *err)
{
    nib_code rc = NIB_OK;
    uint32_t cp;
    for (size_t i = 0, k; i < n && !rc; i += k) {
        if (by_grapheme) {
            k = nib_grapheme(text + i, n - i);
            rc = add_cluster(m, t, text + i, k, err);
            continue;
        }
        const char *to;
        if ((k = match(m, text + i, n - i, false, &to)))
            rc = nib_text_add(t, to, strlen(to), err);
        else if ((k = nib_utf8_get(text + i, n - i, &cp)))
            rc = nib_text_add(t, text + i, k, err);
        else /* a match ended inside of a character: its rest is none */
            k = 1, rc = nib_text_add(t, "\xEF\xBF\xBD", 3, err);
    }
    return rc;
}
