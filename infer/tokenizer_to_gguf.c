/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_to_gguf.c - a tokenizer as GGUF metadata; see tokenizer_gguf.h. What its words
 * cannot say goes into keys of nibble's own where other programs come near it without, and is an
 * error where they would not.
 *
 * Tests: tests/infer/test_tokenizer.c. */
#include "infer/tokenizer_gguf.h"

#include <stdio.h>
#include <string.h>

/* ---- the words ---- */

/* The name of a pre-tokenizer says whether merges are ignored for whole words. Where the model
 * says otherwise, that must make no difference: every token is what its own bytes merge to. */
static nib_code check_ignore_merges(const nib_tokenizer *t, const nib_pre_rule *rule,
                                    const char *name, nib_err *err)
{
    size_t id;
    const bool ignores = nib_word_bytes_ignores_merges(t->model);
    if (ignores == rule->ignore_merges) return NIB_OK;
    nib_code rc = nib_word_bytes_check(t->model, &id, err);
    if (rc || id == t->vocab.n) return rc;
    return nib_fail(err, NIB_EFORMAT,
                    "ignore_merges is %s, which GGUF's pre-tokenizer '%s' does not mean, and "
                    "token %zu '%.80s' depends on it",
                    ignores ? "true" : "false", name, id, t->vocab.text[id].p);
}

static bool begins_with_space(const nib_splitter *s)
{
    return s->n && s->step[0].kind == NIB_SPLIT_SPACE;
}

static nib_code name_of(const nib_tokenizer *t, const char *pre, nib_gguf_words *w,
                        const char **name, nib_err *err)
{
    char text[400];
    *name = pre ? pre : t->pre;
    w->rule = t->rule;
    if (pre) return nib_pre_by_name(&w->rule, pre, strlen(pre), err);
    if (w->rule) return NIB_OK;
    nib_pre_describe(text, sizeof text, &t->splitter);
    return nib_fail(
        err, NIB_EFORMAT,
        "pre_tokenizer splits in a way that GGUF has no name for: %s; choose the nearest "
        "one with --pre NAME",
        text);
}

/* What llama.cpp does before it looks at scores: spaces become bars, one more in front. */
static bool is_plain(const nib_tokenizer *t)
{
    for (size_t i = 0; i < t->normalizer.n; i++) {
        const nib_norm_step *s = &t->normalizer.step[i];
        const bool prepend = s->kind == NIB_NORM_PREPEND && !strcmp(s->content, "\u2581");
        const bool replace = s->kind == NIB_NORM_REPLACE && s->literal &&
                             !strcmp(s->pattern, " ") && !strcmp(s->content, "\u2581");
        if (!prepend && !replace) return false;
    }
    for (size_t i = 0; i < t->splitter.n; i++) {
        const nib_split_step *s = &t->splitter.step[i];
        const bool spaces = s->kind == NIB_SPLIT_AT && s->dialect == NIB_DIALECT_LITERAL &&
                            !strcmp(s->pattern, " ") && i + 1 == t->splitter.n && t->normalizer.n;
        const bool bars = s->kind == NIB_SPLIT_METASPACE && !strcmp(s->content, "\u2581");
        if (!spaces && !bars) return false;
    }
    return true;
}

/* A bar in front, runs of spaces that are one. */
static void note_spaces(const nib_tokenizer *t, nib_gguf_words *w)
{
    for (size_t i = 0; i < t->normalizer.n; i++) {
        const nib_norm_step *s = &t->normalizer.step[i];
        if (s->kind == NIB_NORM_PREPEND) w->space_prefix = true;
        if (s->kind == NIB_NORM_REPLACE && !strcmp(s->pattern, " {2,}")) w->remove_spaces = true;
        if (s->kind == NIB_NORM_REPLACE && !strcmp(s->pattern, "(?<=.)\\z"))
            w->suffix = w->space_prefix = true;
        if (s->kind == NIB_NORM_CHARSMAP && !w->map) {
            w->map = s->map.data;
            w->n_map = s->map.n;
        }
    }
    for (size_t i = 0; i < t->splitter.n; i++) {
        const nib_split_step *s = &t->splitter.step[i];
        if (s->kind == NIB_SPLIT_METASPACE && s->prepend != NIB_PREPEND_NEVER)
            w->space_prefix = true;
        if (s->kind == NIB_SPLIT_AT && s->behavior == NIB_BEHAVIOR_REMOVED &&
            !strcmp(s->pattern, "\\s"))
            w->remove_spaces = true;
    }
}

