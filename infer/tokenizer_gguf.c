/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_gguf.c - a tokenizer from GGUF metadata, and back.
 *
 * GGUF has no word for some things that tokenizer.json says: white space that added tokens take
 * with them, and normalization. The first is lost. The second goes with the pre-tokenizer's name
 * ("qwen2" normalizes); where a model differs from its name, a key of nibble's own says so. */
#include "infer/tokenizer_impl.h"

#include <stdio.h>
#include <string.h>

#define KEY_NORMALIZER "nibble.tokenizer.normalizer"

static const char *const SPECIAL_KEY[NIB_N_SPECIAL] = {
    [NIB_BOS] = "tokenizer.ggml.bos_token_id",     [NIB_EOS] = "tokenizer.ggml.eos_token_id",
    [NIB_UNK] = "tokenizer.ggml.unknown_token_id", [NIB_SEP] = "tokenizer.ggml.seperator_token_id",
    [NIB_PAD] = "tokenizer.ggml.padding_token_id", [NIB_CLS] = "tokenizer.ggml.cls_token_id",
    [NIB_MASK] = "tokenizer.ggml.mask_token_id"};

/* ---- reading ---- */

static nib_code check_model(const nib_gguf_kvs *kvs, nib_err *err)
{
    nib_str model;
    if (!nib_gguf_get_str(kvs, "tokenizer.ggml.model", &model))
        return nib_fail(err, NIB_EFORMAT, "the file has no tokenizer (key tokenizer.ggml.model)");
    if (model.n == 4 && !memcmp(model.p, "gpt2", 4)) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT,
                    "tokenizer.ggml.model is '%.40s'; supported is 'gpt2', byte-level BPE",
                    model.p);
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

static nib_code read_tokens(nib_tokenizer *t, const nib_gguf_kvs *kvs, nib_err *err)
{
    const void *data;
    size_t n;
    if (!nib_gguf_get_arr(kvs, "tokenizer.ggml.tokens", NIB_GGUF_STR, &data, &n))
        return nib_fail(err, NIB_EFORMAT, "no array of strings tokenizer.ggml.tokens");
    uint8_t *type = nib_alloc(n, 1);
    if (!type) return nib_fail_nomem(err, "vocabulary");
    nib_code rc = read_types(type, n, kvs, err);
    if (!rc) rc = nib_vocab_build(&t->vocab, data, type, n, err);
    nib_free(type);
    return rc;
}

static nib_code read_merges(nib_tokenizer *t, const nib_gguf_kvs *kvs, nib_err *err)
{
    const void *data;
    size_t n;
    if (!nib_gguf_get_arr(kvs, "tokenizer.ggml.merges", NIB_GGUF_STR, &data, &n))
        return nib_fail(err, NIB_EFORMAT, "no array of strings tokenizer.ggml.merges");
    nib_code rc = nib_bpe_init(&t->bpe, n, err);
    if (rc) return rc;
    nib_vocab_bytes(&t->vocab, t->bpe.byte_id);
    const nib_str *merge = data;
    for (size_t i = 0; i < n && !rc; i++) {
        nib_str m = merge[i];
        const char *gap = m.n > 1 ? memchr(m.p + 1, ' ', m.n - 1) : NULL;
        if (!gap)
            return nib_fail(err, NIB_EFORMAT, "merge %zu, '%.80s', is not 'left right'", i, m.p);
        size_t left = (size_t)(gap - m.p);
        rc = nib_vocab_add_merge(&t->vocab, &t->bpe, (nib_str){m.p, left},
                                 (nib_str){gap + 1, m.n - left - 1}, err);
    }
    return rc;
}

static nib_code read_added(nib_tokenizer *t, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < t->vocab.n && !rc; i++) {
        uint8_t type = t->vocab.type[i];
        bool control = type == NIB_TOKEN_CONTROL || type == NIB_TOKEN_UNKNOWN;
        if (control || type == NIB_TOKEN_USER)
            rc = nib_added_push(
                &t->added,
                (nib_added){.text = t->vocab.text[i], .id = (int32_t)i, .control = control}, err);
    }
    nib_added_sort(&t->added);
    return rc;
}

