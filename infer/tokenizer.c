/* SPDX-License-Identifier: MIT */
/* infer/tokenizer.c - see tokenizer.h: encoding, decoding, and what the tokenizer knows.
 *
 * The way of a text: added tokens are cut out; what stands between them is normalized (where the
 * model does that), searched for added tokens again (those that are matched after normalization),
 * split into words, and each word merged. Bytes that are not UTF-8 are words of their own: each
 * run of them goes to the merges as it is, so that decoding gives it back. (Hugging Face, which
 * takes only valid text, would have seen U+FFFD in its place, and so would llama.cpp's splitter.)
 */
#include "base/utf8.h"
#include "infer/tokenizer_impl.h"

#include <string.h>

/* ---- ids ---- */

void nib_ids_free(nib_ids *v)
{
    nib_free(v->id);
    *v = (nib_ids){0};
}

static nib_code ids_add(nib_ids *v, const int32_t *id, size_t n, nib_err *err)
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
    nib_pretok_free(t->pre);
    nib_bpe_fini(&t->bpe);
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

/* ---- encoding ---- */

/* Words met before and their ids: most words of a text are repeats. One slot per hash; only words
 * of at most 16 bytes that come to at most three tokens. */
enum { CACHE_WORD_MAX = 16, CACHE_IDS_MAX = 3, CACHE_MIN = 64, CACHE_MAX = 1 << 15 };

typedef struct {
    uint64_t head, tail; /* with the length they tell words apart, see word_key */
    int32_t id[CACHE_IDS_MAX];
    uint16_t len, n; /* bytes, 0 in an empty slot; ids */
} cached;

typedef struct {
    const nib_tokenizer *t;
    nib_ids *out;
    bool control;
    nib_pretok_run *run;
    nib_bpe_work work;
    nib_text norm, prefixed;
    cached *cache;
    size_t cache_mask;
} encoder;

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

static cached *cache_slot(const encoder *e, uint64_t head, uint64_t tail)
{
    uint64_t h = (head ^ tail * 0xFF51AFD7ED558CCDu) * 0x9E3779B97F4A7C15u;
    return &e->cache[(size_t)(h >> 40) & e->cache_mask];
}

static nib_code merge_word(encoder *e, const char *p, size_t n, nib_err *err)
{
    if (e->t->ignore_merges) {
        int32_t id = nib_vocab_find_raw(&e->t->vocab, p, n);
        if (id >= 0) return ids_add(e->out, &id, 1, err);
    }
    size_t n_ids;
    nib_code rc = nib_bpe_encode(&e->t->bpe, &e->work, p, n, &n_ids, err);
    return rc ? rc : ids_add(e->out, e->work.id, n_ids, err);
}

static nib_code add_word(void *arg, const char *p, size_t n, nib_err *err)
{
    encoder *e = arg;
    if (n > CACHE_WORD_MAX) return merge_word(e, p, n, err);
    uint64_t head, tail;
    word_key(p, n, &head, &tail);
    cached *c = cache_slot(e, head, tail);
    if (c->len == n && c->head == head && c->tail == tail) return ids_add(e->out, c->id, c->n, err);
    size_t at = e->out->n;
    nib_code rc = merge_word(e, p, n, err);
    size_t n_ids = e->out->n - at;
    if (rc || n_ids > CACHE_IDS_MAX) return rc;
    *c = (cached){.head = head, .tail = tail, .len = (uint16_t)n, .n = (uint16_t)n_ids};
    if (n_ids) memcpy(c->id, e->out->id + at, n_ids * sizeof *c->id);
    return NIB_OK;
}

static nib_code add_token(void *arg, int32_t id, nib_err *err)
{
    encoder *e = arg;
    return ids_add(e->out, &id, 1, err);
}

/* Valid text without added tokens. */
static nib_code add_plain(void *arg, const char *p, size_t n, nib_err *err)
{
    encoder *e = arg;
    if (e->t->prefix_space && p[0] != ' ') {
        e->prefixed.n = 0;
        nib_code rc = nib_text_add(&e->prefixed, " ", 1, err);
        if (!rc) rc = nib_text_add(&e->prefixed, p, n, err);
        if (rc) return rc;
        p = e->prefixed.p;
        n = e->prefixed.n;
    }
    return nib_pretok_split(e->t->pre, e->run, p, n, add_word, e, err);
}

