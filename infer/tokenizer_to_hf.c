/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_to_hf.c - a tokenizer as tokenizer.json and tokenizer_config.json: the way back
 * from GGUF. Tokens, merges, splitter, normalization, special tokens and chat templates are those
 * that the tokenizer has; nothing is made up. */
#include "base/utf8.h"
#include "infer/tokenizer_impl.h"

#include <string.h>

static nib_code no_memory(nib_err *err)
{
    return nib_fail_nomem(err, "tokenizer.json");
}

/* JSON holds text: no other bytes. */
static nib_code check_text(const nib_tokenizer *t, int32_t id, nib_err *err)
{
    const nib_str s = t->vocab.text[id];
    if (nib_utf8_bad(s.p, s.n) == s.n) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT, "token %d '%.80s' is no text that tokenizer.json can hold",
                    (int)id, s.p);
}

/* ---- tokens ---- */

/* What is to be written of each token. */
typedef struct {
    const nib_added **added; /* [n] NULL: an ordinary one        */
    bool *normalized;        /* [n] found in the normalized text */
    size_t n;                /* without the padding at the end   */
    size_t n_vocab;          /* the model's own; the rest are added tokens that follow */
} listing;

static void note_added(listing *l, const nib_added_set *s, bool normalized)
{
    for (size_t i = 0; i < s->n; i++) {
        l->added[s->t[i].id] = &s->t[i];
        l->normalized[s->t[i].id] = normalized;
    }
}

/* Readers number added tokens that the vocabulary lacks from its end on: so those at the end can
 * stay out of it if there is no gap among them. */
static nib_code list_tokens(listing *l, const nib_tokenizer *t, nib_err *err)
{
    const nib_vocab *v = &t->vocab;
    *l = (listing){nib_calloc(v->n, sizeof *l->added), nib_calloc(v->n, 1), v->n, 0};
    if (!l->added || !l->normalized) return no_memory(err);
    note_added(l, &t->added, false);
    note_added(l, &t->added_norm, true);
    while (l->n && v->type[l->n - 1] == NIB_TOKEN_UNUSED) l->n--;
    for (l->n_vocab = l->n; l->n_vocab && l->added[l->n_vocab - 1];) l->n_vocab--;
    if (!l->n_vocab) l->n_vocab = l->n;
    return NIB_OK;
}

static nib_code add_added(nib_json *root, const nib_tokenizer *t, const listing *l, nib_err *err)
{
    nib_json *list = nib_json_add_array(root, "added_tokens");
    bool ok = list;
    for (size_t i = 0; i < l->n && ok; i++) {
        const nib_added *a = l->added[i];
        if (!a) continue;
        nib_json *j = nib_json_add_object(list, NULL);
        ok = j && nib_json_add_num(j, "id", (double)i) &&
             nib_json_add_text(j, "content", t->vocab.text[i].p, t->vocab.text[i].n) &&
             nib_json_add_bool(j, "single_word", a->single_word) &&
             nib_json_add_bool(j, "lstrip", a->lstrip) &&
             nib_json_add_bool(j, "rstrip", a->rstrip) &&
             nib_json_add_bool(j, "normalized", l->normalized[i]) &&
             nib_json_add_bool(j, "special", a->control);
    }
    return ok ? NIB_OK : no_memory(err);
}

static nib_code add_model(nib_json *root, const nib_tokenizer *t, const listing *l, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < l->n && !rc; i++) rc = check_text(t, (int32_t)i, err);
    nib_json *model = rc ? NULL : nib_json_add_object(root, "model");
    if (rc) return rc;
    if (!model || !nib_json_add_str(model, "type", t->model->json)) return no_memory(err);
    return t->model->save_json(t->model, model, l->n_vocab, err);
}

/* ---- what goes around a text ---- */

/* {"SpecialToken": ...}, or {"Sequence": ...} where id is -1. */
static bool add_piece(nib_json *list, const nib_tokenizer *t, int32_t id, const char *sequence,
                      int type)
{
    nib_json *j = nib_json_add_object(list, NULL);
    nib_json *piece = j ? nib_json_add_object(j, id < 0 ? "Sequence" : "SpecialToken") : NULL;
    return piece && nib_json_add_str(piece, "id", id < 0 ? sequence : t->vocab.text[id].p) &&
           nib_json_add_num(piece, "type_id", type);
}

static bool add_pieces(nib_json *list, const nib_tokenizer *t, const nib_ids *ids, int type)
{
    bool ok = true;
    for (size_t i = 0; i < ids->n && ok; i++) ok = add_piece(list, t, ids->id[i], NULL, type);
    return ok;
}

/* One text with what goes before and behind it. */
static bool add_around(nib_json *list, const nib_tokenizer *t, const char *sequence, int type)
{
    return add_pieces(list, t, &t->front, type) && add_piece(list, t, -1, sequence, type) &&
           add_pieces(list, t, &t->back, type);
}

static bool add_special(nib_json *map, const nib_tokenizer *t, int32_t id)
{
    const char *text = t->vocab.text[id].p;
    nib_json *j = nib_json_get(map, text) ? NULL : nib_json_add_object(map, text);
    if (!j) return nib_json_get(map, text);
    nib_json *ids = nib_json_add_str(j, "id", text) ? nib_json_add_array(j, "ids") : NULL;
    nib_json *tokens =
        ids && nib_json_add_num(ids, NULL, id) ? nib_json_add_array(j, "tokens") : NULL;
    return tokens && nib_json_add_str(tokens, NULL, text);
}

