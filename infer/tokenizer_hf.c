/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_hf.c - a tokenizer from a Hugging Face folder: tokenizer.json and, for special
 * tokens and templates, the configuration files beside it; where there is no tokenizer.json, from
 * another file that has the vocabulary.
 *
 * Any part of the description that would change ids and that nibble does not carry out is an error,
 * never passed over.
 *
 * Tests: tests/infer/test_tokenizer.c, tests/infer/test_tokenizer_bad.c. */
#include "infer/tokenizer_hf.h"

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

static bool is_bpe(const nib_json *model)
{
    return is_type(model, "BPE") || (!nib_json_get(model, "type") && nib_json_get(model, "merges"));
}

static nib_code check_model(const nib_json *model, nib_err *err)
{
    double dropout = 0;
    if (!nib_json_is_object(model))
        return nib_fail(err, NIB_EFORMAT, "tokenizer.json has no model");
    if (is_type(model, "Unigram") || is_type(model, "WordPiece")) return NIB_OK;
    if (!is_bpe(model))
        return nib_fail(err, NIB_EFORMAT,
                        "model of type '%.60s'; supported are BPE, Unigram and WordPiece",
                        type_of(model));
    if (is_set(model, "continuing_subword_prefix") || is_set(model, "end_of_word_suffix"))
        return nib_fail(err, NIB_EFORMAT,
                        "BPE with a subword prefix or suffix; supported is BPE without");
    if (nib_json_num(nib_json_get(model, "dropout"), &dropout) && dropout > 0)
        return nib_fail(err, NIB_EFORMAT, "BPE with dropout %g; supported is none", dropout);
    return NIB_OK;
}

/* "left right", or a pair of strings. */
static nib_code read_merge(nib_token_list *l, const nib_vocab *v, nib_bpe *b, const nib_json *j,
                           nib_err *err)
{
    const char *s, *left, *right;
    if (nib_json_text(j, &s)) {
        const char *gap = *s ? strchr(s + 1, ' ') : NULL;
        if (!gap) goto fail;
        const nib_str all = nib_list_text(l, s);
        if (!all.p) return nib_fail_nomem(err, "merges");
        gap = memchr(all.p + 1, ' ', all.n - 1);
        const size_t k = (size_t)(gap - all.p);
        return nib_merges_add(v, b, (nib_str){all.p, k}, (nib_str){gap + 1, all.n - k - 1}, err);
    }
    if (nib_json_is_array(j) && nib_json_count(j) == 2 && nib_json_text(nib_json_first(j), &left) &&
        nib_json_text(nib_json_next(nib_json_first(j)), &right)) {
        const nib_str a = nib_list_text(l, left), z = nib_list_text(l, right);
        return a.p && z.p ? nib_merges_add(v, b, a, z, err) : nib_fail_nomem(err, "merges");
    }
fail:
    return nib_fail(err, NIB_EFORMAT, "merge %u is neither 'left right' nor a pair", b->n);
}

static nib_code read_merges(nib_token_list *l, const nib_vocab *v, nib_bpe *b,
                            const nib_json *model, nib_err *err)
{
    const nib_json *list = nib_json_get(model, "merges");
    if (!nib_json_is_array(list)) return nib_fail(err, NIB_EFORMAT, "model has no merges");
    nib_code rc = nib_bpe_init(b, nib_json_count(list), err);
    for (const nib_json *c = nib_json_first(list); c && !rc; c = nib_json_next(c))
        rc = read_merge(l, v, b, c, err);
    return rc;
}

/* The id of the model's unknown token; -1: it has none. */
static nib_code find_unknown(int32_t *id, const nib_tokenizer *t, const nib_json *model,
                             nib_err *err)
{
    const char *text;
    uint64_t n;
    *id = -1;
    if (nib_json_u64(nib_json_get(model, "unk_id"), &n)) {
        if (n >= t->vocab.n)
            return nib_fail(err, NIB_EFORMAT, "unk_id %llu in a vocabulary of %zu",
                            (unsigned long long)n, t->vocab.n);
        *id = (int32_t)n;
    } else if (nib_json_str(nib_json_get(model, "unk_token"), &text) && *text) {
        *id = nib_vocab_find(&t->vocab, text, strlen(text));
        if (*id < 0)
            return nib_fail(err, NIB_EFORMAT, "unknown token '%.80s' is not in the vocabulary",
                            text);
    }
    return NIB_OK;
}