static nib_code read_pre(nib_tokenizer *t, const nib_gguf_kvs *kvs, nib_err *err)
{
    nib_str pre = {"default", 7}, normalizer;
    nib_gguf_get_str(kvs, "tokenizer.ggml.pre", &pre);
    nib_code rc = nib_pretok_from_name(&t->pre, pre.p, pre.n, err);
    if (rc) return rc;
    t->ignore_merges = nib_pretok_rule_of(t->pre)->ignore_merges;
    t->nfc = nib_pretok_rule_of(t->pre)->nfc;
    t->add_bos = nib_pretok_rule_of(t->pre)->add_bos;
    if (nib_gguf_get_str(kvs, KEY_NORMALIZER, &normalizer)) {
        t->nfc = !strcmp(normalizer.p, "nfc");
        if (!t->nfc && strcmp(normalizer.p, "none"))
            return nib_fail(err, NIB_EFORMAT,
                            KEY_NORMALIZER " is '%.40s'; supported are 'nfc' and 'none'",
                            normalizer.p);
    }
    return NIB_OK;
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
    nib_code rc;
    if ((rc = check_model(kvs, err))) return rc;
    if ((rc = read_pre(t, kvs, err))) return rc;
    if ((rc = read_tokens(t, kvs, err))) return rc;
    if ((rc = read_merges(t, kvs, err))) return rc;
    if ((rc = read_added(t, err))) return rc;
    for (int i = 0; i < NIB_N_SPECIAL; i++) {
        uint64_t id;
        bool ok = nib_gguf_get_u64(kvs, SPECIAL_KEY[i], &id) && id < t->vocab.n;
        t->special[i] = ok ? (int32_t)id : -1;
    }
    nib_gguf_get_bool(kvs, "tokenizer.ggml.add_bos_token", &t->add_bos);
    nib_gguf_get_bool(kvs, "tokenizer.ggml.add_eos_token", &t->add_eos);
    nib_gguf_get_bool(kvs, "tokenizer.ggml.add_space_prefix", &t->prefix_space);
    t->add_bos = t->add_bos && t->special[NIB_BOS] >= 0;
    t->add_eos = t->add_eos && t->special[NIB_EOS] >= 0;
    return read_templates(t, kvs, err);
}

/* ---- writing ---- */

/* The name of a pre-tokenizer says whether merges are ignored for whole words. Where the model
 * says otherwise, that must make no difference: every token is what its own bytes merge to. */
static nib_code check_ignore_merges(const nib_tokenizer *t, nib_err *err)
{
    nib_code rc = NIB_OK;
    nib_bpe_work w = {0};
    if (t->ignore_merges == nib_pretok_rule_of(t->pre)->ignore_merges) return NIB_OK;
    for (size_t i = 0; i < t->vocab.n && !rc; i++) {
        size_t n = 0;
        nib_str raw = t->vocab.raw[i];
        if (t->vocab.type[i] != NIB_TOKEN_NORMAL) continue;
        rc = nib_bpe_encode(&t->bpe, &w, raw.p, raw.n, &n, err);
        if (!rc && (n != 1 || w.id[0] != (int32_t)i))
            rc = nib_fail(err, NIB_EFORMAT,
                          "ignore_merges is %s, which GGUF's pre-tokenizer '%s' does not mean, and "
                          "token %zu '%.80s' depends on it",
                          t->ignore_merges ? "true" : "false", nib_pretok_name(t->pre), i,
                          t->vocab.text[i].p);
    }
    nib_bpe_work_fini(&w);
    return rc;
}

/* A user-defined token's text with U+2581 turned into spaces, into *text; `at` has room. */
static char *respell(nib_str *text, char *at)
{
    const char *p = text->p, *end = p + text->n;
    text->p = at;
    while (p < end) {
        bool bar = end - p >= 3 && !memcmp(p, "\xE2\x96\x81", 3);
        *at++ = bar ? ' ' : *p;
        p += bar ? 3 : 1;
    }
    *at = 0;
    text->n = (size_t)(at - text->p);
    return at + 1;
}

typedef struct {
    nib_str *text; /* [n] */
    int32_t *type; /* [n] */
    char *blob;
} token_arrays;

static nib_code fill_tokens(token_arrays *a, const nib_tokenizer *t, size_t n, nib_err *err)
{
    const nib_vocab *v = &t->vocab;
    size_t room = 24 * (n - v->n) + 1;
    for (size_t i = 0; i < v->n; i++)
        if (v->type[i] == NIB_TOKEN_USER) room += v->text[i].n + 1;
    a->text = nib_alloc(n, sizeof *a->text);
    a->type = nib_alloc(n, sizeof *a->type);
    a->blob = nib_alloc(room, 1);
    if (!a->text || !a->type || !a->blob) return nib_fail_nomem(err, "vocabulary");
    char *at = a->blob;
    for (size_t i = 0; i < v->n; i++) {
        a->text[i] = v->text[i];
        a->type[i] = v->type[i];
        if (v->type[i] == NIB_TOKEN_USER) at = respell(&a->text[i], at);
    }
    for (size_t i = v->n; i < n; i++) {
        int k = snprintf(at, 24, "[PAD%zu]", i);
        if (nib_vocab_find(v, at, (size_t)k) >= 0)
            return nib_fail(err, NIB_EFORMAT, "token '%s' is in the way of a padding token", at);
        a->text[i] = (nib_str){at, (size_t)k};
        a->type[i] = NIB_TOKEN_UNUSED;
        at += k + 1;
    }
    return NIB_OK;
}

