/* SPDX-License-Identifier: MIT */
/* infer/tokenizer.c - see tokenizer.h: encoding, decoding, and what the tokenizer knows.
 *
 * The way of a text: added tokens are cut out; what stands between them is normalized, searched for
 * added tokens again (those that are matched after normalization), split into words, and each word
 * turned into tokens by the model. Bytes that are not UTF-8 are words of their own: each run of
 * them goes to the model as it is, so that decoding gives it back where the vocabulary has all
 * bytes. (Hugging Face, which takes only valid text, would have seen U+FFFD in its place, and so
 * would llama.cpp's splitter.) */
#include "base/utf8.h"
#include "infer/tokenizer_impl.h"

#include <string.h>

/* ---- ids ---- */

void nib_ids_free(nib_ids *v)
{
    nib_free(v->id);
    *v = (nib_ids){0};
}

nib_code nib_ids_add(nib_ids *v, const int32_t *id, size_t n, nib_err *err)
{
    size_t need, cap;
    if (!nib_add(v->n, n, &need) || !nib_add(need, need / 2 + 16, &cap))
        return nib_fail_nomem(err, "token ids");
    if (need > v->cap) {
        int32_t *p = nib_grow(v->id, v->n, cap, sizeof *p);
        if (!p) return nib_fail_nomem(err, "token ids");
        v->id = p;
        v->cap = cap;
    }
    for (size_t i = 0; i < n; i++) v->id[v->n + i] = id[i]; /* mostly one to three */
    v->n = need;
    return NIB_OK;
}

/* ---- opening ---- */

nib_code nib_tokenizer_open(nib_tokenizer **out, const nib_source *src, nib_err *err)
{
    *out = NULL;
    nib_tokenizer *t = nib_calloc(1, sizeof *t);
    if (!t) return nib_fail_nomem(err, "tokenizer");
    for (int i = 0; i < NIB_N_SPECIAL; i++) t->special[i] = -1;
    const nib_gguf_kvs *kvs = nib_source_kvs(src);
    nib_code rc = kvs ? nib_tokenizer_from_gguf(t, kvs, err) : nib_tokenizer_from_hf(t, src, err);
    if (rc) {
        nib_wrap(err, "%s: tokenizer", nib_source_path(src));
        nib_tokenizer_close(t);
        return rc;
    }
    *out = t;
    return NIB_OK;
}

void nib_tokenizer_close(nib_tokenizer *t)
{
    if (!t) return;
    for (size_t i = 0; i < t->n_tmpl; i++) {
        nib_free(t->tmpl[i].name);
        nib_free(t->tmpl[i].text);
    }
    nib_free(t->tmpl);
    nib_added_fini(&t->added);
    nib_added_fini(&t->added_norm);
    nib_free(t->norm_text.p);
    nib_free(t->shown);
    nib_normalizer_fini(&t->normalizer);
    nib_splitter_fini(&t->splitter);
    nib_decoder_fini(&t->decoder);
    nib_free(t->pre);
    nib_ids_free(&t->front);
    nib_ids_free(&t->back);
    if (t->model) t->model->free(t->model);
    nib_vocab_fini(&t->vocab);
    nib_free(t);
}

nib_code nib_tokenizer_add_template(nib_tokenizer *t, nib_str name, nib_str text, nib_err *err)
{
    nib_template *all = nib_grow(t->tmpl, t->n_tmpl, t->n_tmpl + 1, sizeof *all);
    if (!all) return nib_fail_nomem(err, "chat template");
    t->tmpl = all;
    nib_template *one = &all[t->n_tmpl++];
    *one = (nib_template){nib_strndup(name.p, name.n), nib_strndup(text.p, text.n)};
    return one->name && one->text ? NIB_OK : nib_fail_nomem(err, "chat template");
}

/* The spelling that a token has in normalized text, appended with a NUL behind it. */
static nib_code add_normalized(nib_tokenizer *t, nib_str text, bool spelled, nib_regex_run *run,
                               nib_err *err)
{
    nib_text a = {0}, b = {0};
    nib_code rc = spelled || nib_utf8_bad(text.p, text.n) < text.n
                      ? nib_text_add(&a, text.p, text.n, err)
                      : nib_normalize(&t->normalizer, run, true, text.p, text.n, &a, &b, err);
    if (!rc) rc = nib_text_add(&t->norm_text, a.p, a.n, err);
    if (!rc) rc = nib_text_add(&t->norm_text, "", 1, err);
    nib_free(a.p);
    nib_free(b.p);
    return rc;
}

