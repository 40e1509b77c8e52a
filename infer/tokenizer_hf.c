/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_hf.c - a tokenizer from a Hugging Face folder: tokenizer.json and, for special
 * tokens and templates, the configuration files beside it.
 *
 * Only byte-level BPE is read. Any part of the description that would change ids and that nibble
 * does not carry out is an error, never passed over. */
#include "base/utf8.h"
#include "infer/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

static bool is_type(const nib_json *j, const char *type)
{
    const char *s;
    return nib_json_str(nib_json_get(j, "type"), &s) && !strcmp(s, type);
}

static const char *type_of(const nib_json *j)
{
    const char *s = "none";
    nib_json_str(nib_json_get(j, "type"), &s);
    return s;
}

static nib_str str(const char *s)
{
    return (nib_str){s, strlen(s)};
}

static bool flag(const nib_json *j, const char *key)
{
    bool b = false;
    nib_json_bool(nib_json_get(j, key), &b);
    return b;
}

/* ---- the model ---- */

/* Neither null nor an empty string: an option that nibble does not carry out. */
static bool is_set(const nib_json *model, const char *key)
{
    const nib_json *j = nib_json_get(model, key);
    const char *s = "-";
    nib_json_str(j, &s);
    return j && !nib_json_is_null(j) && *s;
}

static nib_code check_model(const nib_json *model, nib_err *err)
{
    double dropout = 0;
    if (!nib_json_is_object(model))
        return nib_fail(err, NIB_EFORMAT, "tokenizer.json has no model");
    bool bpe =
        is_type(model, "BPE") || (!nib_json_get(model, "type") && nib_json_get(model, "merges"));
    if (!bpe)
        return nib_fail(err, NIB_EFORMAT, "model of type '%s'; supported is byte-level BPE",
                        type_of(model));
    if (flag(model, "byte_fallback"))
        return nib_fail(err, NIB_EFORMAT,
                        "BPE with byte_fallback, which is SentencePiece's kind; "
                        "supported is byte-level BPE");
    if (is_set(model, "continuing_subword_prefix") || is_set(model, "end_of_word_suffix"))
        return nib_fail(err, NIB_EFORMAT,
                        "BPE with a subword prefix or suffix; supported is "
                        "byte-level BPE without");
    if (nib_json_num(nib_json_get(model, "dropout"), &dropout) && dropout > 0)
        return nib_fail(err, NIB_EFORMAT, "BPE with dropout %g; supported is none", dropout);
    return NIB_OK;
}

static nib_code read_normalizer(nib_tokenizer *t, const nib_json *j, nib_err *err)
{
    nib_code rc = NIB_OK;
    if (!j || nib_json_is_null(j)) return NIB_OK;
    if (is_type(j, "NFC")) {
        t->nfc = true;
    } else if (is_type(j, "Sequence")) {
        const nib_json *c = nib_json_first(nib_json_get(j, "normalizers"));
        for (; c && !rc; c = nib_json_next(c)) rc = read_normalizer(t, c, err);
    } else {
        rc = nib_fail(err, NIB_EFORMAT, "normalizer of type '%s'; supported are NFC and none",
                      type_of(j));
    }
    return rc;
}

static nib_code check_decoder(const nib_json *j, nib_err *err)
{
    if (!j || nib_json_is_null(j) || is_type(j, "ByteLevel")) return NIB_OK;
    if (is_type(j, "Sequence")) {
        nib_code rc = NIB_OK;
        const nib_json *c = nib_json_first(nib_json_get(j, "decoders"));
        for (; c && !rc; c = nib_json_next(c)) rc = check_decoder(c, err);
        return rc;
    }
    return nib_fail(err, NIB_EFORMAT, "decoder of type '%s'; supported is ByteLevel", type_of(j));
}

/* ---- tokens ---- */