static nib_code find_words(const nib_tokenizer *t, const char *pre, nib_gguf_words *w,
                           const char **name, nib_err *err)
{
    *w = (nib_gguf_words){0};
    *name = "default";
    const char *model = t->model->gguf;
    if (!model)
        return nib_fail(err, NIB_EFORMAT,
                        "a %s tokenizer, which GGUF has for encoders alone; models that write text "
                        "have none",
                        t->model->json);
    if (strcmp(model, "gpt2")) {
        if (pre)
            return nib_fail(err, NIB_EINVAL,
                            "--pre %s names a splitter of byte-level tokenizers; this one has "
                            "SentencePiece's pieces",
                            pre);
        w->model = strcmp(model, "t5") ? NIB_WORDS_LLAMA : NIB_WORDS_T5;
        note_spaces(t, w);
        if (w->model == NIB_WORDS_LLAMA && !is_plain(t))
            return nib_fail(err, NIB_EFORMAT,
                            "the tokenizer normalizes or splits text in a way that GGUF's 'llama' "
                            "tokenizers do not");
        return NIB_OK;
    }
    w->nfc = nib_normalizer_is_form(&t->normalizer, NIB_NFC);
    w->space_prefix = begins_with_space(&t->splitter);
    if (t->normalizer.n && !w->nfc)
        return nib_fail(err, NIB_EFORMAT,
                        "the tokenizer normalizes text, which GGUF's 'gpt2' tokenizers do not");
    nib_code rc = name_of(t, pre, w, name, err);
    return rc ? rc : check_ignore_merges(t, w->rule, *name, err);
}

/* ---- tokens ---- */

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

/* ---- added tokens ---- */

/* What each token is cut out as; NULL: not at all. */
typedef struct {
    const nib_added **added; /* [n] */
    bool *normalized;        /* [n] */
} cut_list;

static void note_added(cut_list *l, const nib_added_set *s, bool normalized)
{
    for (size_t i = 0; i < s->n; i++) {
        l->added[s->t[i].id] = &s->t[i];
        l->normalized[s->t[i].id] = normalized;
    }
}

/* An entry for a token that is cut otherwise than its type and text in the file say; true: done. */
static bool add_entry(nib_json *list, const nib_tokenizer *t, const cut_list *l, size_t i,
                      nib_str written)
{
    const uint8_t type = t->vocab.type[i];
    const bool control = type == NIB_TOKEN_CONTROL || type == NIB_TOKEN_UNKNOWN;
    const bool implied = control || type == NIB_TOKEN_USER;
    const nib_added *a = l->added[i];
    const nib_str text = t->vocab.text[i];
    /* Normalization form C alone is no reason: it leaves such tokens as they are. */
    const bool normalized = a && l->normalized[i] && t->normalizer.n &&
                            !nib_normalizer_is_form(&t->normalizer, NIB_NFC);
    if (!a && !implied) return true;
    if (a && implied && a->control == control && !a->lstrip && !a->rstrip && !a->single_word &&
        !normalized && written.n == text.n && !memcmp(written.p, text.p, text.n))
        return true;
    nib_json *j = nib_json_add_object(list, NULL);
    if (!j || !nib_json_add_num(j, "id", (double)i)) return false;
    if (!a) return nib_json_add_bool(j, "added", false);
    return nib_json_add_text(j, "content", text.p, text.n) &&
           nib_json_add_bool(j, "special", a->control) &&
           nib_json_add_bool(j, "normalized", l->normalized[i]) &&
           nib_json_add_bool(j, "lstrip", a->lstrip) && nib_json_add_bool(j, "rstrip", a->rstrip) &&
           nib_json_add_bool(j, "single_word", a->single_word) &&
           (!l->normalized[i] || a->text.n != text.n || memcmp(a->text.p, text.p, text.n) ||
            nib_json_add_bool(j, "spelled", true));
}

