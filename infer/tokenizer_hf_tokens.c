/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_hf_tokens.c - the tokens of a folder: those of the vocabulary and those that are
 * added, from up to five files.
 *
 * Tests: tests/infer/test_tokenizer.c. */
#include "infer/tokenizer_hf.h"

#include <stdlib.h>

static bool flag(const nib_json *j, const char *key)
{
    bool b = false;
    nib_json_bool(nib_json_get(j, key), &b);
    return b;
}

/* ---- the list ---- */

nib_str nib_list_text(nib_token_list *l, const char *s)
{
    if (!s) return (nib_str){NULL, 0};
    const size_t n = nib_json_bytes(NULL, s), len = strlen(s);
    if (n == len) return (nib_str){s, n};
    char *p = nib_arena_alloc(&l->arena, n + 1, 1, 1);
    if (p) p[nib_json_bytes(p, s)] = 0;
    return (nib_str){p, n};
}

static nib_code grow(nib_token_list *l, size_t cap, nib_err *err)
{
    nib_str *t = nib_grow(l->text, l->cap, cap, sizeof *t);
    if (t) l->text = t;
    uint8_t *y = nib_grow(l->type, l->cap, cap, 1);
    if (y) l->type = y;
    double *s = nib_grow(l->score, l->cap, cap, sizeof *s);
    if (s) l->score = s;
    if (!t || !y || !s) return nib_fail_nomem(err, "vocabulary");
    memset(l->text + l->cap, 0, (cap - l->cap) * sizeof *t);
    memset(l->type + l->cap, 0, cap - l->cap);
    for (size_t i = l->cap; i < cap; i++) l->score[i] = 0;
    l->cap = cap;
    return NIB_OK;
}

nib_code nib_list_put(nib_token_list *l, nib_str text, uint64_t id, uint8_t type, double score,
                      nib_err *err)
{
    if (!text.p) return nib_fail_nomem(err, "vocabulary");
    if (id >= NIB_VOCAB_MAX)
        return nib_fail(err, NIB_EFORMAT, "token '%.80s' has no id between 0 and %d", text.p,
                        NIB_VOCAB_MAX - 1);
    if (id >= l->cap) {
        nib_code rc = grow(l, 2 * (size_t)id + 1024, err);
        if (rc) return rc;
    }
    nib_str *at = &l->text[id];
    if (at->p && (at->n != text.n || memcmp(at->p, text.p, text.n)))
        return nib_fail(err, NIB_EFORMAT, "tokens '%.80s' and '%.80s' both have id %llu", at->p,
                        text.p, (unsigned long long)id);
    if (!at->p) l->score[id] = score;
    *at = text;
    l->type[id] = type;
    if (id >= l->n) l->n = (size_t)id + 1;
    return NIB_OK;
}

nib_code nib_list_add(nib_token_list *l, nib_listed_added a, nib_err *err)
{
    if (!a.text.p || !a.text.n) return nib_fail(err, NIB_EFORMAT, "an added token has no content");
    if (l->n_added == l->cap_added) {
        size_t cap = l->cap_added ? 2 * l->cap_added : 64;
        nib_listed_added *grown = nib_grow(l->added, l->n_added, cap, sizeof *grown);
        if (!grown) return nib_fail_nomem(err, "added tokens");
        l->added = grown;
        l->cap_added = cap;
    }
    l->added[l->n_added++] = a;
    return NIB_OK;
}

void nib_list_fini(nib_token_list *l)
{
    nib_free(l->text);
    nib_free(l->type);
    nib_free(l->score);
    nib_free(l->added);
    nib_arena_free(&l->arena);
}

/* ---- tokenizer.json ---- */

static uint64_t id_of(const nib_json *j)
{
    uint64_t id;
    return nib_json_u64(j, &id) ? id : NIB_NO_ID;
}