static bool add_template(nib_json *root, const nib_tokenizer *t)
{
    nib_json *j = nib_json_add_object(root, "post_processor");
    bool ok = j && nib_json_add_str(j, "type", "TemplateProcessing");
    nib_json *single = ok ? nib_json_add_array(j, "single") : NULL;
    nib_json *pair = single && add_around(single, t, "A", 0) ? nib_json_add_array(j, "pair") : NULL;
    ok = pair && add_around(pair, t, "A", 0) && add_around(pair, t, "B", 1);
    nib_json *map = ok ? nib_json_add_object(j, "special_tokens") : NULL;
    ok = map;
    for (size_t i = 0; i < t->front.n && ok; i++) ok = add_special(map, t, t->front.id[i]);
    for (size_t i = 0; i < t->back.n && ok; i++) ok = add_special(map, t, t->back.id[i]);
    return ok;
}

static bool add_byte_level(nib_json *root, const char *key)
{
    nib_json *j = nib_json_add_object(root, key);
    return j && nib_json_add_str(j, "type", "ByteLevel") &&
           nib_json_add_bool(j, "add_prefix_space", false) &&
           nib_json_add_bool(j, "trim_offsets", false) && nib_json_add_bool(j, "use_regex", false);
}

static nib_code write_tokenizer(nib_json *root, const nib_tokenizer *t, const listing *l,
                                nib_err *err)
{
    bool ok = nib_json_add_str(root, "version", "1.0") && nib_json_add_null(root, "truncation") &&
              nib_json_add_null(root, "padding");
    nib_code rc = ok ? add_added(root, t, l, err) : no_memory(err);
    const char *own = nib_splitter_own(&t->splitter);
    if (!rc && own)
        rc = nib_fail(err, NIB_EFORMAT, "%s as '%s' does, which tokenizer.json cannot say", own,
                      t->pre ? t->pre : "it");
    if (!rc && (!nib_normalizer_write(root, &t->normalizer, true) ||
                !nib_splitter_write(root, &t->splitter)))
        rc = no_memory(err);
    if (rc) return rc;
    const bool bytes = nib_splitter_has(&t->splitter, NIB_SPLIT_BYTES);
    ok = (t->front.n || t->back.n ? add_template(root, t)
          : bytes                 ? add_byte_level(root, "post_processor")
                                  : nib_json_add_null(root, "post_processor")) &&
         nib_decoder_write(root, &t->decoder);
    return ok ? add_model(root, t, l, err) : no_memory(err);
}

/* ---- the configuration ---- */

static bool add_templates(nib_json *config, const nib_tokenizer *t)
{
    if (!t->n_tmpl) return true;
    if (t->n_tmpl == 1 && !strcmp(t->tmpl[0].name, "default"))
        return nib_json_add_str(config, "chat_template", t->tmpl[0].text);
    nib_json *list = nib_json_add_array(config, "chat_template");
    bool ok = list;
    for (size_t i = 0; i < t->n_tmpl && ok; i++) {
        nib_json *j = nib_json_add_object(list, NULL);
        ok = j && nib_json_add_str(j, "name", t->tmpl[i].name) &&
             nib_json_add_str(j, "template", t->tmpl[i].text);
    }
    return ok;
}

bool nib_tokenizer_add_specials(nib_json *to, const nib_tokenizer *t)
{
    static const char *const key[NIB_N_SPECIAL] = {
        [NIB_BOS] = "bos_token",  [NIB_EOS] = "eos_token", [NIB_UNK] = "unk_token",
        [NIB_SEP] = "sep_token",  [NIB_PAD] = "pad_token", [NIB_CLS] = "cls_token",
        [NIB_MASK] = "mask_token"};
    bool ok = true;
    for (int i = 0; i < NIB_N_SPECIAL && ok; i++)
        if (t->special[i] >= 0) ok = nib_json_add_str(to, key[i], t->vocab.text[t->special[i]].p);
    return ok;
}

static bool write_config(nib_json *config, const nib_tokenizer *t, size_t n_ctx)
{
    bool ok = nib_json_add_str(config, "tokenizer_class", "PreTrainedTokenizerFast") &&
              nib_json_add_num(config, "model_max_length", (double)n_ctx) &&
              nib_json_add_bool(config, "clean_up_tokenization_spaces", false) &&
              nib_json_add_bool(config, "add_bos_token", nib_tokenizer_adds_bos(t)) &&
              nib_json_add_bool(config, "add_eos_token", nib_tokenizer_adds_eos(t));
    return ok && nib_tokenizer_add_specials(config, t) && add_templates(config, t);
}

nib_code nib_tokenizer_to_hf(const nib_tokenizer *t, size_t n_ctx, nib_json *tokenizer,
                             nib_json *config, nib_err *err)
{
    listing l;
    nib_code rc = list_tokens(&l, t, err);
    if (!rc) rc = write_tokenizer(tokenizer, t, &l, err);
    if (!rc && !write_config(config, t, n_ctx)) rc = no_memory(err);
    nib_free(l.added);
    nib_free(l.normalized);
    return rc;
}

bool nib_tokenizer_add_ids(nib_json *to, const nib_tokenizer *t)
{
    static const struct {
        int special;
        const char *key;
    } ids[] = {{NIB_BOS, "bos_token_id"}, {NIB_EOS, "eos_token_id"}, {NIB_PAD, "pad_token_id"}};
    bool ok = true;
    for (size_t i = 0; i < sizeof ids / sizeof *ids && ok; i++)
        if (t->special[ids[i].special] >= 0)
            ok = nib_json_add_num(to, ids[i].key, t->special[ids[i].special]);
    return ok;
}
