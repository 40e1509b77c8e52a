/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_word_chars.c - BPE on characters, as SentencePiece has it.
 *
 * Such models split nothing, so a word is all the text between two added tokens. It is cut where no
 * merge can go across (before most words, since few tokens hold a space in their midst), which
 * changes nothing and makes short words of it that repeat.
 *
 * Tests: tests/infer/test_tokenizer_golden.c. */
#include "infer/tokenizer_impl.h"

#include <string.h>

typedef struct {
    nib_word_model base;
    nib_bpe bpe;
    nib_word_chars_opts o;
    float *score;         /* [vocab->n] NULL: none */
    int32_t byte_id[256]; /* of <0x00> and so on; -1: none */
    int32_t ascii[128];   /* of the first characters; -1: none */
} chars_model;

static const chars_model *of(const nib_word_model *m)
{
    return (const chars_model *)m;
}

/* The token of the character at p (left > 0 bytes) and its bytes; -1: none. */
static int32_t char_id(const chars_model *m, const char *p, size_t left, size_t *n)
{
    uint32_t cp;
    *n = nib_utf8_get(p, left, &cp);
    if (*n == 1) return m->ascii[cp];
    if (*n) return nib_vocab_find_piece(m->base.vocab, p, *n);
    *n = 1; /* no character: a byte */
    return -1;
}

/* Do all these bytes have tokens? */
static bool has_bytes(const chars_model *m, const char *p, size_t n)
{
    if (!m->o.byte_fallback) return false;
    for (size_t i = 0; i < n; i++)
        if (m->byte_id[(unsigned char)p[i]] < 0) return false;
    return true;
}

static nib_code merge(const chars_model *m, nib_word_work *w, const char *p, size_t n, nib_ids *out,
                      nib_err *err)
{
    size_t k = 0, len;
    bool unknown = false;
    nib_code rc = nib_bpe_reserve(&w->bpe, n, err);
    if (rc) return rc;
    int32_t *id = w->bpe.id;
    for (size_t i = 0; i < n; i += len) {
        const int32_t one = char_id(m, p + i, n - i, &len);
        const bool fuses = unknown && m->o.fuse_unk;
        unknown = false;
        if (one >= 0) {
            id[k++] = one;
        } else if (has_bytes(m, p + i, len)) {
            for (size_t b = 0; b < len; b++) id[k++] = m->byte_id[(unsigned char)p[i + b]];
        } else if (m->o.unk >= 0) {
            if (!fuses) id[k++] = m->o.unk;
            unknown = true;
        }
    }
    k = nib_bpe_merge_all(&m->bpe, &w->bpe, k);
    return nib_ids_add(out, w->bpe.id, k, err);
}

/* A piece that was made but is not to be used falls back into its parts. */
static nib_code take_apart(const chars_model *m, nib_ids *out, size_t from, nib_err *err)
{
    const nib_vocab *v = m->base.vocab;
    bool any = false;
    for (size_t i = from; i < out->n && !any; i++) any = v->type[out->id[i]] == NIB_TOKEN_UNUSED;
    if (!any) return NIB_OK;
    nib_ids todo = {0};
    nib_code rc = NIB_OK;
    for (size_t i = out->n; i > from && !rc; i--) rc = nib_ids_add(&todo, &out->id[i - 1], 1, err);
    out->n = from;
    while (todo.n && !rc) {
        const int32_t id = todo.id[--todo.n];
        const nib_str s = v->text[id];
        const nib_bpe_merge *found = NULL;
        for (size_t k = 1; k < s.n && v->type[id] == NIB_TOKEN_UNUSED && !found; k++) {
            const int32_t left = nib_vocab_find_piece(v, s.p, k);
            const int32_t right = left < 0 ? -1 : nib_vocab_find_piece(v, s.p + k, s.n - k);
            if (right >= 0) found = nib_bpe_find(&m->bpe, left, right);
        }
        if (!found) {
            rc = nib_ids_add(out, &id, 1, err);
            continue;
        }
        const int32_t parts[2] = {found->right, found->left};
        rc = nib_ids_add(&todo, parts, 2, err);
    }
    nib_ids_free(&todo);
    return rc;
}

/* Bytes of the text that its first run has: no merge goes across the end of it. Next to a character
 * that is unknown there is none, since several of those may be one. */
static size_t run_length(const chars_model *m, const char *p, size_t n)
{
    int32_t before = -1;
    for (size_t i = 0, len; i < n; i += len) {
        int32_t first = char_id(m, p + i, n - i, &len), last = first;
        if (first < 0 && has_bytes(m, p + i, len)) {
            first = m->byte_id[(unsigned char)p[i]];
            last = m->byte_id[(unsigned char)p[i + len - 1]];
        }
        if (before >= 0 && first >= 0 && !nib_bpe_may_join(&m->bpe, before, first)) return i;
        before = last;
    }
    return n;
}

static nib_code encode(const nib_word_model *base, nib_word_work *w, const char *word, size_t n,
                       nib_ids *out, nib_err *err)
{
    const chars_model *m = of(base);
    const size_t at = out->n;
    nib_code rc = NIB_OK;
    if (m->o.ignore_merges) {
        const int32_t id = nib_vocab_find_piece(base->vocab, word, n);
        if (id >= 0) return nib_ids_add(out, &id, 1, err);
    }
    const size_t run = m->o.ignore_merges ? n : run_length(m, word, n);
    if (run == n) {
        rc = merge(m, w, word, n, out, err);
        return rc || !m->o.by_score ? rc : take_apart(m, out, at, err);
    }
    for (size_t from = 0, k = run; from < n && !rc; from += k) {
        if (from) k = run_length(m, word + from, n - from);
        rc = nib_word_encode(base, w, word + from, k, out, err);
    }
    return rc;
}