/* Added tokens that stand for something other than text, though not marked as special. */
static bool looks_special(nib_str s)
{
    static const char *const known[] = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"};
    static const char *const around[][2] = {{"<|", "|>"}, {"<\uFF5C", "\uFF5C>"}, {"<unused", ">"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i]) == s.n && !memcmp(s.p, known[i], s.n)) return true;
    for (size_t i = 0; i < sizeof around / sizeof *around; i++) {
        size_t a = strlen(around[i][0]), b = strlen(around[i][1]);
        if (s.n >= a + b && !memcmp(s.p, around[i][0], a) &&
            !memcmp(s.p + s.n - b, around[i][1], b))
            return true;
    }
    return false;
}

static uint8_t type_for(const nib_listed_added *t)
{
    return t->special || looks_special(t->text) ? NIB_TOKEN_CONTROL : NIB_TOKEN_USER;
}

/* {"content": "<s>", "special": true, ...}; as in Transformers a special token is looked for in the
 * text as it is, another in the normalized one, unless "normalized" says otherwise. */
static nib_listed_added described(nib_token_list *l, const nib_json *j, uint64_t id)
{
    const char *content = NULL;
    bool normalized = !flag(j, "special");
    nib_json_bool(nib_json_get(j, "normalized"), &normalized);
    nib_json_text(nib_json_get(j, "content"), &content);
    return (nib_listed_added){.text = nib_list_text(l, content),
                              .id = id,
                              .special = flag(j, "special"),
                              .normalized = normalized,
                              .lstrip = flag(j, "lstrip"),
                              .rstrip = flag(j, "rstrip"),
                              .single_word = flag(j, "single_word")};
}

/* Unigram's: [["piece", score], ...]. */
static nib_code list_scored(nib_token_list *l, const nib_json *vocab, nib_err *err)
{
    nib_code rc = NIB_OK;
    uint64_t id = 0;
    for (const nib_json *c = nib_json_first(vocab); c && !rc; c = nib_json_next(c), id++) {
        const nib_json *piece = nib_json_is_array(c) ? nib_json_first(c) : NULL;
        const char *text;
        double score;
        if (!nib_json_text(piece, &text) || !nib_json_num(nib_json_next(piece), &score))
            return nib_fail(err, NIB_EFORMAT, "piece %llu is no pair of a text and a score",
                            (unsigned long long)id);
        rc = nib_list_put(l, nib_list_text(l, text), id, NIB_TOKEN_NORMAL, score, err);
    }
    return rc;
}

nib_code nib_list_json(nib_token_list *l, const nib_json *tj, nib_err *err)
{
    nib_code rc = NIB_OK;
    const nib_json *vocab = nib_json_get(nib_json_get(tj, "model"), "vocab");
    if (nib_json_is_array(vocab)) {
        rc = list_scored(l, vocab, err);
    } else if (nib_json_is_object(vocab)) {
        for (const nib_json *c = nib_json_first(vocab); c && !rc; c = nib_json_next(c)) {
            const char *key = nib_json_key(c);
            rc = nib_list_put(l, nib_list_text(l, key ? key : ""), id_of(c), NIB_TOKEN_NORMAL, 0,
                              err);
        }
    } else {
        return nib_fail(err, NIB_EFORMAT, "model has no vocab object");
    }
    const nib_json *c = nib_json_first(nib_json_get(tj, "added_tokens"));
    for (; c && !rc; c = nib_json_next(c)) {
        const nib_listed_added a = described(l, c, id_of(nib_json_get(c, "id")));
        rc = nib_list_add(l, a, err);
        if (!rc) rc = nib_list_put(l, a.text, a.id, type_for(&a), NIB_NO_PIECE, err);
    }
    return rc;
}

/* ---- the files beside it ---- */

static uint64_t parse_id(const char *key)
{
    char *end;
    if (*key < '0' || *key > '9') return NIB_NO_ID;
    unsigned long long id = strtoull(key, &end, 10);
    return *end ? NIB_NO_ID : id;
}

/* Tokens that tokenizer.json need not know: of tokenizer_config.json, and in folders from before it
 * listed them of added_tokens.json. */
