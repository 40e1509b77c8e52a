/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_merges.c - the merges of both kinds of BPE: made from lists, ranks and scores,
 * and written as lists.
 *
 * Tests: tests/infer/test_tokenizer_bpe.c, tests/infer/test_tokenizer_to_hf.c. */
#include "infer/tokenizer_text.h"
#include "infer/tokenizer_word.h"

#include <stdlib.h>
#include <string.h>

/* ---- making ---- */

nib_code nib_merges_add(const nib_vocab *v, nib_bpe *b, nib_str left, nib_str right, nib_err *err)
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
                        nib_shown(left), left.p, nib_shown(right), right.p, what);
    if (!nib_bpe_add(b, l, r, to, b->n))
        return nib_fail(err, NIB_EFORMAT, "merge %u, '%.*s' with '%.*s', is there twice", b->n,
                        nib_shown(left), left.p, nib_shown(right), right.p);
    return NIB_OK;
}

nib_code nib_merges_from_ranks(const nib_vocab *v, nib_bpe *b, const nib_str *text,
                               nib_find_fn *find, const uint32_t *rank, bool by_char, nib_err *err)
{
    nib_code rc = NIB_OK;
    size_t n = 0;
    for (int adding = 0; adding < 2 && !rc; adding++) {
        if (adding && (rc = nib_bpe_init(b, n, err))) break;
        n = 0;
        for (size_t i = 0; i < v->n && !rc; i++) {
            const nib_str s = text[i];
            if (s.n < 2 || rank[i] == UINT32_MAX || find(v, s.p, s.n) != (int32_t)i) continue;
            if (s.n > NIB_TOKEN_LEN_MAX)
                rc = nib_fail(err, NIB_EFORMAT, "token %zu has %zu bytes; at most %d are possible",
                              i, s.n, NIB_TOKEN_LEN_MAX);
            for (size_t k = 1; k < s.n && !rc; k++) {
                if (by_char && ((unsigned char)s.p[k] & 0xC0) == 0x80) continue;
                const int32_t left = find(v, s.p, k);
                const int32_t right = left < 0 ? -1 : find(v, s.p + k, s.n - k);
                if (right < 0) continue;
                if (!adding || nib_bpe_add(b, left, right, (int32_t)i, rank[i])) n++;
            }
        }
    }
    return rc;
}

typedef struct {
    float score;
    uint32_t id;
} scored;

