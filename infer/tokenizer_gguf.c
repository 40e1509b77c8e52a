/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_gguf.c - a tokenizer from GGUF metadata; see tokenizer_gguf.h. Byte-level BPE
 * ("gpt2"), SentencePiece's BPE ("llama") and Unigram ("t5").
 *
 * Tests: tests/infer/test_tokenizer.c, tests/infer/test_tokenizer_bad.c. */
#include "infer/tokenizer_gguf.h"
#include "base/arena.h"
#include "infer/tokenizer_hf.h"

#include <stdio.h>

const char *const nib_gguf_special_key[NIB_N_SPECIAL] = {
    [NIB_BOS] = "tokenizer.ggml.bos_token_id",     [NIB_EOS] = "tokenizer.ggml.eos_token_id",
    [NIB_UNK] = "tokenizer.ggml.unknown_token_id", [NIB_SEP] = "tokenizer.ggml.seperator_token_id",
    [NIB_PAD] = "tokenizer.ggml.padding_token_id", [NIB_CLS] = "tokenizer.ggml.cls_token_id",
    [NIB_MASK] = "tokenizer.ggml.mask_token_id"};

/* ---- what the words mean ---- */

#define BAR "\u2581"
#define STRING(S) "{\"String\":\"" S "\"}"
#define REPLACE(PATTERN, CONTENT)                                                                  \
    "{\"type\":\"Replace\",\"pattern\":" PATTERN ",\"content\":\"" CONTENT "\"}"
#define CHARSMAP "{\"type\":\"Precompiled\",\"longest\":true}"
#define FEWER_SPACES                                                                               \
    REPLACE("{\"Regex\":\" {2,}\"}", " ") "," REPLACE("{\"Regex\":\"\\\\A | \\\\z\"}", "")
#define PREPEND "{\"type\":\"Prepend\",\"prepend\":\"" BAR "\"}"
#define APPEND REPLACE("{\"Regex\":\"(?<=.)\\\\z\"}", BAR)

/* A step list's JSON text, read by `read`. */
static nib_code parse(nib_json **j, const char *text, size_t n, const char *what, nib_err *err)
{
    nib_code rc = nib_json_parse(j, text, n, err);
    return rc ? nib_wrap(err, "%s", what) : NIB_OK;
}

static nib_code read_normalizer(nib_normalizer *z, const char *text, size_t n,
                                const nib_gguf_words *w, nib_err *err)
{
    nib_code rc = nib_normalizer_parse(z, text, n, w->map, w->n_map, err);
    return rc ? nib_wrap(err, NIB_KEY_NORMALIZER) : NIB_OK;
}

static nib_code read_splitter(nib_splitter *s, const char *text, size_t n, nib_err *err)
{
    nib_json *j;
    nib_code rc = parse(&j, text, n, NIB_KEY_PRE, err);
    if (!rc) rc = nib_splitter_read(s, j, err);
    nib_json_free(j);
    return rc;
}

static nib_code read_decoder(nib_decoder *d, const char *text, size_t n, nib_err *err)
{
    nib_json *j;
    nib_code rc = parse(&j, text, n, NIB_KEY_DECODER, err);
    if (!rc) rc = nib_decoder_read(d, j, err);
    nib_json_free(j);
    return rc || d->n ? rc : nib_decoder_add(d, NIB_DECODE_SPACES, err);
}

nib_code nib_gguf_normalizer(nib_normalizer *z, const nib_gguf_words *w, nib_err *err)
{
    char text[600];
    if (w->model == NIB_WORDS_GPT2) {
        snprintf(text, sizeof text, "%s", w->nfc ? "{\"type\":\"NFC\"}" : "null");
    } else {
        snprintf(text, sizeof text, "{\"type\":\"Sequence\",\"normalizers\":[%s%s%s%s]}",
                 w->model == NIB_WORDS_T5 && w->map ? CHARSMAP "," : "",
                 w->remove_spaces ? FEWER_SPACES "," : "",
                 !w->space_prefix ? ""
                 : w->suffix      ? APPEND ","
                                  : PREPEND ",",
                 REPLACE(STRING(" "), BAR));
    }
    return read_normalizer(z, text, strlen(text), w, err);
}