static nib_code make_bpe(nib_tokenizer *t, nib_token_list *l, const nib_json *model, int32_t unk,
                         nib_err *err)
{
    nib_bpe b = {0};
    const bool bytes = nib_splitter_has(&t->splitter, NIB_SPLIT_BYTES);
    nib_code rc = read_merges(l, &t->vocab, &b, model, err);
    if (!rc && bytes) {
        rc = nib_word_bytes_new(&t->model, &t->vocab, &b, flag(model, "ignore_merges"), err);
        const unsigned missing = rc ? 256 : nib_word_bytes_missing(t->model);
        if (missing < 256 && is_set(model, "unk_token"))
            rc = nib_fail(err, NIB_EFORMAT,
                          "no token for byte 0x%02X, which would become the "
                          "unknown token; supported are vocabularies that have "
                          "all bytes or no unknown token",
                          missing);
    } else if (!rc) {
        const nib_word_chars_opts opts = {.unk = unk,
                                          .fuse_unk = flag(model, "fuse_unk"),
                                          .byte_fallback = flag(model, "byte_fallback"),
                                          .ignore_merges = flag(model, "ignore_merges")};
        rc = nib_word_chars_new(&t->model, &t->vocab, &b, &opts, NULL, err);
    }
    nib_bpe_fini(&b);
    return rc;
}

static nib_code make_wordpiece(nib_tokenizer *t, const double *score, const nib_json *model,
                               int32_t unk, nib_err *err)
{
    const char *prefix = "##";
    uint64_t max = 100;
    nib_json_str(nib_json_get(model, "continuing_subword_prefix"), &prefix);
    nib_json_u64(nib_json_get(model, "max_input_chars_per_word"), &max);
    if (unk < 0) return nib_fail(err, NIB_EFORMAT, "WordPiece without an unknown token");
    return nib_word_wordpiece_new(&t->model, &t->vocab, score, unk, prefix,
                                  max < 10000 ? (size_t)max : 10000, err);
}

/* Types that the model's part gives to tokens: the unknown one, and those of bytes. */
static void set_types(nib_tokenizer *t, const nib_json *model, int32_t unk)
{
    int32_t byte_id[256];
    if (unk >= 0) t->vocab.type[unk] = NIB_TOKEN_UNKNOWN;
    if (!flag(model, "byte_fallback")) return;
    nib_vocab_bytes(&t->vocab, byte_id);
    for (int b = 0; b < 256; b++)
        if (byte_id[b] >= 0) t->vocab.type[byte_id[b]] = NIB_TOKEN_BYTE;
}

static nib_code make_model(nib_tokenizer *t, nib_token_list *l, const nib_json *model, nib_err *err)
{
    int32_t unk;
    if (nib_splitter_has(&t->splitter, NIB_SPLIT_BYTES)) {
        if (is_bpe(model)) return make_bpe(t, l, model, -1, err);
        return nib_fail(err, NIB_EFORMAT, "pre_tokenizer ByteLevel with a model of type '%.60s'",
                        type_of(model));
    }
    nib_code rc = find_unknown(&unk, t, model, err);
    if (rc) return rc;
    set_types(t, model, unk);
    t->special[NIB_UNK] = unk;
    if (is_bpe(model)) return make_bpe(t, l, model, unk, err);
    if (is_type(model, "WordPiece")) return make_wordpiece(t, l->score, model, unk, err);
    return nib_word_unigram_new(&t->model, &t->vocab, l->score, unk, flag(model, "byte_fallback"),
                                true, err);
}

/* ---- what goes around a text ---- */

typedef struct {
    bool given; /* there is a template at all */
    nib_ids front, back;
} around;

/* A special token of a template: the ids that it names. */
static nib_code add_special(const nib_tokenizer *t, const nib_json *j, const nib_json *special,
                            nib_ids *to, nib_err *err)
{
    const char *s;
    uint64_t id;
    nib_code rc = NIB_OK;
    if (!nib_json_str(nib_json_get(special, "id"), &s)) s = "";
    const nib_json *ids = nib_json_get(nib_json_get(nib_json_get(j, "special_tokens"), s), "ids");
    const nib_json *c = nib_json_first(ids);
    if (!c) {
        const int32_t one = nib_vocab_find(&t->vocab, s, strlen(s));
        if (one < 0)
            return nib_fail(err, NIB_EFORMAT, "post_processor adds a token that is not known");
        return nib_ids_add(to, &one, 1, err);
    }
    for (; c && !rc; c = nib_json_next(c)) {
        if (!nib_json_u64(c, &id) || id >= t->vocab.n)
            return nib_fail(err, NIB_EFORMAT, "post_processor adds a token that is not known");
        const int32_t one = (int32_t)id;
        rc = nib_ids_add(to, &one, 1, err);
    }
    return rc;
}

static nib_code read_template(around *a, const nib_tokenizer *t, const nib_json *j, nib_err *err)
{
    bool seen = false;
    nib_code rc = NIB_OK;
    a->given = true;
    const nib_json *c = nib_json_first(nib_json_get(j, "single"));
    for (; c && !rc; c = nib_json_next(c)) {
        const nib_json *special = nib_json_get(c, "SpecialToken");
        if (special)
            rc = add_special(t, j, special, seen ? &a->back : &a->front, err);
        else
            seen = true;
    }
    return rc;
}