static int best_first(const void *x, const void *y)
{
    const scored *a = x, *b = y;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

nib_code nib_merges_from_scores(const nib_vocab *v, nib_bpe *b, const float *score, nib_err *err)
{
    scored *s = nib_alloc(v->n, sizeof *s);
    uint32_t *rank = nib_alloc(v->n, sizeof *rank);
    nib_code rc = s && rank ? NIB_OK : nib_fail_nomem(err, "merges");
    for (size_t i = 0; i < v->n && !rc; i++) s[i] = (scored){score[i], (uint32_t)i};
    if (!rc) qsort(s, v->n, sizeof *s, best_first);
    uint32_t r = 0;
    for (size_t i = 0; i < v->n && !rc; i++) {
        r += i && s[i].score != s[i - 1].score;
        rank[s[i].id] = r;
    }
    if (!rc) rc = nib_merges_from_ranks(v, b, v->text, nib_vocab_find_piece, rank, true, err);
    nib_free(s);
    nib_free(rank);
    return rc;
}

/* ---- writing ---- */

typedef struct {
    const nib_bpe_merge *m;
    const nib_vocab *v; /* NULL: by ids alone */
} ordered;

static int in_order(const void *x, const void *y)
{
    const ordered *a = x, *b = y;
    const nib_bpe_merge *p = a->m, *q = b->m;
    if (p->rank != q->rank) return p->rank < q->rank ? -1 : 1;
    if (a->v) {
        const size_t lp = a->v->text[p->left].n, lq = a->v->text[q->left].n;
        const size_t rp = a->v->text[p->right].n, rq = a->v->text[q->right].n;
        if (lp != lq) return lp > lq ? -1 : 1;
        if (rp != rq) return rp > rq ? -1 : 1;
        if (p->result != q->result) return p->result < q->result ? -1 : 1;
    }
    if (p->left != q->left) return p->left < q->left ? -1 : 1;
    return (p->right > q->right) - (p->right < q->right);
}

const nib_bpe_merge **nib_merges_in_order(const nib_vocab *v, const nib_bpe *b, bool by_length)
{
    ordered *o = nib_alloc(b->n, sizeof *o);
    const nib_bpe_merge **out = nib_alloc(b->n, sizeof *out);
    size_t n = 0;
    for (size_t i = 0; o && out && i <= b->mask; i++)
        if (b->slot[i].left >= 0) o[n++] = (ordered){&b->slot[i], by_length ? v : NULL};
    if (n) qsort(o, n, sizeof *o, in_order);
    for (size_t i = 0; i < n; i++) out[i] = o[i].m;
    if (!o) {
        nib_free(out);
        out = NULL;
    }
    nib_free(o);
    return out;
}

nib_code nib_merges_to_gguf(const nib_vocab *v, const nib_bpe_merge *const *merge, size_t n,
                            nib_gguf_kvs *kvs, nib_err *err)
{
    size_t room = 1;
    for (size_t i = 0; i < n; i++)
        room += v->text[merge[i]->left].n + v->text[merge[i]->right].n + 2;
    nib_str *line = nib_calloc(n, sizeof *line);
    char *blob = nib_alloc(room, 1), *at = blob;
    bool ok = line && blob;
    for (size_t i = 0; ok && i < n; i++) {
        nib_str l = v->text[merge[i]->left], r = v->text[merge[i]->right];
        line[i] = (nib_str){at, l.n + 1 + r.n};
        memcpy(at, l.p, l.n);
        at[l.n] = ' ';
        memcpy(at + l.n + 1, r.p, r.n);
        at[l.n + 1 + r.n] = 0;
        at += l.n + r.n + 2;
    }
    ok = ok && nib_gguf_set_arr(kvs, "tokenizer.ggml.merges", NIB_GGUF_STR, line, n);
    nib_free(line);
    nib_free(blob);
    return ok ? NIB_OK : nib_fail_nomem(err, "merges");
}

/* "left right", which all readers know. */
static nib_code add_line(nib_json *list, nib_str left, nib_str right, nib_text *line, nib_err *err)
{
    line->n = 0;
    nib_code rc = nib_text_add(line, left.p, left.n, err);
    if (!rc) rc = nib_text_add(line, " ", 1, err);
    if (!rc) rc = nib_text_add(line, right.p, right.n, err);
    if (!rc && !nib_json_add_text(list, NULL, line->p, line->n))
        rc = nib_fail_nomem(err, "tokenizer.json");
    return rc;
}

/* [left, right], where a part has a space in it. */
static nib_code add_pair(nib_json *list, nib_str left, nib_str right, nib_err *err)
{
    nib_json *pair = nib_json_add_array(list, NULL);
    return pair && nib_json_add_text(pair, NULL, left.p, left.n) &&
                   nib_json_add_text(pair, NULL, right.p, right.n)
               ? NIB_OK
               : nib_fail_nomem(err, "tokenizer.json");
}

nib_code nib_merges_to_json(const nib_vocab *v, const nib_bpe_merge *const *merge, size_t n,
                            nib_json *model, nib_err *err)
{
    nib_json *list = nib_json_add_array(model, "merges");
    nib_text line = {0};
    nib_code rc = list ? NIB_OK : nib_fail_nomem(err, "tokenizer.json");
    bool spaces = false;
    for (size_t i = 0; i < n && !spaces; i++) {
        const nib_str l = v->text[merge[i]->left], r = v->text[merge[i]->right];
        spaces = memchr(l.p, ' ', l.n) || memchr(r.p, ' ', r.n);
    }
    for (size_t i = 0; i < n && !rc; i++) {
        const nib_str l = v->text[merge[i]->left], r = v->text[merge[i]->right];
        rc = spaces ? add_pair(list, l, r, err) : add_line(list, l, r, &line, err);
    }
    nib_free(line.p);
    return rc;
}

nib_code nib_vocab_to_json(const nib_vocab *v, size_t n, nib_json *model, nib_err *err)
{
    nib_json *vocab = nib_json_add_object(model, "vocab");
    bool ok = vocab;
    for (size_t i = 0; i < n && ok; i++)
        ok = nib_json_add_num_under(vocab, v->text[i].p, v->text[i].n, (double)i);
    return ok ? NIB_OK : nib_fail_nomem(err, "tokenizer.json");
}
