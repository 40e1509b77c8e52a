/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_word_wordpiece.c - WordPiece: the longest piece of the vocabulary that a word
 * begins with, then that of the rest, whose pieces are marked.
 *
 * Tests: tests/infer/test_tokenizer_golden.c. */
#include "infer/tokenizer_impl.h"

#include <string.h>

typedef struct {
    nib_word_model base;
    int32_t unk;
    size_t max_chars, n_prefix;
    char *prefix;
    bool *is_piece; /* [vocabulary] */
} wordpiece;

static const wordpiece *of(const nib_word_model *m)
{
    return (const wordpiece *)m;
}

/* The longest piece of p[n]; *len its bytes. `text` holds the prefix and room for p. */
static int32_t longest(const wordpiece *m, const char *p, size_t n, bool first, char *text,
                       size_t *len)
{
    const size_t k = first ? 0 : m->n_prefix;
    memcpy(text + m->n_prefix, p, n);
    char *from = text + (first ? m->n_prefix : 0);
    for (*len = n; *len; --*len) {
        if (*len < n && ((unsigned char)p[*len] & 0xC0) == 0x80) continue; /* inside a character */
        const int32_t id = nib_vocab_find(m->base.vocab, from, k + *len);
        if (id >= 0 && m->is_piece[id]) return id;
    }
    return -1;
}

static nib_code encode(const nib_word_model *base, nib_word_work *w, const char *word, size_t n,
                       nib_ids *out, nib_err *err)
{
    const wordpiece *m = of(base);
    const size_t at = out->n;
    size_t chars = 0, len;
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < n; i++) chars += ((unsigned char)word[i] & 0xC0) != 0x80;
    if (chars > m->max_chars || n > 4 * m->max_chars) return nib_ids_add(out, &m->unk, 1, err);
    char *text = nib_buf_reserve(&w->piece, m->n_prefix + n, 1);
    if (!text) return nib_fail_nomem(err, "a word to tokenize");
    memcpy(text, m->prefix, m->n_prefix);
    for (size_t i = 0; i < n && !rc; i += len) {
        const int32_t id = longest(m, word + i, n - i, !i, text, &len);
        if (id < 0) {
            out->n = at;
            return nib_ids_add(out, &m->unk, 1, err);
        }
        rc = nib_ids_add(out, &id, 1, err);
    }
    return rc;
}

static nib_code save_gguf(const nib_word_model *base, nib_gguf_kvs *kvs, size_t n, nib_err *err)
{
    (void)base, (void)kvs, (void)n;
    return nib_fail(err, NIB_EFORMAT,
                    "a WordPiece tokenizer, which GGUF has for encoders alone; models that write "
                    "text have none");
}

static nib_code save_json(const nib_word_model *base, nib_json *model, size_t n_vocab, nib_err *err)
{
    const wordpiece *m = of(base);
    const nib_str unk = base->vocab->text[m->unk];
    const bool ok = nib_json_add_text(model, "unk_token", unk.p, unk.n) &&
                    nib_json_add_str(model, "continuing_subword_prefix", m->prefix) &&
                    nib_json_add_num(model, "max_input_chars_per_word", (double)m->max_chars);
    return ok ? nib_vocab_to_json(base->vocab, n_vocab, model, err)
              : nib_fail_nomem(err, "tokenizer.json");
}

static void free_model(nib_word_model *base)
{
    nib_free(((wordpiece *)base)->prefix);
    nib_free(((wordpiece *)base)->is_piece);
    nib_free(base);
}

nib_code nib_word_wordpiece_new(nib_word_model **out, const nib_vocab *v, const double *score,
                                int32_t unk, const char *prefix, size_t max_chars, nib_err *err)
{
    wordpiece *m = nib_calloc(1, sizeof *m);
    if (!m) return nib_fail_nomem(err, "tokenizer");
    m->base = (nib_word_model){"WordPiece", NULL, encode, save_gguf, save_json, free_model, v};
    m->unk = unk;
    m->max_chars = max_chars;
    m->n_prefix = strlen(prefix);
    m->prefix = nib_strdup(prefix);
    m->is_piece = nib_alloc(v->n, sizeof *m->is_piece);
    *out = &m->base;
    for (size_t i = 0; m->is_piece && i < v->n; i++) m->is_piece[i] = score[i] != NIB_NO_PIECE;
    return m->prefix && m->is_piece ? NIB_OK : nib_fail_nomem(err, "tokenizer");
}