nib_code nib_gguf_splitter(nib_splitter *s, const nib_gguf_words *w, nib_err *err)
{
    return w->model == NIB_WORDS_GPT2 ? nib_pre_splitter(s, w->rule, w->space_prefix, err) : NIB_OK;
}

nib_code nib_gguf_decoder(nib_decoder *d, const nib_gguf_words *w, nib_err *err)
{
    if (w->model == NIB_WORDS_GPT2) return nib_decoder_add(d, NIB_DECODE_BYTE_LEVEL, err);
    char text[400];
    const char *strip = !w->space_prefix ? ""
                        : w->suffix
                            ? ",{\"type\":\"Strip\",\"content\":\" \",\"start\":0,\"stop\":1}"
                            : ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}";
    snprintf(text, sizeof text,
             "{\"type\":\"Sequence\",\"decoders\":[" REPLACE(
                 STRING(BAR), " ") ",{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}%s]}",
             strip);
    return read_decoder(d, text, strlen(text), err);
}

/* ---- reading ---- */

static bool is(nib_str s, const char *text)
{
    return s.n == strlen(text) && !memcmp(s.p, text, s.n);
}

static nib_code read_charsmap(nib_gguf_words *w, const nib_gguf_kvs *kvs, nib_err *err)
{
    static const char key[] = "tokenizer.ggml.precompiled_charsmap";
    if (!nib_gguf_kvs_find(kvs, key) ||
        nib_gguf_get_arr(kvs, key, NIB_GGUF_U8, &w->map, &w->n_map) ||
        nib_gguf_get_arr(kvs, key, NIB_GGUF_I8, &w->map, &w->n_map)) {
        if (!w->n_map) w->map = NULL;
        return NIB_OK;
    }
    return nib_fail(err, NIB_EFORMAT, "%s is no array of bytes", key);
}

static nib_code read_words(nib_gguf_words *w, nib_tokenizer *t, const nib_gguf_kvs *kvs,
                           nib_err *err)
{
    nib_str model, pre = {"default", 7};
    nib_code rc;
    *w = (nib_gguf_words){0};
    if (!nib_gguf_get_str(kvs, "tokenizer.ggml.model", &model))
        return nib_fail(err, NIB_EFORMAT, "the file has no tokenizer (key tokenizer.ggml.model)");
    if (is(model, "gpt2")) {
        nib_gguf_get_str(kvs, "tokenizer.ggml.pre", &pre);
        if ((rc = nib_pre_by_name(&w->rule, pre.p, pre.n, err))) return rc;
        w->nfc = w->rule->nfc;
        t->rule = w->rule;
        t->pre = nib_strndup(pre.p, pre.n);
        if (!t->pre) return nib_fail_nomem(err, "pre-tokenizer");
    } else if (is(model, "llama") || is(model, "t5")) {
        w->model = is(model, "t5") ? NIB_WORDS_T5 : NIB_WORDS_LLAMA;
        w->space_prefix = true;
        if (w->model == NIB_WORDS_T5) {
            w->remove_spaces = false;
            nib_gguf_get_bool(kvs, "tokenizer.ggml.remove_extra_whitespaces", &w->remove_spaces);
            nib_gguf_get_bool(kvs, "tokenizer.ggml.treat_whitespace_as_suffix", &w->suffix);
            if ((rc = read_charsmap(w, kvs, err))) return rc;
        }
    } else {
        return nib_fail(err, NIB_EFORMAT,
                        "tokenizer.ggml.model is '%.40s'; supported are 'gpt2', 'llama' and 't5'",
                        model.p);
    }
    nib_gguf_get_bool(kvs, "tokenizer.ggml.add_space_prefix", &w->space_prefix);
    return NIB_OK;
}