static bool set_json(nib_gguf_kvs *kvs, const char *key, const nib_json *j)
{
    char *text = nib_json_print(j, false);
    const bool ok = text && nib_gguf_set_str(kvs, key, text, strlen(text));
    nib_free(text);
    return ok;
}

static bool write_added(const nib_tokenizer *t, const nib_str *written, nib_gguf_kvs *kvs)
{
    const size_t n = t->vocab.n;
    cut_list l = {nib_calloc(n, sizeof *l.added), nib_calloc(n, 1)};
    nib_json *root = nib_json_new_object();
    nib_json *list = root ? nib_json_add_array(root, "added_tokens") : NULL;
    bool ok = l.added && l.normalized && list;
    if (ok) {
        note_added(&l, &t->added, false);
        note_added(&l, &t->added_norm, true);
    }
    for (size_t i = 0; i < n && ok; i++) ok = add_entry(list, t, &l, i, written[i]);
    if (ok && nib_json_first(list)) ok = set_json(kvs, NIB_KEY_ADDED, list);
    nib_json_free(root);
    nib_free(l.added);
    nib_free(l.normalized);
    return ok;
}

/* ---- steps ---- */

/* The member of an object as text; NULL: no memory. */
static char *text_of(const nib_json *root, const char *member)
{
    return root ? nib_json_print(nib_json_get(root, member), false) : NULL;
}

/* Sets the key to the description of what the tokenizer does where the words mean another. */
static nib_code write_difference(nib_gguf_kvs *kvs, const char *key, const char *member,
                                 const nib_json *does, const nib_json *means, nib_err *err)
{
    char *a = text_of(does, member), *b = text_of(means, member);
    bool ok = a && b;
    if (ok && strcmp(a, b)) ok = nib_gguf_set_str(kvs, key, a, strlen(a));
    nib_free(a);
    nib_free(b);
    return ok ? NIB_OK : nib_fail_nomem(err, "metadata");
}

static nib_code describe(nib_json **out, const nib_normalizer *z, const nib_splitter *s,
                         const nib_decoder *d, nib_err *err)
{
    *out = nib_json_new_object();
    return *out && nib_normalizer_write(*out, z, false) && nib_splitter_write(*out, s) &&
                   nib_decoder_write(*out, d)
               ? NIB_OK
               : nib_fail_nomem(err, "metadata");
}

/* Of byte-level tokenizers: whether the name's splitter is the model's, however it is spelled. */
static nib_code splits_the_same(bool *same, const nib_tokenizer *t, const nib_gguf_words *w,
                                nib_err *err)
{
    *same = false;
    return w->rule ? nib_pre_is(same, w->rule, &t->splitter, err) : NIB_OK;
}

static nib_code write_steps(const nib_tokenizer *t, const nib_gguf_words *w, nib_gguf_kvs *kvs,
                            nib_err *err)
{
    nib_normalizer z = {0};
    nib_splitter s = {0};
    nib_decoder d = {0};
    nib_json *does = NULL, *means = NULL;
    bool same;
    nib_code rc = nib_gguf_normalizer(&z, w, err);
    if (!rc) rc = nib_gguf_splitter(&s, w, err);
    if (!rc) rc = nib_gguf_decoder(&d, w, err);
    if (!rc) rc = describe(&does, &t->normalizer, &t->splitter, &t->decoder, err);
    if (!rc) rc = describe(&means, &z, &s, &d, err);
    if (!rc && w->model != NIB_WORDS_GPT2)
        rc = write_difference(kvs, NIB_KEY_NORMALIZER, "normalizer", does, means, err);
    if (!rc) rc = splits_the_same(&same, t, w, err);
    if (!rc && !same) rc = write_difference(kvs, NIB_KEY_PRE, "pre_tokenizer", does, means, err);
    if (!rc) rc = write_difference(kvs, NIB_KEY_DECODER, "decoder", does, means, err);
    nib_json_free(does);
    nib_json_free(means);
    nib_normalizer_fini(&z);
    nib_splitter_fini(&s);
    nib_decoder_fini(&d);
    return rc;
}

/* ---- the rest ---- */

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