/* ---- saving ---- */

/* Scores that mean the order of the merges: of a piece the lowest rank that makes it; of what no
 * merge makes less than any of those; of what is no piece 0. */
static float *scores_of_ranks(const chars_model *m, size_t n)
{
    const nib_vocab *v = m->base.vocab;
    float *score = nib_calloc(n, sizeof *score);
    for (size_t i = 0; score && i < v->n; i++) {
        const bool counts = v->type[i] == NIB_TOKEN_NORMAL || v->type[i] == NIB_TOKEN_BYTE;
        if (counts) score[i] = -(float)m->bpe.n;
    }
    for (size_t i = 0; score && i <= m->bpe.mask; i++) {
        const nib_bpe_merge *x = &m->bpe.slot[i];
        if (x->left < 0 || v->type[x->result] != NIB_TOKEN_NORMAL) continue;
        if (-(float)x->rank > score[x->result]) score[x->result] = -(float)x->rank;
    }
    return score;
}

static nib_code save_gguf(const nib_word_model *base, nib_gguf_kvs *kvs, size_t n, nib_err *err)
{
    const chars_model *m = of(base);
    if (!m->o.byte_fallback && m->byte_id[0] >= 0)
        return nib_fail(err, NIB_EFORMAT,
                        "the tokenizer has tokens for bytes and does not use them ('byte_fallback' "
                        "is false), which llama.cpp would");
    float *score = m->score ? nib_calloc(n, sizeof *score) : scores_of_ranks(m, n);
    if (score && m->score) memcpy(score, m->score, base->vocab->n * sizeof *score);
    for (size_t i = base->vocab->n; score && i < n; i++) score[i] = -10000;
    const bool ok = score && nib_gguf_set_arr(kvs, "tokenizer.ggml.scores", NIB_GGUF_F32, score, n);
    nib_free(score);
    return ok ? NIB_OK : nib_fail_nomem(err, "scores");
}

static nib_code save_json(const nib_word_model *base, nib_json *model, size_t n_vocab, nib_err *err)
{
    const chars_model *m = of(base);
    const nib_vocab *v = base->vocab;
    bool ok = nib_json_add_null(model, "dropout") &&
              (m->o.unk >= 0
                   ? nib_json_add_text(model, "unk_token", v->text[m->o.unk].p, v->text[m->o.unk].n)
                   : nib_json_add_null(model, "unk_token")) &&
              nib_json_add_null(model, "continuing_subword_prefix") &&
              nib_json_add_null(model, "end_of_word_suffix") &&
              nib_json_add_bool(model, "fuse_unk", m->o.fuse_unk) &&
              nib_json_add_bool(model, "byte_fallback", m->o.byte_fallback) &&
              nib_json_add_bool(model, "ignore_merges", m->o.ignore_merges);
    const nib_bpe_merge **list = nib_merges_in_order(v, &m->bpe, m->o.by_score);
    nib_code rc = ok && list ? nib_vocab_to_json(v, n_vocab, model, err)
                             : nib_fail_nomem(err, "tokenizer.json");
    if (!rc) rc = nib_merges_to_json(v, list, m->bpe.n, model, err);
    nib_free(list);
    return rc;
}

static void free_model(nib_word_model *base)
{
    chars_model *m = (chars_model *)base;
    nib_bpe_fini(&m->bpe);
    nib_free(m->score);
    nib_free(m);
}

/* First and last character; a byte token's are not told, nor those that have no token. */
static void ends(const void *arg, int32_t id, int32_t *first, int32_t *last)
{
    const chars_model *m = arg;
    const nib_str s = m->base.vocab->text[id];
    size_t n;
    *first = *last = -1;
    if (!s.n || m->base.vocab->type[id] == NIB_TOKEN_BYTE) return;
    *first = char_id(m, s.p, s.n, &n);
    const size_t k = nib_utf8_last(s.p, s.n);
    *last = char_id(m, s.p + s.n - k, k, &n);
}

nib_code nib_word_chars_set_scores(nib_word_model *base, const float *score, nib_err *err)
{
    chars_model *m = (chars_model *)base;
    float *copy = nib_alloc(base->vocab->n, sizeof *copy);
    if (!copy) return nib_fail_nomem(err, "scores");
    memcpy(copy, score, base->vocab->n * sizeof *copy);
    nib_free(m->score);
    m->score = copy;
    return NIB_OK;
}

nib_code nib_word_chars_new(nib_word_model **out, const nib_vocab *v, nib_bpe *merges,
                            const nib_word_chars_opts *opts, const float *score, nib_err *err)
{
    chars_model *m = nib_calloc(1, sizeof *m);
    if (!m) return nib_fail_nomem(err, "tokenizer");
    m->base = (nib_word_model){"BPE", "llama", encode, save_gguf, save_json, free_model, v};
    m->bpe = *merges;
    *merges = (nib_bpe){0};
    m->o = *opts;
    *out = &m->base;
    nib_vocab_bytes(v, m->byte_id);
    for (int c = 0; c < 128; c++) {
        const char p = (char)c;
        m->ascii[c] = nib_vocab_find_piece(v, &p, 1);
    }
    nib_code rc = score ? nib_word_chars_set_scores(&m->base, score, err) : NIB_OK;
    return rc ? rc : nib_bpe_find_edges(&m->bpe, ends, m, err);
}