static nib_code read_steps(nib_tokenizer *t, nib_gguf_words *w, const nib_gguf_kvs *kvs,
                           nib_err *err)
{
    nib_str text;
    nib_code rc;
    bool own = nib_gguf_get_str(kvs, NIB_KEY_NORMALIZER, &text);
    if (own && w->model == NIB_WORDS_GPT2 && (is(text, "nfc") || is(text, "none"))) {
        w->nfc = is(text, "nfc");
        own = false;
    } else if (own && w->model == NIB_WORDS_GPT2 && text.n && text.p[0] != '{') {
        return nib_fail(err, NIB_EFORMAT,
                        NIB_KEY_NORMALIZER " is '%.40s'; supported are 'nfc', 'none' and a "
                                           "description as in tokenizer.json",
                        text.p);
    }
    rc = own ? read_normalizer(&t->normalizer, text.p, text.n, w, err)
             : nib_gguf_normalizer(&t->normalizer, w, err);
    if (rc) return rc;
    rc = nib_gguf_get_str(kvs, NIB_KEY_PRE, &text)
             ? read_splitter(&t->splitter, text.p, text.n, err)
             : nib_gguf_splitter(&t->splitter, w, err);
    if (rc) return rc;
    if (w->model == NIB_WORDS_GPT2 && !nib_splitter_has(&t->splitter, NIB_SPLIT_BYTES))
        return nib_fail(err, NIB_EFORMAT, NIB_KEY_PRE " has no ByteLevel");
    if (w->model != NIB_WORDS_GPT2 && nib_splitter_has(&t->splitter, NIB_SPLIT_BYTES))
        return nib_fail(err, NIB_EFORMAT, NIB_KEY_PRE " has a ByteLevel");
    return nib_gguf_get_str(kvs, NIB_KEY_DECODER, &text)
               ? read_decoder(&t->decoder, text.p, text.n, err)
               : nib_gguf_decoder(&t->decoder, w, err);
}

static nib_code read_types(uint8_t *type, size_t n, const nib_gguf_kvs *kvs, nib_err *err)
{
    const void *data;
    size_t n_types;
    memset(type, NIB_TOKEN_NORMAL, n);
    if (!nib_gguf_kvs_find(kvs, "tokenizer.ggml.token_type")) return NIB_OK;
    if (!nib_gguf_get_arr(kvs, "tokenizer.ggml.token_type", NIB_GGUF_I32, &data, &n_types) ||
        n_types < n)
        return nib_fail(err, NIB_EFORMAT,
                        "tokenizer.ggml.token_type is not an array of i32 as "
                        "long as tokenizer.ggml.tokens (%zu)",
                        n);
    for (size_t i = 0; i < n; i++) {
        int32_t v;
        memcpy(&v, (const char *)data + 4 * i, 4);
        if (v < NIB_TOKEN_UNDEFINED || v > NIB_TOKEN_BYTE)
            return nib_fail(err, NIB_EFORMAT, "token %zu has type %d; allowed are 0 to %d", i, v,
                            NIB_TOKEN_BYTE);
        type[i] = (uint8_t)v;
    }
    return NIB_OK;
}

/* What the keys have of the tokens, until the vocabulary is built. */
typedef struct {
    nib_str *text;          /* [n] */
    nib_added_token *added; /* [n] id -1: not an added one */
    size_t n;
    nib_json *own; /* of NIB_KEY_ADDED; NULL: none */
    nib_arena arena;
} gguf_tokens;

static bool flag(const nib_json *j, const char *key, bool otherwise)
{
    nib_json_bool(nib_json_get(j, key), &otherwise);
    return otherwise;
}

/* One entry of NIB_KEY_ADDED. */
static nib_code read_own(gguf_tokens *g, const nib_json *j, nib_err *err)
{
    uint64_t id;
    const char *content;
    if (!nib_json_u64(nib_json_get(j, "id"), &id) || id >= g->n)
        return nib_fail(err, NIB_EFORMAT, NIB_KEY_ADDED " names a token that is not there");
    nib_added_token *a = &g->added[id];
    if (!flag(j, "added", true)) {
        a->id = -1;
        return NIB_OK;
    }
    if (nib_json_text(nib_json_get(j, "content"), &content)) {
        const size_t n = nib_json_bytes(NULL, content);
        char *p = nib_arena_alloc(&g->arena, n + 1, 1, 1);
        if (!p) return nib_fail_nomem(err, "added tokens");
        p[nib_json_bytes(p, content)] = 0;
        g->text[id] = (nib_str){p, n};
    }
    a->id = (int32_t)id;
    a->text = g->text[id];
    a->control = flag(j, "special", a->control);
    a->normalized = flag(j, "normalized", false);
    a->lstrip = flag(j, "lstrip", false);
    a->rstrip = flag(j, "rstrip", false);
    a->single_word = flag(j, "single_word", false);
    a->spelled = flag(j, "spelled", false);
    return NIB_OK;
}