/* Is that all that goes on one side of a text: nothing, or this token? */
static bool is_one(const nib_ids *around, int32_t special)
{
    return !around->n || (around->n == 1 && around->id[0] == special);
}

static bool write_specials(const nib_tokenizer *t, nib_gguf_kvs *kvs)
{
    bool ok = true;
    const bool bos = is_one(&t->front, t->special[NIB_BOS]);
    const bool eos = is_one(&t->back, t->special[NIB_EOS]);
    for (int i = 0; i < NIB_N_SPECIAL; i++)
        if (t->special[i] >= 0)
            ok = ok && nib_gguf_set_u32(kvs, nib_gguf_special_key[i], (uint32_t)t->special[i]);
    ok = ok && nib_gguf_set_bool(kvs, "tokenizer.ggml.add_bos_token", bos && t->front.n) &&
         nib_gguf_set_bool(kvs, "tokenizer.ggml.add_eos_token", eos && t->back.n);
    if (!bos)
        ok = ok && nib_gguf_set_arr(kvs, NIB_KEY_FRONT, NIB_GGUF_I32, t->front.id, t->front.n);
    if (!eos) ok = ok && nib_gguf_set_arr(kvs, NIB_KEY_BACK, NIB_GGUF_I32, t->back.id, t->back.n);
    return ok;
}

static bool write_words(const nib_gguf_words *w, nib_gguf_kvs *kvs)
{
    if (w->model == NIB_WORDS_GPT2)
        return (!w->space_prefix ||
                nib_gguf_set_bool(kvs, "tokenizer.ggml.add_space_prefix", true)) &&
               (w->nfc == w->rule->nfc ||
                set_text(kvs, NIB_KEY_NORMALIZER, w->nfc ? "nfc" : "none"));
    bool ok = nib_gguf_set_bool(kvs, "tokenizer.ggml.add_space_prefix", w->space_prefix);
    if (w->model == NIB_WORDS_T5)
        ok = ok &&
             nib_gguf_set_bool(kvs, "tokenizer.ggml.remove_extra_whitespaces", w->remove_spaces);
    if (w->suffix)
        ok = ok && nib_gguf_set_bool(kvs, "tokenizer.ggml.treat_whitespace_as_suffix", true);
    if (w->model == NIB_WORDS_T5 && w->map)
        ok = ok && nib_gguf_set_arr(kvs, "tokenizer.ggml.precompiled_charsmap", NIB_GGUF_U8, w->map,
                                    w->n_map);
    return ok;
}

nib_code nib_tokenizer_to_gguf(const nib_tokenizer *t, size_t n_vocab, const char *pre,
                               nib_gguf_kvs *kvs, nib_err *err)
{
    nib_gguf_words w;
    token_arrays a = {0};
    const char *name;
    if (n_vocab < t->vocab.n)
        return nib_fail(err, NIB_EFORMAT,
                        "the tokenizer has %zu tokens, the embedding only %zu rows", t->vocab.n,
                        n_vocab);
    nib_code rc = find_words(t, pre, &w, &name, err);
    if (rc) return rc;
    if (!set_text(kvs, "tokenizer.ggml.model", t->model->gguf) ||
        !set_text(kvs, "tokenizer.ggml.pre", name))
        return nib_fail_nomem(err, "metadata");
    rc = fill_tokens(&a, t, n_vocab, err);
    if (!rc && (!nib_gguf_set_arr(kvs, "tokenizer.ggml.tokens", NIB_GGUF_STR, a.text, n_vocab) ||
                !nib_gguf_set_arr(kvs, "tokenizer.ggml.token_type", NIB_GGUF_I32, a.type, n_vocab)))
        rc = nib_fail_nomem(err, "vocabulary");
    if (!rc) rc = t->model->save_gguf(t->model, kvs, n_vocab, err);
    if (!rc && (!write_specials(t, kvs) || !write_words(&w, kvs) || !write_added(t, a.text, kvs)))
        rc = nib_fail_nomem(err, "metadata");
    if (!rc) rc = write_steps(t, &w, kvs, err);
    if (!rc) rc = write_templates(t, kvs, err);
    nib_free(a.text);
    nib_free(a.type);
    nib_free(a.blob);
    return rc;
}
