/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_added.c - cutting added tokens out of text.
 *
 * The tokens are kept sorted; at a byte that one of them begins with, the range of candidates is
 * narrowed byte by byte with binary searches, so that neither many tokens nor long ones cost much.
 *
 * Tests: tests/infer/test_tokenizer.c. */
#include "infer/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

enum { STARTS_PLAIN = 1, STARTS_CONTROL = 2 };

nib_code nib_added_push(nib_added_set *s, nib_added a, nib_err *err)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 64;
        nib_added *t = nib_grow(s->t, s->n, cap, sizeof *t);
        if (!t) return nib_fail_nomem(err, "added tokens");
        s->t = t;
        s->cap = cap;
    }
    s->t[s->n++] = a;
    return NIB_OK;
}

static int by_text(const void *x, const void *y)
{
    const nib_added *a = x, *b = y;
    size_t n = a->text.n < b->text.n ? a->text.n : b->text.n;
    int c = memcmp(a->text.p, b->text.p, n);
    return c ? c : (a->text.n > b->text.n) - (a->text.n < b->text.n);
}

void nib_added_sort(nib_added_set *s)
{
    if (s->n) qsort(s->t, s->n, sizeof *s->t, by_text);
    for (size_t i = 0; i < s->n; i++)
        s->first[(unsigned char)s->t[i].text.p[0]] |=
            s->t[i].control ? STARTS_CONTROL : STARTS_PLAIN;
}

void nib_added_fini(nib_added_set *s)
{
    nib_free(s->t);
    *s = (nib_added_set){0};
}

/* First of the tokens [lo, hi), which share `depth` bytes, whose next byte is at least b; one
 * that ends at depth counts as smaller than any. */
static size_t lower(const nib_added_set *s, size_t lo, size_t hi, size_t depth, unsigned b)
{
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        nib_str t = s->t[mid].text;
        if (t.n == depth || (unsigned char)t.p[depth] < b)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The longest allowed token that text[n] begins with; NULL: none. */
static const nib_added *longest(const nib_added_set *s, bool control, const char *text, size_t n)
{
    const nib_added *best = NULL;
    size_t lo = 0, hi = s->n;
    for (size_t depth = 0; depth < n && lo < hi; depth++) {
        unsigned b = (unsigned char)text[depth];
        lo = lower(s, lo, hi, depth, b);
        hi = b == 255 ? hi : lower(s, lo, hi, depth, b + 1);
        if (lo < hi && s->t[lo].text.n == depth + 1 && (control || !s->t[lo].control))
            best = &s->t[lo];
    }
    return best;
}

static bool stands_alone(const char *text, size_t n, size_t begin, size_t end)
{
    uint32_t cp;
    if (begin) {
        size_t k = nib_utf8_last(text, begin);
        if (nib_utf8_get(text + begin - k, k, &cp) && nib_is_word(cp)) return false;
    }
    return end == n || !nib_utf8_get(text + end, n - end, &cp) || !nib_is_word(cp);
}

static size_t strip_left(const char *text, size_t from, size_t begin)
{
    uint32_t cp;
    while (begin > from) {
        size_t k = nib_utf8_last(text + from, begin - from);
        if (!nib_utf8_get(text + begin - k, k, &cp) || !nib_is_space(cp)) break;
        begin -= k;
    }
    return begin;
}

static size_t strip_right(const char *text, size_t end, size_t n)
{
    uint32_t cp;
    for (size_t k; end < n; end += k) {
        k = nib_utf8_get(text + end, n - end, &cp);
        if (!k || !nib_is_space(cp)) break;
    }
    return end;
}

nib_code nib_added_cut(const nib_added_set *s, bool control, const char *text, size_t n,
                       nib_stretch_fn *stretch, nib_token_fn *token, void *arg, nib_err *err)
{
    nib_code rc = NIB_OK;
    uint8_t wanted = control ? STARTS_PLAIN | STARTS_CONTROL : STARTS_PLAIN;
    size_t done = 0, i = 0;
    while (s->n && i < n) {
        const nib_added *a = NULL;
        for (; i < n; i++)
            if ((s->first[(unsigned char)text[i]] & wanted) &&
                (a = longest(s, control, text + i, n - i)))
                break;
        if (!a) break;
        size_t begin = i, end = i + a->text.n;
        i = end;
        if (a->single_word && !stands_alone(text, n, begin, end)) continue;
        if (a->lstrip) begin = strip_left(text, done, begin);
        if (a->rstrip) end = strip_right(text, end, n); /* the next one may begin in there */
        if (begin > done && (rc = stretch(arg, text + done, begin - done, !done, err))) return rc;
        if ((rc = token(arg, a->id, err))) return rc;
        done = end;
    }
    return done < n ? stretch(arg, text + done, n - done, !done, err) : NIB_OK;
}