static nib_code write_tokens(const nib_tokenizer *t, size_t n, nib_gguf_kvs *kvs, nib_err *err)
{
    token_arrays a = {0};
    nib_code rc = fill_tokens(&a, t, n, err);
    if (!rc && (!nib_gguf_set_arr(kvs, "tokenizer.ggml.tokens", NIB_GGUF_STR, a.text, n) ||
                !nib_gguf_set_arr(kvs, "tokenizer.ggml.token_type", NIB_GGUF_I32, a.type, n)))
        rc = nib_fail_nomem(err, "vocabulary");
    nib_free(a.text);
    nib_free(a.type);
    nib_free(a.blob);
    return rc;
}

static nib_code write_merges(const nib_tokenizer *t, nib_gguf_kvs *kvs, nib_err *err)
{
    const nib_bpe *b = &t->bpe;
    size_t room = 1;
    for (size_t i = 0; i <= b->mask; i++)
        if (b->slot[i].left >= 0)
            room += t->vocab.text[b->slot[i].left].n + t->vocab.text[b->slot[i].right].n + 2;
    nib_str *line = nib_calloc(b->n, sizeof *line);
    char *blob = nib_alloc(room, 1), *at = blob;
    bool ok = line && blob;
    for (size_t i = 0; ok && i <= b->mask; i++) {
        const nib_bpe_merge *m = &b->slot[i];
        if (m->left < 0) continue;
        nib_str l = t->vocab.text[m->left], r = t->vocab.text[m->right];
        line[m->rank] = (nib_str){at, l.n + 1 + r.n};
        memcpy(at, l.p, l.n);
        at[l.n] = ' ';
        memcpy(at + l.n + 1, r.p, r.n + 1);
        at += l.n + r.n + 2;
    }
    ok = ok && nib_gguf_set_arr(kvs, "tokenizer.ggml.merges", NIB_GGUF_STR, line, b->n);
    nib_free(line);
    nib_free(blob);
    return ok ? NIB_OK : nib_fail_nomem(err, "merges");
}

static nib_code write_templates(const nib_tokenizer *t, nib_gguf_kvs *kvs, nib_err *err)
{
    nib_str *name = nib_alloc(t->n_tmpl, sizeof *name);
    size_t n = 0;
    bool ok = name;
    for (size_t i = 0; ok && i < t->n_tmpl; i++) {
        const nib_template *m = &t->tmpl[i];
        char key[256] = "tokenizer.chat_template";
        if (strcmp(m->name, "default")) {
            snprintf(key, sizeof key, "tokenizer.chat_template.%.200s", m->name);
            name[n++] = (nib_str){m->name, strlen(m->name)};
        }
        ok = nib_gguf_set_str(kvs, key, m->text, strlen(m->text));
    }
    if (ok && n) ok = nib_gguf_set_arr(kvs, "tokenizer.chat_templates", NIB_GGUF_STR, name, n);
    nib_free(name);
    return ok ? NIB_OK : nib_fail_nomem(err, "chat template");
}

static bool set_text(nib_gguf_kvs *kvs, const char *key, const char *text)
{
    return nib_gguf_set_str(kvs, key, text, strlen(text));
}

nib_code nib_tokenizer_to_gguf(const nib_tokenizer *t, size_t n_vocab, nib_gguf_kvs *kvs,
                               nib_err *err)
{
    nib_code rc;
    if (n_vocab < t->vocab.n)
        return nib_fail(err, NIB_EFORMAT,
                        "the tokenizer has %zu tokens, the embedding only %zu rows", t->vocab.n,
                        n_vocab);
    if ((rc = check_ignore_merges(t, err))) return rc;
    if (!set_text(kvs, "tokenizer.ggml.model", "gpt2") ||
        !set_text(kvs, "tokenizer.ggml.pre", nib_pretok_name(t->pre)))
        return nib_fail_nomem(err, "metadata");
    if ((rc = write_tokens(t, n_vocab, kvs, err))) return rc;
    if ((rc = write_merges(t, kvs, err))) return rc;
    bool ok = true;
    for (int i = 0; i < NIB_N_SPECIAL; i++)
        if (t->special[i] >= 0)
            ok = ok && nib_gguf_set_u32(kvs, SPECIAL_KEY[i], (uint32_t)t->special[i]);
    ok = ok && nib_gguf_set_bool(kvs, "tokenizer.ggml.add_bos_token", t->add_bos) &&
         nib_gguf_set_bool(kvs, "tokenizer.ggml.add_eos_token", t->add_eos);
    if (t->prefix_space) ok = ok && nib_gguf_set_bool(kvs, "tokenizer.ggml.add_space_prefix", true);
    if (t->nfc != nib_pretok_rule_of(t->pre)->nfc)
        ok = ok && set_text(kvs, KEY_NORMALIZER, t->nfc ? "nfc" : "none");
    return ok ? write_templates(t, kvs, err) : nib_fail_nomem(err, "metadata");
}