static nib_code add_valid(encoder *e, const char *p, size_t n, nib_err *err)
{
    if (e->t->nfc) {
        e->norm.n = 0;
        nib_code rc = nib_text_add_nfc(&e->norm, p, n, err);
        if (rc) return rc;
        p = e->norm.p;
        n = e->norm.n;
    }
    return nib_added_cut(&e->t->added_norm, e->control, p, n, add_plain, add_token, e, err);
}

/* Text between added tokens: valid stretches and runs of bytes that are not. */
static nib_code add_stretch(void *arg, const char *p, size_t n, nib_err *err)
{
    encoder *e = arg;
    nib_code rc = NIB_OK;
    while (n && !rc) {
        size_t good = nib_utf8_bad(p, n), bad = 0;
        uint32_t cp;
        while (good + bad < n && !nib_utf8_get(p + good + bad, n - good - bad, &cp)) bad++;
        if (good) rc = add_valid(e, p, good, err);
        if (bad && !rc) rc = merge_word(e, p + good, bad, err);
        p += good + bad;
        n -= good + bad;
    }
    return rc;
}

static nib_code encoder_init(encoder *e, size_t n, nib_err *err)
{
    size_t slots = CACHE_MIN;
    while (slots < n / 8 && slots < CACHE_MAX) slots *= 2;
    e->cache_mask = slots - 1;
    e->cache = nib_calloc(slots, sizeof *e->cache);
    return e->cache ? nib_pretok_run_new(&e->run, err) : nib_fail_nomem(err, "cache of words");
}

static void encoder_fini(encoder *e)
{
    nib_free(e->cache);
    nib_free(e->norm.p);
    nib_free(e->prefixed.p);
    nib_bpe_work_fini(&e->work);
    nib_pretok_run_free(e->run);
}

nib_code nib_tokenizer_encode(const nib_tokenizer *t, const char *text, size_t n, unsigned flags,
                              nib_ids *out, nib_err *err)
{
    encoder e = {.t = t, .out = out, .control = flags & NIB_TOK_PARSE_SPECIAL};
    size_t n_before = out->n;
    nib_code rc = encoder_init(&e, n, err);
    if (!rc && (flags & NIB_TOK_ADD_SPECIAL) && t->add_bos)
        rc = ids_add(out, &t->special[NIB_BOS], 1, err);
    if (!rc) rc = nib_added_cut(&t->added, e.control, text, n, add_stretch, add_token, &e, err);
    if (!rc && (flags & NIB_TOK_ADD_SPECIAL) && t->add_eos)
        rc = ids_add(out, &t->special[NIB_EOS], 1, err);
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

nib_code nib_tokenizer_decode(const nib_tokenizer *t, const int32_t *id, size_t n,
                              bool skip_special, char **text, size_t *n_text, nib_err *err)
{
    size_t total = 1;
    *text = NULL;
    *n_text = 0;
    for (size_t i = 0; i < n; i++) {
        if (id[i] < 0 || (size_t)id[i] >= t->vocab.n)
            return nib_fail(err, NIB_EINVAL, "token id %d; the vocabulary has 0 to %zu", id[i],
                            t->vocab.n - 1);
        if (!nib_add(total, t->vocab.raw[id[i]].n, &total))
            return nib_fail_nomem(err, "decoded text");
    }
    char *p = nib_alloc(total, 1), *at = p;
    if (!p) return nib_fail_nomem(err, "decoded text");
    for (size_t i = 0; i < n; i++) {
        nib_str raw = t->vocab.raw[id[i]];
        if (!is_visible(t, id[i], skip_special)) continue;
        memcpy(at, raw.p, raw.n);
        at += raw.n;
    }
    *at = 0;
    *text = p;
    *n_text = (size_t)(at - p);
    return NIB_OK;
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
    return t->add_bos;
}

bool nib_tokenizer_adds_eos(const nib_tokenizer *t)
{
    return t->add_eos;
}

const char *nib_tokenizer_pre(const nib_tokenizer *t)
{
    return nib_pretok_name(t->pre);
}

const char *nib_tokenizer_template(const nib_tokenizer *t, const char *name)
{
    for (size_t i = 0; i < t->n_tmpl; i++)
        if (!strcmp(t->tmpl[i].name, name)) return t->tmpl[i].text;
    return NULL;
}