static nib_code list_more(nib_token_list *l, const nib_json *decoder, const nib_json *file,
                          nib_err *err)
{
    nib_code rc = NIB_OK;
    for (const nib_json *c = nib_json_first(decoder); c && !rc; c = nib_json_next(c))
        rc = nib_list_add(l, described(l, c, parse_id(nib_json_key(c))), err);
    if (decoder) return rc;
    for (const nib_json *c = nib_json_first(file); c && !rc; c = nib_json_next(c))
        rc = nib_list_add(l,
                          (nib_listed_added){.text = nib_list_text(l, nib_json_key(c)),
                                             .id = id_of(c),
                                             .older = true},
                          err);
    return rc;
}

static const char *const special_keys[NIB_N_SPECIAL][2] = {
    [NIB_BOS] = {"bos_token", "bos_token_id"},   [NIB_EOS] = {"eos_token", "eos_token_id"},
    [NIB_UNK] = {"unk_token", "unk_token_id"},   [NIB_SEP] = {"sep_token", "sep_token_id"},
    [NIB_PAD] = {"pad_token", "pad_token_id"},   [NIB_CLS] = {"cls_token", "cls_token_id"},
    [NIB_MASK] = {"mask_token", "mask_token_id"}};

/* A configuration file's token: a string, or an object with "content"; NULL: none. */
static const char *token_text(const nib_json *j)
{
    const char *s = NULL;
    if (!nib_json_str(j, &s)) nib_json_str(nib_json_get(j, "content"), &s);
    return s && *s ? s : NULL;
}

static nib_code list_special(nib_token_list *l, const nib_json *j, nib_err *err)
{
    const char *text = token_text(j);
    if (!text) return NIB_OK;
    return nib_list_add(
        l, (nib_listed_added){.text = nib_str_of(text), .id = NIB_NO_ID, .special = true}, err);
}

/* Tokens that a configuration file gives a part to, or calls special. */
static nib_code list_named(nib_token_list *l, const nib_json *config, nib_err *err)
{
    static const char *const lists[] = {"additional_special_tokens", "extra_special_tokens"};
    nib_code rc = NIB_OK;
    for (int i = 0; i < NIB_N_SPECIAL && !rc; i++)
        rc = list_special(l, nib_json_get(config, special_keys[i][0]), err);
    for (int i = 0; i < 2; i++)
        for (const nib_json *c = nib_json_first(nib_json_get(config, lists[i])); c && !rc;
             c = nib_json_next(c))
            rc = list_special(l, c, err);
    return rc;
}

static nib_code build(nib_tokenizer *t, const nib_token_list *l, nib_err *err)
{
    nib_vocab_fini(&t->vocab);
    return nib_vocab_build(&t->vocab, l->text, l->type, l->n, l->alphabet, err);
}

/* Take up the added tokens [from, n_added) into the built vocabulary's list, and drop those that it
 * has as added ones already, or whose id is another's: tokenizer.json counts, as in Transformers.
 * So are those beyond the embedding, which no model can be given. promote: a plain added token that
 * is named here is special after all. */
static nib_code take_up(nib_tokenizer *t, nib_token_list *l, size_t from, bool promote,
                        nib_err *err)
{
    nib_code rc = NIB_OK;
    size_t n = from;
    bool changed = false;
    for (size_t i = from; i < l->n_added && !rc; i++) {
        nib_listed_added *x = &l->added[i];
        int32_t found = nib_vocab_find(&t->vocab, x->text.p, x->text.n);
        if (found < 0 && (x->id >= l->rows || (x->id < l->n && l->text[x->id].p))) continue;
        if (found >= 0 && l->type[found] != NIB_TOKEN_NORMAL) {
            if (promote && l->type[found] == NIB_TOKEN_USER) l->type[found] = NIB_TOKEN_CONTROL;
            changed = changed || promote;
            continue;
        }
        if (found >= 0) x->id = (uint64_t)found;
        rc = nib_list_put(l, x->text, x->id, type_for(x), 0, err);
        l->added[n++] = *x;
        changed = true;
    }
    l->n_added = n;
    return rc || !changed ? rc : build(t, l, err);
}