/* ["[CLS]", 101] */
static nib_code add_pair(const nib_tokenizer *t, const nib_json *j, nib_ids *to, nib_err *err)
{
    uint64_t id;
    const nib_json *text = nib_json_is_array(j) ? nib_json_first(j) : NULL;
    if (!text || !nib_json_u64(nib_json_next(text), &id) || id >= t->vocab.n)
        return nib_fail(err, NIB_EFORMAT, "post_processor adds a token that is not known");
    const int32_t one = (int32_t)id;
    return nib_ids_add(to, &one, 1, err);
}

static nib_code read_post(around *a, const nib_tokenizer *t, const nib_json *j, nib_err *err)
{
    nib_code rc = NIB_OK;
    if (!j || nib_json_is_null(j) || is_type(j, "ByteLevel")) return NIB_OK;
    if (is_type(j, "TemplateProcessing")) return read_template(a, t, j, err);
    if (is_type(j, "BertProcessing") || is_type(j, "RobertaProcessing")) {
        a->given = true;
        rc = add_pair(t, nib_json_get(j, "cls"), &a->front, err);
        return rc ? rc : add_pair(t, nib_json_get(j, "sep"), &a->back, err);
    }
    if (!is_type(j, "Sequence"))
        return nib_fail(err, NIB_EFORMAT,
                        "post_processor of type '%.60s'; supported are TemplateProcessing, "
                        "BertProcessing, RobertaProcessing, ByteLevel and Sequence",
                        type_of(j));
    const nib_json *c = nib_json_first(nib_json_get(j, "processors"));
    for (; c && !rc; c = nib_json_next(c)) rc = read_post(a, t, c, err);
    return rc;
}

/* What is added on one side: the configuration's word counts most, which is about `special` (BOS or
 * EOS) alone, then the template's, then `otherwise`. */
static nib_code decide(nib_ids *to, int32_t *special, const nib_json *said, bool given,
                       const nib_ids *from, bool otherwise, nib_err *err)
{
    bool add = otherwise;
    const bool is_said = nib_json_bool(said, &add);
    if (given && !is_said) {
        if (from->n == 1 && *special < 0) *special = from->id[0];
        return nib_ids_add(to, from->id, from->n, err);
    }
    return nib_ids_add(to, special, add && *special >= 0, err);
}

nib_code nib_hf_around(nib_tokenizer *t, const nib_source *src, const nib_json *post, bool bos,
                       bool eos, nib_err *err)
{
    around a = {0};
    const nib_json *config = nib_source_json(src, "tokenizer_config.json");
    nib_code rc = read_post(&a, t, post, err);
    if (!rc)
        rc = decide(&t->front, &t->special[NIB_BOS], nib_json_get(config, "add_bos_token"), a.given,
                    &a.front, bos, err);
    if (!rc)
        rc = decide(&t->back, &t->special[NIB_EOS], nib_json_get(config, "add_eos_token"), a.given,
                    &a.back, eos, err);
    nib_ids_free(&a.front);
    nib_ids_free(&a.back);
    return rc;
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
        if (text) rc = nib_tokenizer_add_template(t, nib_str_of(file[i][0]), nib_str_of(text), err);
    }
    return rc;
}

/* As in Transformers the files count, all of them, before what is in tokenizer_config.json. */
nib_code nib_hf_templates(nib_tokenizer *t, const nib_source *src, nib_err *err)
{
    const nib_json *j =
        nib_json_get(nib_source_json(src, "tokenizer_config.json"), "chat_template");
    const char *name, *text = nib_source_text(src, "chat_template.jinja");
    const bool files = text;
    nib_code rc = NIB_OK;
    if (text || nib_json_str(j, &text)) {
        rc = nib_tokenizer_add_template(t, nib_str_of("default"), nib_str_of(text), err);
        return rc || !files ? rc : read_additional(t, src, err);
    }
    const nib_json *c = nib_json_is_array(j) ? nib_json_first(j) : NULL;
    for (; c && !rc; c = nib_json_next(c))
        if (nib_json_str(nib_json_get(c, "name"), &name) &&
            nib_json_str(nib_json_get(c, "template"), &text))
            rc = nib_tokenizer_add_template(t, nib_str_of(name), nib_str_of(text), err);
    if (rc || t->n_tmpl ||
        !nib_json_str(nib_json_get(nib_source_json(src, "chat_template.json"), "chat_template"),
                      &text))
        return rc;
    return nib_tokenizer_add_template(t, nib_str_of("default"), nib_str_of(text), err);
}

