/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_word_bytes.c - byte-level BPE: the symbols of a word are its bytes.
 *
 * Tests: tests/infer/test_tokenizer.c. */
#include "infer/tokenizer_alphabet.h"
#include "infer/tokenizer_impl.h"

#include <string.h>

/* Longer words are cut where no merge goes across. */
enum { LONG_WORD = 256 };

typedef struct {
    nib_word_model base;
    nib_bpe bpe;
    int32_t byte_id[256]; /* -1: the vocabulary has none, the byte is dropped */
    bool ignore_merges;
} bytes_model;

static const bytes_model *of(const nib_word_model *m)
{
    return (const bytes_model *)m;
}

static nib_code merge(const bytes_model *m, nib_word_work *w, const char *p, size_t n, nib_ids *out,
                      nib_err *err)
{
    size_t k = 0;
    nib_code rc = nib_bpe_reserve(&w->bpe, n, err);
    if (rc) return rc;
    for (size_t i = 0; i < n; i++) {
        const int32_t id = m->byte_id[(unsigned char)p[i]];
        if (id >= 0) w->bpe.id[k++] = id;
    }
    k = nib_bpe_merge_all(&m->bpe, &w->bpe, k);
    return nib_ids_add(out, w->bpe.id, k, err);
}

static nib_code encode(const nib_word_model *base, nib_word_work *w, const char *word, size_t n,
                       nib_ids *out, nib_err *err)
{
    const bytes_model *m = of(base);
    nib_code rc = NIB_OK;
    if (m->ignore_merges) {
        const int32_t id = nib_vocab_find_raw(base->vocab, word, n);
        if (id >= 0) return nib_ids_add(out, &id, 1, err);
    }
    if (n <= LONG_WORD) return merge(m, w, word, n, out, err);
    for (size_t from = 0, to = 1; from < n && !rc; from = to++) {
        int32_t before = m->byte_id[(unsigned char)word[from]];
        for (; to < n; to++) { /* a byte that is dropped brings its neighbours together */
            const int32_t now = m->byte_id[(unsigned char)word[to]];
            if (before >= 0 && now >= 0 && !nib_bpe_may_join(&m->bpe, before, now)) break;
            before = now;
        }
        rc = merge(m, w, word + from, to - from, out, err);
    }
    return rc;
}

static nib_code save_gguf(const nib_word_model *base, nib_gguf_kvs *kvs, size_t n_vocab,
                          nib_err *err)
{
    const bytes_model *m = of(base);
    const nib_bpe_merge **list = nib_merges_in_order(base->vocab, &m->bpe, false);
    (void)n_vocab;
    nib_code rc = list ? nib_merges_to_gguf(base->vocab, list, m->bpe.n, kvs, err)
                       : nib_fail_nomem(err, "merges");
    nib_free(list);
    return rc;
}

static nib_code save_json(const nib_word_model *base, nib_json *model, size_t n_vocab, nib_err *err)
{
    const bytes_model *m = of(base);
    bool ok = nib_json_add_null(model, "dropout") && nib_json_add_null(model, "unk_token") &&
              nib_json_add_null(model, "continuing_subword_prefix") &&
              nib_json_add_null(model, "end_of_word_suffix") &&
              nib_json_add_bool(model, "fuse_unk", false) &&
              nib_json_add_bool(model, "byte_fallback", false) &&
              nib_json_add_bool(model, "ignore_merges", m->ignore_merges);
    const nib_bpe_merge **list = nib_merges_in_order(base->vocab, &m->bpe, false);
    nib_code rc = ok && list ? nib_vocab_to_json(base->vocab, n_vocab, model, err)
                             : nib_fail_nomem(err, "tokenizer.json");
    if (!rc) rc = nib_merges_to_json(base->vocab, list, m->bpe.n, model, err);
    nib_free(list);
    return rc;
}

static void free_model(nib_word_model *base)
{
    nib_bpe_fini(&((bytes_model *)base)->bpe);
    nib_free(base);
}

static void ends(const void *arg, int32_t id, int32_t *first, int32_t *last)
{
    const bytes_model *m = arg;
    const nib_str raw = m->base.vocab->raw[id];
    *first = raw.n ? m->byte_id[(unsigned char)raw.p[0]] : -1;
    *last = raw.n ? m->byte_id[(unsigned char)raw.p[raw.n - 1]] : -1;
}

nib_code nib_word_bytes_new(nib_word_model **out, const nib_vocab *v, nib_bpe *merges,
                            bool ignore_merges, nib_err *err)
{
    bytes_model *m = nib_calloc(1, sizeof *m);
    if (!m) return nib_fail_nomem(err, "tokenizer");
    m->base = (nib_word_model){"BPE", "gpt2", encode, save_gguf, save_json, free_model, v};
    m->bpe = *merges;
    *merges = (nib_bpe){0};
    m->ignore_merges = ignore_merges;
    for (unsigned b = 0; b < 256; b++) {
        char c[4];
        m->byte_id[b] = nib_vocab_find(v, c, nib_alphabet_put(c, b));
    }
    *out = &m->base;
    return nib_bpe_find_edges(&m->bpe, ends, m, err);
}

bool nib_word_bytes_ignores_merges(const nib_word_model *m)
{
    return of(m)->ignore_merges;
}

unsigned nib_word_bytes_missing(const nib_word_model *m)
{
    unsigned b = 0;
    while (b < 256 && of(m)->byte_id[b] >= 0) b++;
    return b;
}

nib_code nib_word_bytes_check(const nib_word_model *m, size_t *id, nib_err *err)
{
    nib_code rc = NIB_OK;
    nib_word_work w = {0};
    nib_ids ids = {0};
    const nib_vocab *v = m->vocab;
    for (*id = 0; *id < v->n && !rc; ++*id) {
        if (v->type[*id] != NIB_TOKEN_NORMAL) continue;
        ids.n = 0;
        rc = merge(of(m), &w, v->raw[*id].p, v->raw[*id].n, &ids, err);
        if (!rc && (ids.n != 1 || ids.id[0] != (int32_t)*id)) break;
    }
    nib_ids_free(&ids);
    nib_bpe_work_fini(&w.bpe);
    return rc;
}
