/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_word_unigram.c - Unigram: of all ways to cut a word into pieces the one whose
 * scores sum up to most.
 *
 * Kudo, Subword Regularization (2018), section 3.3 without sampling: best(end) = max over the
 * pieces that end there of best(start) + score(piece), by dynamic programming from the left; of
 * equal sums the one found first stays. A place where no piece of one character fits has the
 * unknown one, whose score is the lowest of all minus 10. Sums are kept only as far as pieces
 * reach; of each place what piece ended there.
 *
 * Pieces are found in a trie, whose nodes lie breadth first: the children of one lie side by side.
 *
 * Tests: tests/infer/test_tokenizer_golden.c. */
#include "infer/tokenizer_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double UNKNOWN_PENALTY = 10;
enum { NO_PIECE = -1, UNKNOWN_PIECE = -2 };

typedef struct {
    uint32_t *child; /* [n + 1] first child of node i; its last is before child[i + 1] */
    unsigned char *label;
    int32_t *id; /* of the piece that ends at the node; -1: none */
    size_t n;
} trie;

typedef struct {
    nib_word_model base;
    trie trie;
    double *score; /* [vocab->n] */
    double unknown_score;
    int32_t unk;
    bool byte_fallback;
    int32_t byte_id[256];
    size_t longest; /* piece, in bytes */
} unigram;

static const unigram *of(const nib_word_model *m)
{
    return (const unigram *)m;
}

/* ---- trie ---- */

static int by_text(const void *x, const void *y)
{
    const nib_str *a = *(const nib_str *const *)x, *b = *(const nib_str *const *)y;
    const size_t n = a->n < b->n ? a->n : b->n;
    const int c = memcmp(a->p, b->p, n);
    return c ? c : (a->n > b->n) - (a->n < b->n);
}

/* A node waits for its children: the sorted pieces [lo, hi) have its bytes in common. */
typedef struct {
    size_t lo, hi, depth;
} span;

static nib_code trie_grow(trie *t, span **spans, size_t n, size_t cap, nib_err *err)
{
    uint32_t *child = nib_grow(t->child, n, cap + 1, sizeof *child);
    if (child) t->child = child;
    unsigned char *label = nib_grow(t->label, n, cap, 1);
    if (label) t->label = label;
    int32_t *id = nib_grow(t->id, n, cap, sizeof *id);
    if (id) t->id = id;
    span *s = nib_grow(*spans, n, cap, sizeof *s);
    if (s) *spans = s;
    return child && label && id && s ? NIB_OK : nib_fail_nomem(err, "vocabulary");
}

/* Of n sorted pieces; text points into all[]. */
static nib_code trie_build(trie *t, const nib_str *const *piece, size_t n, const nib_str *all,
                           nib_err *err)
{
    span *spans = NULL;
    size_t cap = 1024, made = 1;
    nib_code rc = trie_grow(t, &spans, 0, cap, err);
    if (!rc) {
        spans[0] = (span){0, n, 0};
        t->label[0] = 0;
        t->id[0] = -1;
    }
    for (size_t i = 0; i < made && !rc; i++) {
        const span s = spans[i];
        size_t lo = s.lo;
        t->child[i] = (uint32_t)made;
        if (lo < s.hi && piece[lo]->n == s.depth) /* the piece that ends here comes first */
            t->id[i] = (int32_t)(piece[lo++] - all);
        while (lo < s.hi && !rc) {
            const unsigned char c = (unsigned char)piece[lo]->p[s.depth];
            size_t hi = lo;
            while (hi < s.hi && (unsigned char)piece[hi]->p[s.depth] == c) hi++;
            if (made == UINT32_MAX)
                rc = nib_fail(err, NIB_EFORMAT, "the vocabulary's pieces are too long");
            if (!rc && made == cap) {
                rc = trie_grow(t, &spans, cap, 2 * cap, err);
                cap *= 2;
            }
            if (rc) break;
            t->label[made] = c;
            t->id[made] = -1;
            spans[made++] = (span){lo, hi, s.depth + 1};
            lo = hi;
        }
    }
    if (!rc) t->child[made] = (uint32_t)made;
    t->n = made;
    nib_free(spans);
    return rc;
}