/* ---- all of it ---- */

nib_code nib_hf_name(nib_tokenizer *t, bool ignore_merges, nib_err *err)
{
    nib_code rc = nib_pre_of_splitter(&t->rule, &t->splitter, ignore_merges, err);
    if (rc || !t->rule) return rc;
    t->pre = nib_strndup(t->rule->names, strcspn(t->rule->names, " "));
    return t->pre ? NIB_OK : nib_fail_nomem(err, "pre-tokenizer");
}

static nib_code read_steps(nib_tokenizer *t, const nib_json *tj, nib_err *err)
{
    nib_code rc = nib_normalizer_read(&t->normalizer, nib_json_get(tj, "normalizer"), NULL, 0, err);
    if (!rc) rc = nib_splitter_read(&t->splitter, nib_json_get(tj, "pre_tokenizer"), err);
    if (!rc) rc = nib_decoder_read(&t->decoder, nib_json_get(tj, "decoder"), err);
    if (rc || t->decoder.n) return rc;
    const bool bytes = nib_splitter_has(&t->splitter, NIB_SPLIT_BYTES);
    return nib_decoder_add(&t->decoder, bytes ? NIB_DECODE_BYTE_LEVEL : NIB_DECODE_SPACES, err);
}

static nib_code from_json(nib_tokenizer *t, nib_token_list *l, const nib_source *src,
                          const nib_json *tj, nib_err *err)
{
    nib_code rc;
    const nib_json *model = nib_json_get(tj, "model");
    if ((rc = check_model(model, err))) return rc;
    if ((rc = read_steps(t, tj, err))) return rc;
    l->alphabet =
        nib_splitter_has(&t->splitter, NIB_SPLIT_BYTES) || nib_decoder_wants_bytes(&t->decoder);
    if ((rc = nib_hf_name(t, flag(model, "ignore_merges"), err))) return rc;
    if ((rc = nib_list_json(l, tj, err))) return rc;
    if ((rc = nib_list_vocab(t, l, src, err))) return rc;
    if ((rc = make_model(t, l, model, err))) return rc;
    if ((rc = nib_list_set_added(t, l, err))) return rc;
    nib_list_specials(t, src);
    return nib_hf_around(t, src, nib_json_get(tj, "post_processor"), t->rule && t->rule->add_bos,
                         false, err);
}

/* A SentencePiece model begins with its first field, a piece; tiktoken's ranks are text. */
static bool is_spm(const char *data, size_t n)
{
    return n && data[0] == 0x0A;
}

/* Where tokenizer.json has SentencePiece's merges: the scores that its own file has, for GGUF. */
static nib_code add_scores(nib_tokenizer *t, const nib_source *src, nib_err *err)
{
    size_t n;
    bool found = false;
    const char *data = nib_source_bytes(src, "tokenizer.model", &n);
    if (!data || !is_spm(data, n) || !t->model->gguf || strcmp(t->model->gguf, "llama"))
        return NIB_OK;
    float *score = nib_alloc(t->vocab.n, sizeof *score);
    if (!score) return nib_fail_nomem(err, "scores");
    nib_code rc = nib_spm_scores(&t->vocab, data, n, score, &found, err);
    if (!rc && found) rc = nib_word_chars_set_scores(t->model, score, err);
    nib_free(score);
    return rc ? nib_wrap(err, "tokenizer.model") : NIB_OK;
}

static nib_code from_other(nib_tokenizer *t, const nib_source *src, nib_err *err)
{
    static const char *const files[] = {"tokenizer.model", "tiktoken.model", "qwen.tiktoken",
                                        "hy.tiktoken"};
    const nib_json *tekken = nib_source_json(src, "tekken.json");
    if (tekken) return nib_tokenizer_from_tekken(t, src, tekken, err);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        size_t n;
        const char *data = nib_source_bytes(src, files[i], &n);
        if (!data) continue;
        return is_spm(data, n) ? nib_tokenizer_from_spm(t, src, data, n, err)
                               : nib_tokenizer_from_ranks(t, src, files[i], data, n, err);
    }
    return nib_fail(err, NIB_EFORMAT,
                    "there is no tokenizer.json, nor tokenizer.model, tekken.json or tiktoken's "
                    "ranks in its place");
}

nib_code nib_tokenizer_from_hf(nib_tokenizer *t, const nib_source *src, nib_err *err)
{
    const nib_json *tj = nib_source_json(src, "tokenizer.json");
    nib_token_list l = {0};
    nib_code rc = tj ? from_json(t, &l, src, tj, err) : from_other(t, src, err);
    nib_list_fini(&l);
    if (!rc && tj) rc = add_scores(t, src, err);
    return rc ? rc : nib_hf_templates(t, src, err);
}