/* Added tokens are those of certain types, but for what our own key says. */
static nib_code read_added(gguf_tokens *g, const uint8_t *type, const nib_gguf_kvs *kvs,
                           nib_err *err)
{
    nib_str text;
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < g->n; i++) {
        const bool control = type[i] == NIB_TOKEN_CONTROL || type[i] == NIB_TOKEN_UNKNOWN;
        g->added[i] =
            (nib_added_token){.id = control || type[i] == NIB_TOKEN_USER ? (int32_t)i : -1,
                              .text = g->text[i],
                              .control = control};
    }
    if (!nib_gguf_get_str(kvs, NIB_KEY_ADDED, &text)) return NIB_OK;
    if ((rc = parse(&g->own, text.p, text.n, NIB_KEY_ADDED, err))) return rc;
    for (const nib_json *c = nib_json_first(g->own); c && !rc; c = nib_json_next(c))
        rc = read_own(g, c, err);
    return rc;
}

static nib_code read_tokens(nib_tokenizer *t, gguf_tokens *g, bool alphabet,
                            const nib_gguf_kvs *kvs, nib_err *err)
{
    const void *data;
    if (!nib_gguf_get_arr(kvs, "tokenizer.ggml.tokens", NIB_GGUF_STR, &data, &g->n))
        return nib_fail(err, NIB_EFORMAT, "no array of strings tokenizer.ggml.tokens");
    uint8_t *type = nib_alloc(g->n, 1);
    g->text = nib_alloc(g->n, sizeof *g->text);
    g->added = nib_alloc(g->n, sizeof *g->added);
    nib_code rc = type && g->text && g->added ? NIB_OK : nib_fail_nomem(err, "vocabulary");
    if (!rc && g->n) memcpy(g->text, data, g->n * sizeof *g->text);
    if (!rc) rc = read_types(type, g->n, kvs, err);
    if (!rc) rc = read_added(g, type, kvs, err);
    if (!rc) rc = nib_vocab_build(&t->vocab, g->text, type, g->n, alphabet, err);
    nib_free(type);
    return rc;
}

static nib_code set_added(nib_tokenizer *t, gguf_tokens *g, nib_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < g->n; i++)
        if (g->added[i].id >= 0) {
            g->added[n] = g->added[i];
            g->added[n].text = t->vocab.text[g->added[n].id]; /* that of an empty one has a name */
            n++;
        }
    return nib_tokenizer_set_added(t, g->added, n, err);
}

static nib_code make_bytes(nib_tokenizer *t, const nib_gguf_kvs *kvs, nib_err *err)
{
    const void *data;
    size_t n;
    nib_bpe b = {0};
    if (!nib_gguf_get_arr(kvs, "tokenizer.ggml.merges", NIB_GGUF_STR, &data, &n))
        return nib_fail(err, NIB_EFORMAT, "no array of strings tokenizer.ggml.merges");
    nib_code rc = nib_bpe_init(&b, n, err);
    const nib_str *merge = data;
    for (size_t i = 0; i < n && !rc; i++) {
        nib_str m = merge[i];
        const char *gap = m.n > 1 ? memchr(m.p + 1, ' ', m.n - 1) : NULL;
        size_t left = gap ? (size_t)(gap - m.p) : 0;
        rc = gap ? nib_merges_add(&t->vocab, &b, (nib_str){m.p, left},
                                  (nib_str){gap + 1, m.n - left - 1}, err)
                 : nib_fail(err, NIB_EFORMAT, "merge %zu, '%.80s', is not 'left right'", i, m.p);
    }
    if (!rc) rc = nib_word_bytes_new(&t->model, &t->vocab, &b, t->rule->ignore_merges, err);
    nib_bpe_fini(&b);
    return rc;
}