/* Added tokens that stand for something other than text, though not marked as special. */
static bool looks_special(const char *s)
{
    static const char *const known[] = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"};
    static const char *const around[][2] = {{"<|", "|>"}, {"<\uFF5C", "\uFF5C>"}, {"<unused", ">"}};
    size_t n = strlen(s);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(s, known[i])) return true;
    for (size_t i = 0; i < sizeof around / sizeof *around; i++) {
        size_t a = strlen(around[i][0]), b = strlen(around[i][1]);
        if (n >= a + b && !memcmp(s, around[i][0], a) && !memcmp(s + n - b, around[i][1], b))
            return true;
    }
    return false;
}

typedef struct {
    nib_str *text; /* [n]; p NULL where no token has the id */
    uint8_t *type; /* [n] */
    size_t n, cap;
    uint64_t rows; /* of the embedding, as config.json has it */
} token_list;

static const uint64_t NO_ID = UINT64_MAX;

static uint64_t id_of(const nib_json *j)
{
    uint64_t id;
    return nib_json_u64(j, &id) ? id : NO_ID;
}

static nib_code put(token_list *l, const char *text, uint64_t id, uint8_t type, nib_err *err)
{
    if (id >= NIB_VOCAB_MAX)
        return nib_fail(err, NIB_EFORMAT, "token '%.80s' has no id between 0 and %d", text,
                        NIB_VOCAB_MAX - 1);
    if (id >= l->cap) {
        size_t cap = 2 * (size_t)id + 1024;
        nib_str *t = nib_grow(l->text, l->cap, cap, sizeof *t);
        if (t) l->text = t;
        uint8_t *y = t ? nib_grow(l->type, l->cap, cap, 1) : NULL;
        if (!y) return nib_fail_nomem(err, "vocabulary");
        l->type = y;
        memset(l->text + l->cap, 0, (cap - l->cap) * sizeof *t);
        memset(l->type + l->cap, 0, cap - l->cap);
        l->cap = cap;
    }
    if (l->text[id].p && strcmp(l->text[id].p, text))
        return nib_fail(err, NIB_EFORMAT, "tokens '%.80s' and '%.80s' both have id %llu",
                        l->text[id].p, text, (unsigned long long)id);
    l->text[id] = str(text);
    l->type[id] = type;
    if (id >= l->n) l->n = (size_t)id + 1;
    return NIB_OK;
}

/* A token that is cut out of the text before it is merged. */
typedef struct {
    const char *text;
    uint64_t id; /* NO_ID: not given */
    bool special, normalized, lstrip, rstrip, single_word;
    bool older; /* of added_tokens.json: found in normalized text unless it is special */
} added_token;

typedef struct {
    added_token *t;
    size_t n, cap;
} added_list;

static nib_code push(added_list *a, added_token t, nib_err *err)
{
    if (!t.text || !*t.text) return nib_fail(err, NIB_EFORMAT, "an added token has no content");
    if (a->n == a->cap) {
        size_t cap = a->cap ? 2 * a->cap : 64;
        added_token *grown = nib_grow(a->t, a->n, cap, sizeof *grown);
        if (!grown) return nib_fail_nomem(err, "added tokens");
        a->t = grown;
        a->cap = cap;
    }
    a->t[a->n++] = t;
    return NIB_OK;
}

/* {"content": "<s>", "special": true, ...}; as in Transformers a special token is looked for in the
 * text as it is, another in the normalized one, unless "normalized" says otherwise. */
static added_token described(const nib_json *j, uint64_t id)
{
    bool normalized = !flag(j, "special");
    nib_json_bool(nib_json_get(j, "normalized"), &normalized);
    added_token t = {.id = id,
                     .special = flag(j, "special"),
                     .normalized = normalized,
                     .lstrip = flag(j, "lstrip"),
                     .rstrip = flag(j, "rstrip"),
                     .single_word = flag(j, "single_word")};
    nib_json_str(nib_json_get(j, "content"), &t.text);
    return t;
}

static uint8_t type_for(const added_token *t)
{
    return t->special || looks_special(t->text) ? NIB_TOKEN_CONTROL : NIB_TOKEN_USER;
}