nib_code nib_tokenizer_set_added(nib_tokenizer *t, const nib_added_token *a, size_t n, nib_err *err)
{
    nib_regex_run *run = NULL;
    size_t *end = nib_alloc(n, sizeof *end); /* of each spelling */
    t->shown = nib_calloc(t->vocab.n, sizeof *t->shown);
    nib_code rc =
        end && t->shown ? nib_regex_run_new(&run, err) : nib_fail_nomem(err, "added tokens");
    /* Normalized spellings first: the buffer that holds them moves while it grows. */
    for (size_t i = 0; i < n && !rc; i++) {
        if (a[i].normalized) rc = add_normalized(t, a[i].text, a[i].spelled, run, err);
        end[i] = t->norm_text.n;
    }
    for (size_t i = 0, from = 0; i < n && !rc; from = end[i++]) {
        const bool normalized = a[i].normalized;
        const nib_str text = normalized ? (nib_str){t->norm_text.p + from, end[i] - from - 1}
                                        : t->vocab.text[a[i].id];
        if (!text.n) continue; /* normalized away */
        if (normalized && !a[i].spelled) t->shown[a[i].id] = text;
        rc = nib_added_push(normalized ? &t->added_norm : &t->added,
                            (nib_added){.text = text,
                                        .id = a[i].id,
                                        .control = a[i].control,
                                        .lstrip = a[i].lstrip,
                                        .rstrip = a[i].rstrip,
                                        .single_word = a[i].single_word},
                            err);
    }
    nib_added_sort(&t->added);
    nib_added_sort(&t->added_norm);
    nib_free(end);
    nib_regex_run_free(run);
    return rc;
}

/* ---- encoding ---- */

typedef struct {
    const nib_tokenizer *t;
    nib_ids *out;
    bool control;
    bool first, begins; /* the text at hand begins where the input, where a stretch does */
    nib_split_run split;
    nib_word_work work;
    nib_text norm, other;
} encoder;

static nib_code add_word(void *arg, const char *p, size_t n, nib_err *err)
{
    encoder *e = arg;
    return nib_word_encode(e->t->model, &e->work, p, n, e->out, err);
}

static nib_code add_token(void *arg, int32_t id, nib_err *err)
{
    encoder *e = arg;
    return nib_ids_add(e->out, &id, 1, err);
}

/* Valid, normalized text without added tokens. */
static nib_code add_plain(void *arg, const char *p, size_t n, bool first, nib_err *err)
{
    encoder *e = arg;
    return nib_split(&e->t->splitter, &e->split, first && e->first, e->begins || !first, p, n,
                     add_word, e, err);
}

static nib_code add_valid(encoder *e, const char *p, size_t n, nib_err *err)
{
    if (e->t->normalizer.n) {
        nib_code rc = nib_normalize(&e->t->normalizer, e->split.regex, e->begins, p, n, &e->norm,
                                    &e->other, err);
        if (rc) return rc;
        p = e->norm.p;
        n = e->norm.n;
    }
    return nib_added_cut(&e->t->added_norm, e->control, p, n, add_plain, add_token, e, err);
}

/* Text between the added tokens that are found in it as it is. */
static nib_code add_stretch(void *arg, const char *p, size_t n, bool first, nib_err *err)
{
    encoder *e = arg;
    nib_code rc = NIB_OK;
    for (e->first = first, e->begins = true; n && !rc; e->first = e->begins = false) {
        size_t good = nib_utf8_bad(p, n), bad = 0;
        uint32_t cp;
        while (good + bad < n && !nib_utf8_get(p + good + bad, n - good - bad, &cp)) bad++;
        if (good) rc = add_valid(e, p, good, err);
        if (bad && !rc) rc = e->t->model->encode(e->t->model, &e->work, p + good, bad, e->out, err);
        p += good + bad;
        n -= good + bad;
    }
    return rc;
}

static void encoder_fini(encoder *e)
{
    nib_free(e->norm.p);
    nib_free(e->other.p);
    nib_word_work_fini(&e->work);
    nib_split_run_fini(&e->split);
}

nib_code nib_tokenizer_encode(const nib_tokenizer *t, const char *text, size_t n, unsigned flags,
                              nib_ids *out, nib_err *err)
{
    encoder e = {.t = t, .out = out, .control = flags & NIB_TOK_PARSE_SPECIAL};
    const bool around = flags & NIB_TOK_ADD_SPECIAL;
    size_t n_before = out->n;
    nib_code rc = nib_word_work_init(&e.work, n, err);
    if (!rc) rc = nib_split_run_init(&e.split, err);
    if (!rc && around) rc = nib_ids_add(out, t->front.id, t->front.n, err);
    if (!rc) rc = nib_added_cut(&t->added, e.control, text, n, add_stretch, add_token, &e, err);
    if (!rc && around) rc = nib_ids_add(out, t->back.id, t->back.n, err);
    if (rc) out->n = n_before;
    encoder_fini(&e);
    return rc;
}

