/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_bpe.c - see tokenizer_bpe.h. Two ways to the same result: short words rescan an
 * array, which is quickest for the few symbols that nearly all words have; long ones keep a heap of
 * pairs and a linked list of symbols, so that a megabyte without a space takes no quadratic time.
 */
#include "infer/tokenizer_bpe.h"

#include <string.h>

enum { SHORT_WORD = 48 };
static const uint32_t NO_RANK = UINT32_MAX;
static const uint32_t NONE = UINT32_MAX; /* no neighbour */

/* ---- the table of merges ---- */

nib_code nib_bpe_init(nib_bpe *b, size_t n_merges, nib_err *err)
{
    *b = (nib_bpe){0};
    if (n_merges > INT32_MAX)
        return nib_fail(err, NIB_EFORMAT, "%zu merges; at most %d are possible", n_merges,
                        INT32_MAX);
    size_t slots = 16;
    while (slots < n_merges + n_merges / 2) slots *= 2;
    b->slot = nib_alloc(slots, sizeof *b->slot);
    if (!b->slot) return nib_fail_nomem(err, "merges of the tokenizer");
    for (size_t i = 0; i < slots; i++) b->slot[i].left = -1;
    b->mask = slots - 1;
    return NIB_OK;
}

void nib_bpe_fini(nib_bpe *b)
{
    nib_free(b->slot);
    nib_free(b->edge);
    *b = (nib_bpe){0};
}

static nib_bpe_merge *find(const nib_bpe *b, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    for (size_t i = (size_t)(h >> 32) & b->mask;; i = (i + 1) & b->mask) {
        nib_bpe_merge *m = &b->slot[i];
        if (m->left < 0 || (m->left == left && m->right == right)) return m;
    }
}

bool nib_bpe_add(nib_bpe *b, int32_t left, int32_t right, int32_t result, uint32_t rank)
{
    nib_bpe_merge *m = find(b, left, right);
    if (m->left >= 0) return false;
    *m = (nib_bpe_merge){left, right, result, rank};
    b->n++;
    return true;
}

const nib_bpe_merge *nib_bpe_find(const nib_bpe *b, int32_t left, int32_t right)
{
    const nib_bpe_merge *m = find(b, left, right);
    return m->left < 0 ? NULL : m;
}

/* A merge goes across the last symbol of its left part and the first of its right one. */
nib_code nib_bpe_find_edges(nib_bpe *b, nib_bpe_ends_fn *ends, const void *arg, nib_err *err)
{
    uint64_t *edge = nib_calloc(NIB_BPE_EDGE_WORDS, sizeof *edge);
    if (!edge) return nib_fail_nomem(err, "merges of the tokenizer");
    bool known = true;
    for (size_t i = 0; i <= b->mask && known; i++) {
        const nib_bpe_merge *m = &b->slot[i];
        int32_t first, last, left, right;
        if (m->left < 0) continue;
        ends(arg, m->left, &first, &left);
        ends(arg, m->right, &right, &last);
        known = left >= 0 && right >= 0;
        if (!known) break;
        const size_t bit = nib_bpe_edge_bit(left, right);
        edge[bit >> 6] |= UINT64_C(1) << (bit & 63);
    }
    if (known)
        b->edge = edge;
    else
        nib_free(edge);
    return NIB_OK;
}

static uint32_t rank_of(const nib_bpe *b, int32_t left, int32_t right)
{
    const nib_bpe_merge *m = find(b, left, right);
    return m->left < 0 ? NO_RANK : m->rank;
}

/* ---- short words ---- */

static size_t merge_short(const nib_bpe *b, int32_t *id, uint32_t *rank, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++) rank[i] = rank_of(b, id[i], id[i + 1]);
    while (n > 1) {
        size_t at = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[at]) at = i;
        if (rank[at] == NO_RANK) break;
        id[at] = find(b, id[at], id[at + 1])->result;
        n--;
        memmove(id + at + 1, id + at + 2, (n - at - 1) * sizeof *id);
        memmove(rank + at, rank + at + 1, (n - at - 1) * sizeof *rank);
        if (at + 1 < n) rank[at] = rank_of(b, id[at], id[at + 1]);
        if (at > 0) rank[at - 1] = rank_of(b, id[at - 1], id[at]);
    }
    return n;
}

/* ---- long words ---- */