static nib_code list_tokens(token_list *l, added_list *a, const nib_json *tj, nib_err *err)
{
    nib_code rc = NIB_OK;
    const nib_json *c = nib_json_first(nib_json_get(nib_json_get(tj, "model"), "vocab"));
    for (; c && !rc; c = nib_json_next(c)) {
        const char *key = nib_json_key(c);
        rc = put(l, key ? key : "", id_of(c), NIB_TOKEN_NORMAL, err);
    }
    c = nib_json_first(nib_json_get(tj, "added_tokens"));
    for (; c && !rc; c = nib_json_next(c)) {
        rc = push(a, described(c, id_of(nib_json_get(c, "id"))), err);
        const added_token *t = &a->t[a->n - 1];
        if (!rc) rc = put(l, t->text, t->id, type_for(t), err);
    }
    return rc;
}

static uint64_t parse_id(const char *key)
{
    char *end;
    if (*key < '0' || *key > '9') return NO_ID;
    unsigned long long id = strtoull(key, &end, 10);
    return *end ? NO_ID : id;
}

/* Tokens that tokenizer.json need not know: of tokenizer_config.json, and in folders from before it
 * listed them of added_tokens.json. */
static nib_code list_more(added_list *a, const nib_json *decoder, const nib_json *file,
                          nib_err *err)
{
    nib_code rc = NIB_OK;
    for (const nib_json *c = nib_json_first(decoder); c && !rc; c = nib_json_next(c))
        rc = push(a, described(c, parse_id(nib_json_key(c))), err);
    if (decoder) return rc;
    for (const nib_json *c = nib_json_first(file); c && !rc; c = nib_json_next(c))
        rc = push(a, (added_token){.text = nib_json_key(c), .id = id_of(c), .older = true}, err);
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

/* Tokens that a configuration file gives a part to, or calls special. */
static nib_code list_named(added_list *a, const nib_json *config, nib_err *err)
{
    static const char *const lists[] = {"additional_special_tokens", "extra_special_tokens"};
    nib_code rc = NIB_OK;
    for (int i = 0; i < NIB_N_SPECIAL && !rc; i++) {
        const char *text = token_text(nib_json_get(config, special_keys[i][0]));
        if (text) rc = push(a, (added_token){.text = text, .id = NO_ID, .special = true}, err);
    }
    for (int i = 0; i < 2; i++)
        for (const nib_json *c = nib_json_first(nib_json_get(config, lists[i])); c && !rc;
             c = nib_json_next(c)) {
            const char *text = token_text(c);
            if (text) rc = push(a, (added_token){.text = text, .id = NO_ID, .special = true}, err);
        }
    return rc;
}

/* Take up the added tokens [from, a->n) into the built vocabulary's list, and drop those from `a`
 * that it has as added ones already, or whose id is another's: tokenizer.json counts, as in
 * Transformers. So are those beyond the embedding, which no model can be given. promote: a plain
 * added token that is named here is special after all. */
static nib_code take_up(nib_tokenizer *t, token_list *l, added_list *a, size_t from, bool promote,
                        nib_err *err)
{
    nib_code rc = NIB_OK;
    size_t n = from;
    bool changed = false;
    for (size_t i = from; i < a->n && !rc; i++) {
        added_token *x = &a->t[i];
        int32_t found = nib_vocab_find(&t->vocab, x->text, strlen(x->text));
        if (found < 0 && (x->id >= l->rows || (x->id < l->n && l->text[x->id].p))) continue;
        if (found >= 0 && l->type[found] != NIB_TOKEN_NORMAL) {
            if (promote) l->type[found] = NIB_TOKEN_CONTROL;
            changed = changed || promote;
            continue;
        }
        if (found >= 0) x->id = (uint64_t)found;
        rc = put(l, x->text, x->id, type_for(x), err);
        a->t[n++] = *x;
        changed = true;
    }
    a->n = n;
    if (rc || !changed) return rc;
    nib_vocab_fini(&t->vocab);
    return nib_vocab_build(&t->vocab, l->text, l->type, l->n, err);
}

static nib_code read_tokens(nib_tokenizer *t, added_list *a, const nib_json *tj,
                            const nib_source *src, nib_err *err)
{
    token_list l = {.rows = NO_ID};
    nib_code rc = NIB_OK;
    nib_json_u64(nib_json_get(nib_source_json(src, "config.json"), "vocab_size"), &l.rows);
    const nib_json *config = nib_source_json(src, "tokenizer_config.json");
    const nib_json *decoder = nib_json_get(config, "added_tokens_decoder");
    if (!nib_json_is_object(decoder)) decoder = NULL;
    if (!nib_json_is_object(nib_json_get(nib_json_get(tj, "model"), "vocab")))
        rc = nib_fail(err, NIB_EFORMAT, "model has no vocab object");
    if (!rc) rc = list_tokens(&l, a, tj, err);
    if (!rc) rc = nib_vocab_build(&t->vocab, l.text, l.type, l.n, err);
    size_t from = a->n;
    if (!rc) rc = list_more(a, decoder, nib_source_json(src, "added_tokens.json"), err);
    if (!rc) rc = take_up(t, &l, a, from, false, err);
    from = a->n;
    if (!rc) rc = list_named(a, config, err);
    if (!rc && !decoder) rc = list_named(a, nib_source_json(src, "special_tokens_map.json"), err);
    if (!rc) rc = take_up(t, &l, a, from, !decoder, err);
    nib_free(l.text);
    nib_free(l.type);
    return rc;
}

static bool is_normalized(const nib_tokenizer *t, const added_token *a)
{
    if (!a->older) return a->normalized;
    return t->vocab.type[nib_vocab_find(&t->vocab, a->text, strlen(a->text))] != NIB_TOKEN_CONTROL;
}

static nib_code read_added(nib_tokenizer *t, const added_list *list, nib_err *err)
{
    nib_code rc = NIB_OK;
    /* Normalized spellings first: the buffer that holds them moves while it grows. */
    for (size_t i = 0; i < list->n && !rc; i++) {
        const char *text = list->t[i].text;
        const bool normalized = is_normalized(t, &list->t[i]);
        if (normalized && t->nfc && nib_utf8_bad(text, strlen(text)) == strlen(text))
            rc = nib_text_add_nfc(&t->norm_text, text, strlen(text), err);
        else if (normalized)
            rc = nib_text_add(&t->norm_text, text, strlen(text), err);
        if (!rc) rc = nib_text_add(&t->norm_text, "", 1, err);
    }
    const char *norm = t->norm_text.p;
    for (size_t i = 0; i < list->n && !rc; i++) {
        const added_token *a = &list->t[i];
        const bool normalized = is_normalized(t, a);
        int32_t id = nib_vocab_find(&t->vocab, a->text, strlen(a->text));
        rc = nib_added_push(normalized ? &t->added_norm : &t->added,
                            (nib_added){.text = normalized ? str(norm) : t->vocab.text[id],
                                        .id = id,
                                        .control = t->vocab.type[id] == NIB_TOKEN_CONTROL,
                                        .lstrip = a->lstrip,
                                        .rstrip = a->rstrip,
                                        .single_word = a->single_word},
                            err);
        norm += strlen(norm) + 1;
    }
    nib_added_sort(&t->added);
    nib_added_sort(&t->added_norm);
    return rc;
}

/* ---- merges ---- */

/* "left right", or a pair of strings. */
static nib_code read_merge(nib_tokenizer *t, const nib_json *j, nib_err *err)
{
    const char *s, *left, *right;
    if (nib_json_str(j, &s)) {
        const char *gap = *s ? strchr(s + 1, ' ') : NULL;
        if (gap)
            return nib_vocab_add_merge(&t->vocab, &t->bpe, (nib_str){s, (size_t)(gap - s)},
                                       str(gap + 1), err);
    } else if (nib_json_is_array(j) && nib_json_count(j) == 2 &&
               nib_json_str(nib_json_first(j), &left) &&
               nib_json_str(nib_json_next(nib_json_first(j)), &right)) {
        return nib_vocab_add_merge(&t->vocab, &t->bpe, str(left), str(right), err);
    }
    return nib_fail(err, NIB_EFORMAT, "merge %u is neither 'left right' nor a pair", t->bpe.n);
}

static nib_code read_merges(nib_tokenizer *t, const nib_json *model, nib_err *err)
{
    const nib_json *list = nib_json_get(model, "merges");
    if (!nib_json_is_array(list)) return nib_fail(err, NIB_EFORMAT, "model has no merges");
    nib_code rc = nib_bpe_init(&t->bpe, nib_json_count(list), err);
    if (rc) return rc;
    nib_vocab_bytes(&t->vocab, t->bpe.byte_id);
    for (const nib_json *c = nib_json_first(list); c && !rc; c = nib_json_next(c))
        rc = read_merge(t, c, err);
    for (int b = 0; b < 256 && !rc && is_set(model, "unk_token"); b++)
        if (t->bpe.byte_id[b] < 0)
            rc = nib_fail(err, NIB_EFORMAT,
                          "no token for byte 0x%02X, which would become the "
                          "unknown token; supported are vocabularies that have "
                          "all bytes or no unknown token",
                          (unsigned)b);
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
static void read_specials(nib_tokenizer *t, const nib_source *src)
{
    const nib_json *config = nib_source_json(src, "tokenizer_config.json");
    const bool older = !nib_json_get(config, "added_tokens_decoder");
    for (int i = 0; i < NIB_N_SPECIAL; i++) {
        int32_t *id = &t->special[i];
        const char *const *key = special_keys[i];
        *id = older ? token_in(t, nib_source_json(src, "special_tokens_map.json"), key[0]) : -1;
        if (*id < 0) *id = token_in(t, config, key[0]);
        if (*id < 0) *id = id_in(t, nib_source_json(src, "config.json"), key[1]);
        if (*id < 0) *id = id_in(t, nib_source_json(src, "generation_config.json"), key[1]);
    }
}

/* What the post-processor puts around a text. */
typedef struct {
    bool given; /* there is a template at all */
    int32_t front, back;
    int n_front, n_back;
} around;

static nib_code read_template(around *a, const nib_tokenizer *t, const nib_json *j, nib_err *err)
{
    bool seen = false;
    a->given = true;
    const nib_json *c = nib_json_first(nib_json_get(j, "single"));
    for (; c; c = nib_json_next(c)) {
        const char *s;
        const nib_json *special = nib_json_get(c, "SpecialToken");
        if (!special) {
            seen = true;
            continue;
        }
        int32_t id = -1;
        if (nib_json_str(nib_json_get(special, "id"), &s))
            id = nib_vocab_find(&t->vocab, s, strlen(s));
        if (id < 0)
            return nib_fail(err, NIB_EFORMAT, "post_processor adds a token that is not known");
        *(seen ? &a->back : &a->front) = id;
        ++*(seen ? &a->n_back : &a->n_front);
    }
    return NIB_OK;
}

static nib_code read_post(around *a, const nib_tokenizer *t, const nib_json *j, nib_err *err)
{
    nib_code rc = NIB_OK;
    if (!j || nib_json_is_null(j) || is_type(j, "ByteLevel")) return NIB_OK;
    if (is_type(j, "TemplateProcessing")) return read_template(a, t, j, err);
    if (!is_type(j, "Sequence"))
        return nib_fail(err, NIB_EFORMAT,
                        "post_processor of type '%s'; supported are TemplateProcessing, ByteLevel "
                        "and Sequence",
                        type_of(j));
    const nib_json *c = nib_json_first(nib_json_get(j, "processors"));
    for (; c && !rc; c = nib_json_next(c)) rc = read_post(a, t, c, err);
    return rc;
}

/* Whether `special` (BOS or EOS) is added: the configuration's word counts most, then the
 * template's, then `otherwise`. A template that adds anything else cannot be told to GGUF. */
static nib_code decide(bool *add, int32_t *special, const nib_json *said, const around *a, int n,
                       int32_t id, bool otherwise, const char *name, nib_err *err)
{
    if (!nib_json_bool(said, add)) {
        if (n == 1 && *special < 0) *special = id;
        if (n > 1 || (n == 1 && *special != id))
            return nib_fail(err, NIB_EFORMAT,
                            "post_processor adds %d tokens, of which %d is the last, where the %s "
                            "token %d is the one supported",
                            n, id, name, *special);
        *add = a->given ? n == 1 : otherwise;
    }
    *add = *add && *special >= 0;
    return NIB_OK;
}

static nib_code read_around(nib_tokenizer *t, const nib_source *src, const nib_json *post,
                            nib_err *err)
{
    around a = {0};
    const nib_json *config = nib_source_json(src, "tokenizer_config.json");
    nib_code rc = read_post(&a, t, post, err);
    if (rc) return rc;
    rc = decide(&t->add_bos, &t->special[NIB_BOS], nib_json_get(config, "add_bos_token"), &a,
                a.n_front, a.front, nib_pretok_rule_of(t->pre)->add_bos, "BOS", err);
    if (rc) return rc;
    return decide(&t->add_eos, &t->special[NIB_EOS], nib_json_get(config, "add_eos_token"), &a,
                  a.n_back, a.back, false, "EOS", err);
}

/* ---- chat templates ---- */

/* Named templates beside chat_template.jinja, as Transformers 5 keeps them. */
static nib_code read_additional(nib_tokenizer *t, const nib_source *src, nib_err *err)
{
    static const char *const file[][2] = {
        {"tool_use", "additional_chat_templates/tool_use.jinja"},
        {"rag", "additional_chat_templates/rag.jinja"},
    };
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < sizeof file / sizeof *file && !rc; i++) {
        const char *text = nib_source_text(src, file[i][1]);
        if (text) rc = nib_tokenizer_add_template(t, str(file[i][0]), str(text), err);
    }
    return rc;
}

/* As in Transformers the files count, all of them, before what is in tokenizer_config.json. */
static nib_code read_templates(nib_tokenizer *t, const nib_source *src, nib_err *err)
{
    const nib_json *j =
        nib_json_get(nib_source_json(src, "tokenizer_config.json"), "chat_template");
    const char *name, *text = nib_source_text(src, "chat_template.jinja");
    const bool files = text;
    nib_code rc = NIB_OK;
    if (text || nib_json_str(j, &text)) {
        rc = nib_tokenizer_add_template(t, str("default"), str(text), err);
        return rc || !files ? rc : read_additional(t, src, err);
    }
    const nib_json *c = nib_json_is_array(j) ? nib_json_first(j) : NULL;
    for (; c && !rc; c = nib_json_next(c))
        if (nib_json_str(nib_json_get(c, "name"), &name) &&
            nib_json_str(nib_json_get(c, "template"), &text))
            rc = nib_tokenizer_add_template(t, str(name), str(text), err);
    if (rc || t->n_tmpl ||
        !nib_json_str(nib_json_get(nib_source_json(src, "chat_template.json"), "chat_template"),
                      &text))
        return rc;
    return nib_tokenizer_add_template(t, str("default"), str(text), err);
}

/* ---- all of it ---- */

nib_code nib_tokenizer_from_hf(nib_tokenizer *t, const nib_source *src, nib_err *err)
{
    nib_code rc;
    const nib_json *tj = nib_source_json(src, "tokenizer.json");
    if (!tj)
        return nib_fail(err, NIB_EFORMAT,
                        "there is no tokenizer.json; supported are byte-level "
                        "BPE tokenizers, which have one");
    const nib_json *model = nib_json_get(tj, "model");
    t->ignore_merges = flag(model, "ignore_merges");
    if ((rc = check_model(model, err))) return rc;
    if ((rc = read_normalizer(t, nib_json_get(tj, "normalizer"), err))) return rc;
    if ((rc = check_decoder(nib_json_get(tj, "decoder"), err))) return rc;
    if ((rc = nib_pretok_from_json(&t->pre, nib_json_get(tj, "pre_tokenizer"), t->ignore_merges,
                                   err)))
        return rc;
    t->prefix_space = nib_pretok_prefix_space(t->pre);
    added_list added = {0};
    rc = read_tokens(t, &added, tj, src, err);
    if (!rc) rc = read_merges(t, model, err);
    if (!rc) rc = read_added(t, &added, err);
    nib_free(added.t);
    if (rc) return rc;
    read_specials(t, src);
    if ((rc = read_around(t, src, nib_json_get(tj, "post_processor"), err))) return rc;
    return read_templates(t, src, err);
}