nib_code nib_list_vocab(nib_tokenizer *t, nib_token_list *l, const nib_source *src, nib_err *err)
{
    l->rows = NIB_NO_ID;
    nib_json_u64(nib_json_get(nib_source_json(src, "config.json"), "vocab_size"), &l->rows);
    const nib_json *config = nib_source_json(src, "tokenizer_config.json");
    const nib_json *decoder = nib_json_get(config, "added_tokens_decoder");
    if (!nib_json_is_object(decoder)) decoder = NULL;
    nib_code rc = build(t, l, err);
    size_t from = l->n_added;
    if (!rc) rc = list_more(l, decoder, nib_source_json(src, "added_tokens.json"), err);
    if (!rc) rc = take_up(t, l, from, false, err);
    from = l->n_added;
    if (!rc) rc = list_named(l, config, err);
    if (!rc && !decoder) rc = list_named(l, nib_source_json(src, "special_tokens_map.json"), err);
    return rc ? rc : take_up(t, l, from, !decoder, err);
}

/* ---- added tokens ---- */

static bool is_control(const nib_tokenizer *t, int32_t id)
{
    return t->vocab.type[id] == NIB_TOKEN_CONTROL || t->vocab.type[id] == NIB_TOKEN_UNKNOWN;
}

nib_code nib_list_set_added(nib_tokenizer *t, const nib_token_list *l, nib_err *err)
{
    nib_added_token *a = nib_alloc(l->n_added, sizeof *a);
    if (!a) return nib_fail_nomem(err, "added tokens");
    size_t n = 0;
    for (size_t i = 0; i < l->n_added; i++) {
        const nib_listed_added *x = &l->added[i];
        const int32_t id = nib_vocab_find(&t->vocab, x->text.p, x->text.n);
        if (id < 0) continue;
        a[n++] = (nib_added_token){.id = id,
                                   .text = x->text,
                                   .control = is_control(t, id),
                                   .normalized = x->older ? !is_control(t, id) : x->normalized,
                                   .lstrip = x->lstrip,
                                   .rstrip = x->rstrip,
                                   .single_word = x->single_word,
                                   .spelled = x->spelled};
    }
    nib_code rc = nib_tokenizer_set_added(t, a, n, err);
    nib_free(a);
    return rc;
}

/* ---- special tokens ---- */

/* -1: none, or not a token. */
static int32_t token_in(const nib_tokenizer *t, const nib_json *config, const char *key)
{
    const char *text = token_text(nib_json_get(config, key));
    return text ? nib_vocab_find(&t->vocab, text, strlen(text)) : -1;
}

/* An id, or the first of a list of them. */
static int32_t id_in(const nib_tokenizer *t, const nib_json *config, const char *key)
{
    const nib_json *j = nib_json_get(config, key);
    uint64_t id;
    if (nib_json_is_array(j)) j = nib_json_first(j);
    return nib_json_u64(j, &id) && id < t->vocab.n ? (int32_t)id : -1;
}

/* special_tokens_map.json counts where Transformers reads it: in folders from before
 * tokenizer_config.json listed the added tokens, and first. */
void nib_list_specials(nib_tokenizer *t, const nib_source *src)
{
    const nib_json *config = nib_source_json(src, "tokenizer_config.json");
    const bool older = !nib_json_get(config, "added_tokens_decoder");
    for (int i = 0; i < NIB_N_SPECIAL; i++) {
        int32_t *id = &t->special[i];
        const char *const *key = special_keys[i];
        const int32_t known = *id; /* the vocabulary's own file has said so */
        *id = older ? token_in(t, nib_source_json(src, "special_tokens_map.json"), key[0]) : -1;
        if (*id < 0) *id = token_in(t, config, key[0]);
        if (*id < 0) *id = known;
        if (*id < 0) *id = id_in(t, nib_source_json(src, "config.json"), key[1]);
        if (*id < 0) *id = id_in(t, nib_source_json(src, "generation_config.json"), key[1]);
    }
}
