/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_word.c - see tokenizer_word.h: words met before, and their tokens. Most words of
 * a text are repeats. One slot per hash; only words of at most 16 bytes that come to at most three
 * tokens.
 *
 * Tests: tests/infer/test_tokenizer.c. */
#include "infer/tokenizer_word.h"
#include "infer/tokenizer_impl.h"

#include <string.h>

enum { CACHE_WORD_MAX = 16, CACHE_IDS_MAX = 3, CACHE_MIN = 64, CACHE_MAX = 1 << 15 };

typedef struct nib_word_cache {
    uint64_t head, tail; /* with the length they tell words apart, see word_key */
    int32_t id[CACHE_IDS_MAX];
    uint16_t len, n; /* bytes, 0 in an empty slot; ids */
} cached;

nib_code nib_word_work_init(nib_word_work *w, size_t n, nib_err *err)
{
    size_t slots = CACHE_MIN;
    *w = (nib_word_work){0};
    while (slots < n / 8 && slots < CACHE_MAX) slots *= 2;
    w->cache_mask = slots - 1;
    w->cache = nib_calloc(slots, sizeof *w->cache);
    return w->cache ? NIB_OK : nib_fail_nomem(err, "cache of words");
}

void nib_word_work_fini(nib_word_work *w)
{
    nib_free(w->cache);
    nib_bpe_work_fini(&w->bpe);
    nib_buf_free(&w->score);
    nib_buf_free(&w->piece);
    *w = (nib_word_work){0};
}

/* First and last bytes of a word, overlapping: reads of fixed sizes are what makes this cheap. */
static void word_key(const char *p, size_t n, uint64_t *head, uint64_t *tail)
{
    if (n >= 8) {
        memcpy(head, p, 8);
        memcpy(tail, p + n - 8, 8);
    } else if (n >= 4) {
        uint32_t a, b;
        memcpy(&a, p, 4);
        memcpy(&b, p + n - 4, 4);
        *head = a;
        *tail = b;
    } else {
        *head = (unsigned char)p[0] | (uint64_t)(unsigned char)p[n / 2] << 8;
        *tail = (unsigned char)p[n - 1];
    }
}

nib_code nib_word_encode(const nib_word_model *m, nib_word_work *w, const char *word, size_t n,
                         nib_ids *out, nib_err *err)
{
    if (n > CACHE_WORD_MAX) return m->encode(m, w, word, n, out, err);
    uint64_t head, tail;
    word_key(word, n, &head, &tail);
    const uint64_t h = (head ^ tail * 0xFF51AFD7ED558CCDu) * 0x9E3779B97F4A7C15u;
    cached *c = &w->cache[(size_t)(h >> 40) & w->cache_mask];
    if (c->len == n && c->head == head && c->tail == tail)
        return nib_ids_add(out, c->id, c->n, err);
    const size_t at = out->n;
    nib_code rc = m->encode(m, w, word, n, out, err);
    const size_t n_ids = out->n - at;
    if (rc || n_ids > CACHE_IDS_MAX) return rc;
    *c = (cached){.head = head, .tail = tail, .len = (uint16_t)n, .n = (uint16_t)n_ids};
    if (n_ids) memcpy(c->id, out->id + at, n_ids * sizeof *c->id);
    return NIB_OK;
}