/* tokenizer.ggml.scores, or zeros. */
static nib_code read_scores(float **out, size_t n, const nib_gguf_kvs *kvs, nib_err *err)
{
    const void *data;
    size_t k;
    static const char key[] = "tokenizer.ggml.scores";
    *out = nib_calloc(n, sizeof **out);
    if (!*out) return nib_fail_nomem(err, "scores");
    if (!nib_gguf_kvs_find(kvs, key)) return NIB_OK;
    if (!nib_gguf_get_arr(kvs, key, NIB_GGUF_F32, &data, &k) || k < n)
        return nib_fail(err, NIB_EFORMAT,
                        "%s is not an array of f32 as long as tokenizer.ggml.tokens (%zu)", key, n);
    memcpy(*out, data, n * sizeof **out);
    for (size_t i = 0; i < n; i++)
        if ((*out)[i] != (*out)[i])
            return nib_fail(err, NIB_EFORMAT, "the score of token %zu is no number", i);
    return NIB_OK;
}

static nib_code make_chars(nib_tokenizer *t, const float *score, nib_err *err)
{
    nib_bpe b = {0};
    const nib_word_chars_opts opts = {
        .unk = t->special[NIB_UNK], .fuse_unk = true, .byte_fallback = true, .by_score = true};
    nib_code rc = nib_merges_from_scores(&t->vocab, &b, score, err);
    if (!rc) rc = nib_word_chars_new(&t->model, &t->vocab, &b, &opts, score, err);
    nib_bpe_fini(&b);
    return rc;
}

static nib_code make_unigram(nib_tokenizer *t, const float *score, nib_err *err)
{
    double *s = nib_alloc(t->vocab.n, sizeof *s);
    int32_t byte_id[256];
    if (!s) return nib_fail_nomem(err, "scores");
    for (size_t i = 0; i < t->vocab.n; i++)
        s[i] = t->vocab.type[i] == NIB_TOKEN_USER ? 0 : (double)score[i];
    nib_vocab_bytes(&t->vocab, byte_id);
    nib_code rc = nib_word_unigram_new(
        &t->model, &t->vocab, s, t->special[NIB_UNK],
        byte_id[0] >= 0 && t->vocab.type[byte_id[0]] == NIB_TOKEN_BYTE, false, err);
    nib_free(s);
    return rc;
}

static nib_code make_model(nib_tokenizer *t, const nib_gguf_words *w, const nib_gguf_kvs *kvs,
                           nib_err *err)
{
    float *score = NULL;
    if (w->model == NIB_WORDS_GPT2) return make_bytes(t, kvs, err);
    nib_code rc = read_scores(&score, t->vocab.n, kvs, err);
    if (!rc)
        rc = w->model == NIB_WORDS_T5 ? make_unigram(t, score, err) : make_chars(t, score, err);
    nib_free(score);
    return rc;
}

/* ---- the rest ---- */

/* Ids where no key says them, by model. */
static const int32_t special_default[][NIB_N_SPECIAL] = {
    [NIB_WORDS_GPT2] = {-1, -1, -1, -1, -1, -1, -1},
    [NIB_WORDS_LLAMA] = {[NIB_BOS] = 1,
                         [NIB_EOS] = 2,
                         [NIB_UNK] = 0,
                         [NIB_SEP] = -1,
                         [NIB_PAD] = -1,
                         [NIB_CLS] = -1,
                         [NIB_MASK] = -1},
    [NIB_WORDS_T5] = {[NIB_BOS] = -1,
                      [NIB_EOS] = 1,
                      [NIB_UNK] = 2,
                      [NIB_SEP] = -1,
                      [NIB_PAD] = 0,
                      [NIB_CLS] = -1,
                      [NIB_MASK] = -1}};