/* A heap entry is rank << 32 | position: the smallest is the lowest rank, leftmost first. */

static void sift_down(uint64_t *heap, size_t n, size_t i)
{
    uint64_t x = heap[i];
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= n) break;
        if (c + 1 < n && heap[c + 1] < heap[c]) c++;
        if (heap[c] >= x) break;
        heap[i] = heap[c];
        i = c;
    }
    heap[i] = x;
}

static void push(uint64_t *heap, size_t *n, uint64_t x)
{
    size_t i = (*n)++;
    for (; i > 0 && heap[(i - 1) / 2] > x; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = x;
}

/* Note the pair that starts at `i`. */
static void consider(const nib_bpe *b, nib_bpe_work *w, size_t *n_heap, uint32_t i)
{
    uint32_t j = w->next[i];
    w->rank[i] = j == NONE ? NO_RANK : rank_of(b, w->id[i], w->id[j]);
    if (w->rank[i] != NO_RANK) push(w->heap, n_heap, (uint64_t)w->rank[i] << 32 | i);
}

/* Each merge takes one symbol away and notes at most two pairs, so after the n - 1 first pairs
 * at most 2n more are pushed while as many as merges are popped: the heap stays below 2n. */
static size_t merge_long(const nib_bpe *b, nib_bpe_work *w, size_t n)
{
    size_t n_heap = 0;
    for (uint32_t i = 0; i < n; i++) {
        w->prev[i] = i ? i - 1 : NONE;
        w->next[i] = i + 1 < n ? i + 1 : NONE;
        w->rank[i] = i + 1 < n ? rank_of(b, w->id[i], w->id[i + 1]) : NO_RANK;
        if (w->rank[i] != NO_RANK) w->heap[n_heap++] = (uint64_t)w->rank[i] << 32 | i;
    }
    for (size_t i = n_heap / 2; i-- > 0;) sift_down(w->heap, n_heap, i);
    while (n_heap) {
        uint64_t top = w->heap[0];
        w->heap[0] = w->heap[--n_heap];
        sift_down(w->heap, n_heap, 0);
        uint32_t i = (uint32_t)top, j = w->next[i];
        /* Stale, unless the pair that starts here now has this very rank: then it is its turn,
         * whichever entry it was. */
        if (w->rank[i] != top >> 32) continue;
        w->id[i] = find(b, w->id[i], w->id[j])->result;
        w->rank[j] = NO_RANK;
        w->next[i] = w->next[j];
        if (w->next[i] != NONE) w->prev[w->next[i]] = i;
        consider(b, w, &n_heap, i);
        if (w->prev[i] != NONE) consider(b, w, &n_heap, w->prev[i]);
    }
    size_t out = 0;
    for (uint32_t i = 0; i != NONE; i = w->next[i]) w->id[out++] = w->id[i];
    return out;
}

/* ---- words ---- */

void nib_bpe_work_fini(nib_bpe_work *w)
{
    nib_free(w->id);
    nib_free(w->rank);
    nib_free(w->next);
    nib_free(w->prev);
    nib_free(w->heap);
    *w = (nib_bpe_work){0};
}

nib_code nib_bpe_reserve(nib_bpe_work *w, size_t n, nib_err *err)
{
    if (n <= w->cap) return NIB_OK;
    if (n >= NONE)
        return nib_fail(err, NIB_EINVAL, "a word of %zu bytes; at most 4294967294 are possible", n);
    size_t cap = n < SHORT_WORD ? SHORT_WORD : n + n / 4;
    nib_bpe_work_fini(w);
    w->id = nib_alloc(cap, sizeof *w->id);
    w->rank = nib_alloc(cap, sizeof *w->rank);
    w->next = nib_alloc(cap, sizeof *w->next);
    w->prev = nib_alloc(cap, sizeof *w->prev);
    w->heap = nib_alloc(cap, 2 * sizeof *w->heap);
    if (!w->id || !w->rank || !w->next || !w->prev || !w->heap) {
        nib_bpe_work_fini(w);
        return nib_fail_nomem(err, "a word to tokenize");
    }
    w->cap = cap;
    return NIB_OK;
}

size_t nib_bpe_merge_all(const nib_bpe *b, nib_bpe_work *w, size_t n)
{
    if (n < 2) return n;
    return n <= SHORT_WORD ? merge_short(b, w->id, w->rank, n) : merge_long(b, w, n);
}