/* The child of a node by its label; 0: none. */
static uint32_t trie_child(const trie *t, uint32_t node, unsigned char c)
{
    uint32_t lo = t->child[node], hi = t->child[node + 1];
    if (hi - lo == 256) return lo + c;
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (t->label[mid] < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < t->child[node + 1] && t->label[lo] == c ? lo : 0;
}

/* ---- search ---- */

/* What ends at each place of the word, and the best sum there; sums go round. */
typedef struct {
    int32_t *piece; /* [n + 1] */
    double *sum;    /* [mask + 1] */
    size_t mask;
} lattice;

static void offer(lattice *l, size_t end, int32_t piece, double sum)
{
    double *best = &l->sum[end & l->mask];
    if (l->piece[end] != NO_PIECE && !(sum > *best)) return;
    l->piece[end] = piece;
    *best = sum;
}

/* Every piece that begins at `at`, and the unknown one if none of them is a character. */
static void offer_pieces(const unigram *m, lattice *l, const char *p, size_t n, size_t at)
{
    const double so_far = l->sum[at & l->mask];
    uint32_t cp, node = 0;
    const size_t one = nib_utf8_get(p + at, n - at, &cp);
    const size_t len = one ? one : 1;
    bool any = false;
    for (size_t i = at; i < n && (node = trie_child(&m->trie, node, (unsigned char)p[i])); i++) {
        const int32_t id = m->trie.id[node];
        if (id < 0) continue;
        offer(l, i + 1, id, so_far + m->score[id]);
        any = any || i + 1 - at == len;
    }
    if (!any) offer(l, at + len, UNKNOWN_PIECE, so_far + m->unknown_score);
}

/* The best cut of p[n] in l->piece: from the front, what begins at each place where a piece does.
 */
static nib_code search(const unigram *m, nib_word_work *w, const char *p, size_t n, lattice *l,
                       nib_err *err)
{
    size_t slots = 8;
    while (slots < m->longest + 8) slots *= 2;
    l->piece = nib_buf_reserve(&w->piece, n + 1, sizeof *l->piece);
    l->sum = nib_buf_reserve(&w->score, slots, sizeof *l->sum);
    l->mask = slots - 1;
    if (!l->piece || !l->sum) return nib_fail_nomem(err, "a word to tokenize");
    for (size_t i = 0; i <= n; i++) l->piece[i] = NO_PIECE;
    l->sum[0] = 0;
    uint32_t cp;
    for (size_t at = 0, k; at < n; at += k) {
        k = nib_utf8_get(p + at, n - at, &cp);
        if (!k) k = 1;
        if (!at || l->piece[at] != NO_PIECE) offer_pieces(m, l, p, n, at);
    }
    /* Turn round: what ends at a place becomes what begins where it does. */
    int32_t carried = l->piece[n];
    for (size_t end = n; end > 0;) {
        const size_t len =
            carried == UNKNOWN_PIECE ? nib_utf8_last(p, end) : m->base.vocab->text[carried].n;
        const int32_t next = l->piece[end - len];
        l->piece[end - len] = carried;
        carried = next;
        end -= len;
    }
    return NIB_OK;
}

/* What no piece covers: all of it one token, or its bytes. */
static nib_code add_unknown(const unigram *m, const char *p, size_t n, nib_ids *out, nib_err *err)
{
    bool bytes = m->byte_fallback;
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < n && bytes; i++) bytes = m->byte_id[(unsigned char)p[i]] >= 0;
    for (size_t i = 0; i < n && bytes && !rc; i++)
        rc = nib_ids_add(out, &m->byte_id[(unsigned char)p[i]], 1, err);
    if (bytes) return rc;
    if (m->unk < 0)
        return nib_fail(err, NIB_EINVAL,
                        "'%.*s' is not in the vocabulary, which has no unknown token",
                        (int)(n < 40 ? n : 40), p);
    return nib_ids_add(out, &m->unk, 1, err);
}

static nib_code encode(const nib_word_model *base, nib_word_work *w, const char *word, size_t n,
                       nib_ids *out, nib_err *err)
{
    const unigram *m = of(base);
    lattice l;
    nib_code rc = search(m, w, word, n, &l, err);
    for (size_t at = 0, end; at < n && !rc; at = end) {
        end = at;
        if (l.piece[at] >= 0 && l.piece[at] != m->unk) {
            rc = nib_ids_add(out, &l.piece[at], 1, err);
            end += base->vocab->text[l.piece[at]].n;
            continue;
        }
        while (end < n && (l.piece[end] == UNKNOWN_PIECE || l.piece[end] == m->unk)) {
            uint32_t cp;
            const size_t k = l.piece[end] == UNKNOWN_PIECE ? nib_utf8_get(word + end, n - end, &cp)
                                                           : base->vocab->text[m->unk].n;
            end += k ? k : 1;
        }
        rc = add_unknown(m, word + at, end - at, out, err);
    }
    return rc;
}