static void read_specials(nib_tokenizer *t, const nib_gguf_words *w, const nib_gguf_kvs *kvs)
{
    for (int i = 0; i < NIB_N_SPECIAL; i++) {
        uint64_t id;
        const int32_t other = special_default[w->model][i];
        const bool there = nib_gguf_get_u64(kvs, nib_gguf_special_key[i], &id);
        t->special[i] = there && id < t->vocab.n                ? (int32_t)id
                        : !there && other < (int32_t)t->vocab.n ? other
                                                                : -1;
    }
}

/* Ids around a text by our own key; false: there is none. */
static bool own_around(nib_ids *to, const char *key, size_t n_vocab, const nib_gguf_kvs *kvs,
                       nib_code *rc, nib_err *err)
{
    const void *data;
    size_t n;
    if (!nib_gguf_get_arr(kvs, key, NIB_GGUF_I32, &data, &n)) return false;
    for (size_t i = 0; i < n && !*rc; i++) {
        int32_t id;
        memcpy(&id, (const char *)data + 4 * i, 4);
        *rc = id >= 0 && (size_t)id < n_vocab
                  ? nib_ids_add(to, &id, 1, err)
                  : nib_fail(err, NIB_EFORMAT, "%s names a token that is not there", key);
    }
    return true;
}

static nib_code read_around(nib_tokenizer *t, const nib_gguf_words *w, const nib_gguf_kvs *kvs,
                            nib_err *err)
{
    nib_code rc = NIB_OK;
    bool bos = w->model == NIB_WORDS_LLAMA || (w->rule && w->rule->add_bos);
    bool eos = w->model == NIB_WORDS_T5;
    nib_gguf_get_bool(kvs, "tokenizer.ggml.add_bos_token", &bos);
    nib_gguf_get_bool(kvs, "tokenizer.ggml.add_eos_token", &eos);
    if (!own_around(&t->front, NIB_KEY_FRONT, t->vocab.n, kvs, &rc, err))
        rc = nib_ids_add(&t->front, &t->special[NIB_BOS], bos && t->special[NIB_BOS] >= 0, err);
    if (!rc && !own_around(&t->back, NIB_KEY_BACK, t->vocab.n, kvs, &rc, err))
        rc = nib_ids_add(&t->back, &t->special[NIB_EOS], eos && t->special[NIB_EOS] >= 0, err);
    return rc;
}

static nib_code read_template(nib_tokenizer *t, const nib_gguf_kvs *kvs, nib_str name, nib_err *err)
{
    char key[256];
    nib_str text;
    bool named = strcmp(name.p, "default") != 0;
    snprintf(key, sizeof key, "tokenizer.chat_template%s%.200s", named ? "." : "",
             named ? name.p : "");
    if (!nib_gguf_get_str(kvs, key, &text)) return NIB_OK;
    return nib_tokenizer_add_template(t, name, text, err);
}

static nib_code read_templates(nib_tokenizer *t, const nib_gguf_kvs *kvs, nib_err *err)
{
    const void *data;
    size_t n = 0;
    nib_code rc = read_template(t, kvs, (nib_str){"default", 7}, err);
    if (!nib_gguf_get_arr(kvs, "tokenizer.chat_templates", NIB_GGUF_STR, &data, &n)) return rc;
    for (size_t i = 0; i < n && !rc; i++)
        rc = read_template(t, kvs, ((const nib_str *)data)[i], err);
    return rc;
}

nib_code nib_tokenizer_from_gguf(nib_tokenizer *t, const nib_gguf_kvs *kvs, nib_err *err)
{
    nib_gguf_words w;
    gguf_tokens g = {0};
    nib_code rc = read_words(&w, t, kvs, err);
    if (!rc) rc = read_steps(t, &w, kvs, err);
    if (!rc) rc = read_tokens(t, &g, w.model == NIB_WORDS_GPT2, kvs, err);
    if (!rc) read_specials(t, &w, kvs);
    if (!rc) rc = make_model(t, &w, kvs, err);
    if (!rc) rc = set_added(t, &g, err);
    nib_free(g.text);
    nib_free(g.added);
    nib_json_free(g.own);
    nib_arena_free(&g.arena);
    if (!rc) rc = read_around(t, &w, kvs, err);
    return rc ? rc : read_templates(t, kvs, err);
}