/* ---- decoding ---- */

/* Whether the token shows in text. */
static bool is_visible(const nib_tokenizer *t, int32_t id, bool skip_special)
{
    uint8_t type = t->vocab.type[id];
    if (type == NIB_TOKEN_CONTROL || type == NIB_TOKEN_UNKNOWN) return !skip_special;
    return type != NIB_TOKEN_UNUSED && type != NIB_TOKEN_UNDEFINED;
}

/* Is its normalized spelling, as which it is decoded, another than its own? Then Hugging Face's
 * library does not know it for a special one. */
static bool is_other(const nib_tokenizer *t, int32_t id)
{
    const nib_str a = t->shown ? t->shown[id] : (nib_str){"", 0}, b = t->vocab.text[id];
    return a.n && (a.n != b.n || memcmp(a.p, b.p, a.n) != 0);
}

static nib_code decode(const nib_tokenizer *t, const int32_t *id, size_t n, bool skip_special,
                       bool whole, char **text, size_t *n_text, nib_err *err)
{
    nib_text out = {0};
    size_t k = 0;
    *text = NULL;
    *n_text = 0;
    nib_str *token = nib_alloc(n, sizeof *token);
    const nib_str *from = nib_decoder_wants_bytes(&t->decoder) ? t->vocab.raw : t->vocab.text;
    nib_code rc = token ? NIB_OK : nib_fail_nomem(err, "decoded text");
    for (size_t i = 0; i < n && !rc; i++) {
        if (id[i] < 0 || (size_t)id[i] >= t->vocab.n)
            rc = nib_fail(err, NIB_EINVAL, "token id %d; the vocabulary has 0 to %zu", id[i],
                          t->vocab.n - 1);
        else if (is_visible(t, id[i], skip_special && !is_other(t, id[i])))
            token[k++] = t->shown && t->shown[id[i]].n ? t->shown[id[i]] : from[id[i]];
    }
    if (!rc) rc = nib_decode(&t->decoder, token, k, whole, &out, err);
    if (!rc) rc = nib_text_add(&out, "", 1, err);
    nib_free(token);
    if (rc) {
        nib_free(out.p);
        return rc;
    }
    *text = out.p;
    *n_text = out.n - 1;
    return NIB_OK;
}

nib_code nib_tokenizer_decode(const nib_tokenizer *t, const int32_t *id, size_t n,
                              bool skip_special, char **text, size_t *n_text, nib_err *err)
{
    return decode(t, id, n, skip_special, true, text, n_text, err);
}

nib_code nib_tokenizer_piece(const nib_tokenizer *t, int32_t id, char **text, size_t *n_text,
                             nib_err *err)
{
    return decode(t, &id, 1, false, false, text, n_text, err);
}

/* ---- questions ---- */

size_t nib_tokenizer_n_vocab(const nib_tokenizer *t)
{
    return t->vocab.n;
}

nib_str nib_tokenizer_token(const nib_tokenizer *t, int32_t id)
{
    if (id < 0 || (size_t)id >= t->vocab.n) return (nib_str){"", 0};
    return t->vocab.text[id];
}

bool nib_tokenizer_shows(const nib_tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->vocab.n && is_visible(t, id, true);
}

int32_t nib_tokenizer_bos(const nib_tokenizer *t)
{
    return t->special[NIB_BOS];
}

int32_t nib_tokenizer_eos(const nib_tokenizer *t)
{
    return t->special[NIB_EOS];
}

bool nib_tokenizer_adds_bos(const nib_tokenizer *t)
{
    return t->front.n && t->front.id[0] == t->special[NIB_BOS];
}

bool nib_tokenizer_adds_eos(const nib_tokenizer *t)
{
    return t->back.n && t->back.id[t->back.n - 1] == t->special[NIB_EOS];
}

const char *nib_tokenizer_pre(const nib_tokenizer *t)
{
    return t->pre ? t->pre : "";
}

const char *nib_tokenizer_template(const nib_tokenizer *t, const char *name)
{
    for (size_t i = 0; i < t->n_tmpl; i++)
        if (!strcmp(t->tmpl[i].name, name)) return t->tmpl[i].text;
    return NULL;
}