/* ---- saving ---- */

static nib_code save_gguf(const nib_word_model *base, nib_gguf_kvs *kvs, size_t n, nib_err *err)
{
    const unigram *m = of(base);
    float *score = nib_alloc(n, sizeof *score);
    for (size_t i = 0; score && i < n; i++)
        score[i] = i < base->vocab->n ? (float)m->score[i] : -10000;
    const bool ok = score && nib_gguf_set_arr(kvs, "tokenizer.ggml.scores", NIB_GGUF_F32, score, n);
    nib_free(score);
    return ok ? NIB_OK : nib_fail_nomem(err, "scores");
}

static nib_code save_json(const nib_word_model *base, nib_json *model, size_t n_vocab, nib_err *err)
{
    const unigram *m = of(base);
    bool ok = (m->unk >= 0 ? nib_json_add_num(model, "unk_id", m->unk)
                           : nib_json_add_null(model, "unk_id"));
    nib_json *list = ok ? nib_json_add_array(model, "vocab") : NULL;
    ok = list;
    for (size_t i = 0; i < n_vocab && ok; i++) {
        nib_json *pair = nib_json_add_array(list, NULL);
        ok = pair &&
             nib_json_add_text(pair, NULL, base->vocab->text[i].p, base->vocab->text[i].n) &&
             nib_json_add_real(pair, NULL, (float)m->score[i]);
    }
    ok = ok && nib_json_add_bool(model, "byte_fallback", m->byte_fallback);
    return ok ? NIB_OK : nib_fail_nomem(err, "tokenizer.json");
}

static void free_model(nib_word_model *base)
{
    unigram *m = (unigram *)base;
    nib_free(m->trie.child);
    nib_free(m->trie.label);
    nib_free(m->trie.id);
    nib_free(m->score);
    nib_free(m);
}

/* ---- making ---- */

/* Which tokens are pieces, in the order of their texts, and the lowest score. */
static nib_code choose(unigram *m, const nib_str **piece, size_t *n, bool all)
{
    const nib_vocab *v = m->base.vocab;
    double least = v->n ? INFINITY : 0;
    *n = 0;
    for (size_t i = 0; i < v->n; i++) {
        const uint8_t type = v->type[i];
        if (m->score[i] == NIB_NO_PIECE) {
            m->score[i] = 0;
            continue;
        }
        if (type == NIB_TOKEN_USER && !all) m->score[i] = 0;
        if ((all || type == NIB_TOKEN_NORMAL) && m->score[i] < least) least = m->score[i];
        if (!all && type != NIB_TOKEN_NORMAL && type != NIB_TOKEN_USER) continue;
        if (!v->text[i].n) continue;
        piece[(*n)++] = &v->text[i];
        if (v->text[i].n > m->longest) m->longest = v->text[i].n;
    }
    m->unknown_score = (least == INFINITY ? 0 : least) - UNKNOWN_PENALTY;
    if (*n) qsort(piece, *n, sizeof *piece, by_text);
    return NIB_OK;
}

nib_code nib_word_unigram_new(nib_word_model **out, const nib_vocab *v, const double *score,
                              int32_t unk, bool byte_fallback, bool all, nib_err *err)
{
    size_t n = 0;
    unigram *m = nib_calloc(1, sizeof *m);
    if (!m) return nib_fail_nomem(err, "tokenizer");
    m->base = (nib_word_model){"Unigram", "t5", encode, save_gguf, save_json, free_model, v};
    m->unk = unk;
    m->byte_fallback = byte_fallback;
    *out = &m->base;
    nib_vocab_bytes(v, m->byte_id);
    m->score = nib_alloc(v->n, sizeof *m->score);
    const nib_str **piece = nib_alloc(v->n, sizeof *piece);
    nib_code rc = m->score && piece ? NIB_OK : nib_fail_nomem(err, "vocabulary");
    if (!rc) {
        memcpy(m->score, score, v->n * sizeof *score);
        rc = choose(m, piece, &n, all);
    }
    if (!rc) rc = trie_build(&m->trie, piece, n, v->text, err);
    nib_free(piece);
    return rc;
}
