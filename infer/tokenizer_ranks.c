/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_ranks.c - byte-level BPE from ranks alone: Mistral's tekken.json and tiktoken's
 * files of lines "BASE64 RANK".
 *
 * Such files have no merges: of all adjacent pairs whose bytes together are a token, the one of
 * lowest rank is joined, and a word that is a token is that token. tekken.json has its expression
 * for splitting; tiktoken's files have none, it goes with their name.
 *
 * Tests: tests/infer/test_tokenizer_golden.c. */
#include "infer/tokenizer_alphabet.h"
#include "infer/tokenizer_hf.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- both ---- */

/* A token of these bytes, in the byte alphabet. */
static nib_code put_bytes(nib_token_list *l, const char *bytes, size_t n, uint64_t id, nib_err *err)
{
    char *text = nib_arena_alloc(&l->arena, 2 * n + 1, 1, 1);
    size_t k = 0;
    if (!text) return nib_fail_nomem(err, "vocabulary");
    for (size_t i = 0; i < n; i++) {
        char c[4];
        const size_t len = nib_alphabet_put(c, (unsigned char)bytes[i]);
        memcpy(text + k, c, len);
        k += len;
    }
    text[k] = 0;
    return nib_list_put(l, (nib_str){text, k}, id, NIB_TOKEN_NORMAL, 0, err);
}

static nib_code put_special(nib_token_list *l, const char *text, uint64_t id, bool control,
                            nib_err *err)
{
    const nib_str copy = {nib_arena_str(&l->arena, text, strlen(text)), strlen(text)};
    const nib_listed_added a = {.text = copy, .id = id, .special = control};
    nib_code rc = nib_list_add(l, a, err);
    return rc ? rc
              : nib_list_put(l, copy, id, control ? NIB_TOKEN_CONTROL : NIB_TOKEN_USER, 0, err);
}

/* The rest, once tokens are listed: `first` is the id of rank 0. */
static nib_code finish(nib_tokenizer *t, nib_token_list *l, const nib_source *src,
                       const char *pattern, nib_err *err)
{
    nib_bpe b = {0};
    uint32_t *rank = NULL;
    nib_code rc = nib_splitter_add_regex(&t->splitter, NIB_DIALECT_TIKTOKEN, pattern, err);
    if (!rc) rc = nib_splitter_add_bytes(&t->splitter, err);
    if (!rc) rc = nib_decoder_add(&t->decoder, NIB_DECODE_BYTE_LEVEL, err);
    if (!rc) rc = nib_hf_name(t, true, err);
    if (!rc) rc = nib_list_vocab(t, l, src, err);
    if (!rc && !(rank = nib_alloc(t->vocab.n, sizeof *rank)))
        rc = nib_fail_nomem(err, "vocabulary");
    for (size_t i = 0; !rc && i < t->vocab.n; i++)
        rank[i] = t->vocab.type[i] == NIB_TOKEN_NORMAL ? (uint32_t)i : UINT32_MAX;
    if (!rc)
        rc = nib_merges_from_ranks(&t->vocab, &b, t->vocab.raw, nib_vocab_find_raw, rank, false,
                                   err);
    if (!rc) rc = nib_word_bytes_new(&t->model, &t->vocab, &b, true, err);
    nib_bpe_fini(&b);
    nib_free(rank);
    if (!rc) rc = nib_list_set_added(t, l, err);
    if (rc) return rc;
    nib_list_specials(t, src);
    return nib_hf_around(t, src, NULL, t->rule && t->rule->add_bos, false, err);
}

/* ---- tekken.json ---- */

/* Special tokens of files that do not list them. */
static const char *const tekken_specials[] = {"<unk>",
                                              "<s>",
                                              "</s>",
                                              "[INST]",
                                              "[/INST]",
                                              "[AVAILABLE_TOOLS]",
                                              "[/AVAILABLE_TOOLS]",
                                              "[TOOL_RESULTS]",
                                              "[/TOOL_RESULTS]",
                                              "[TOOL_CALLS]",
                                              "[IMG]",
                                              "<pad>",
                                              "[IMG_BREAK]",
                                              "[IMG_END]",
                                              "[PREFIX]",
                                              "[MIDDLE]",
                                              "[SUFFIX]",
                                              "[SYSTEM_PROMPT]",
                                              "[/SYSTEM_PROMPT]",
                                              "[TOOL_CONTENT]"};

static nib_code list_specials(nib_token_list *l, const nib_json *list, uint64_t n, nib_err *err)
{
    nib_code rc = NIB_OK;
    const size_t known = sizeof tekken_specials / sizeof *tekken_specials;
    char name[32];
    for (const nib_json *c = nib_json_first(list); c && !rc; c = nib_json_next(c)) {
        uint64_t id = NIB_NO_ID;
        const char *text = "";
        bool control = true;
        nib_json_u64(nib_json_get(c, "rank"), &id);
        nib_json_str(nib_json_get(c, "token_str"), &text);
        nib_json_bool(nib_json_get(c, "is_control"), &control);
        if (id >= n)
            return nib_fail(err, NIB_EFORMAT, "special token '%.80s' is not among the first %llu",
                            text, (unsigned long long)n);
        rc = put_special(l, text, id, control, err);
    }
    for (uint64_t i = 0; i < n && !rc; i++) {
        if (i < l->n && l->text[i].p) continue;
        snprintf(name, sizeof name, "<SPECIAL_%llu>", (unsigned long long)i);
        rc = put_special(l, !list && i < known ? tekken_specials[i] : name, i, true, err);
    }
    return rc;
}

static nib_code list_vocab(nib_token_list *l, const nib_json *vocab, uint64_t n_special,
                           uint64_t n_vocab, nib_err *err)
{
    nib_text bytes = {0};
    nib_code rc = NIB_OK;
    for (const nib_json *c = nib_json_first(vocab); c && !rc; c = nib_json_next(c)) {
        uint64_t rank;
        const char *text;
        if (!nib_json_u64(nib_json_get(c, "rank"), &rank) ||
            !nib_json_str(nib_json_get(c, "token_bytes"), &text)) {
            rc = nib_fail(err, NIB_EFORMAT, "an entry of vocab has no rank or no token_bytes");
            break;
        }
        if (rank >= n_vocab - n_special) continue; /* more than the model has */
        bytes.n = 0;
        rc = nib_text_add_base64(&bytes, text, strlen(text), err);
        if (!rc) rc = put_bytes(l, bytes.p, bytes.n, rank + n_special, err);
    }
    nib_free(bytes.p);
    return rc;
}

static nib_code from_tekken(nib_tokenizer *t, nib_token_list *l, const nib_source *src,
                            const nib_json *j, nib_err *err)
{
    const nib_json *config = nib_json_get(j, "config");
    const char *pattern;
    uint64_t n_vocab, n_special;
    l->alphabet = true;
    if (!nib_json_str(nib_json_get(config, "pattern"), &pattern) ||
        !nib_json_u64(nib_json_get(config, "default_vocab_size"), &n_vocab) ||
        !nib_json_u64(nib_json_get(config, "default_num_special_tokens"), &n_special))
        return nib_fail(err, NIB_EFORMAT,
                        "config lacks pattern, default_vocab_size or default_num_special_tokens");
    if (n_vocab > NIB_VOCAB_MAX || n_special > n_vocab)
        return nib_fail(err, NIB_EFORMAT, "a vocabulary of %llu tokens, %llu of them special",
                        (unsigned long long)n_vocab, (unsigned long long)n_special);
    const nib_json *special = nib_json_get(j, "special_tokens");
    nib_code rc = list_specials(l, nib_json_is_array(special) ? special : NULL, n_special, err);
    if (!rc) rc = list_vocab(l, nib_json_get(j, "vocab"), n_special, n_vocab, err);
    if (!rc && l->n == n_special) rc = nib_fail(err, NIB_EFORMAT, "there is no vocab");
    if (!rc) rc = finish(t, l, src, pattern, err);
    if (rc) return rc;
    static const struct {
        int which;
        const char *text;
    } named[] = {{NIB_UNK, "<unk>"}, {NIB_BOS, "<s>"}, {NIB_EOS, "</s>"}, {NIB_PAD, "<pad>"}};
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        if (t->special[named[i].which] < 0)
            t->special[named[i].which] =
                nib_vocab_find(&t->vocab, named[i].text, strlen(named[i].text));
    t->front.n = t->back.n = 0;
    return nib_hf_around(t, src, NULL, true, false, err);
}

nib_code nib_tokenizer_from_tekken(nib_tokenizer *t, const nib_source *src, const nib_json *j,
                                   nib_err *err)
{
    nib_token_list l = {0};
    nib_code rc = from_tekken(t, &l, src, j, err);
    nib_list_fini(&l);
    return rc ? nib_wrap(err, "tekken.json") : NIB_OK;
}

/* ---- tiktoken ---- */

/* The splitter of a file, by GGUF's name. */
static const char *pre_of_file(const char *file)
{
    static const char *const names[][2] = {{"qwen.tiktoken", "qwen2"},
                                           {"hy.tiktoken", "hunyuan"},
                                           {"tiktoken.model", "kimi-k2"},
                                           {"tokenizer.model", "llama-bpe"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i][0], file)) return names[i][1];
    return "gpt-2";
}

/* One line, without its end. */
static nib_code read_line(nib_token_list *l, const char *p, size_t n, nib_text *bytes, nib_err *err)
{
    const char *gap = memchr(p, ' ', n);
    uint64_t rank = 0;
    size_t i = gap ? (size_t)(gap - p) + 1 : n;
    const size_t from = i;
    for (; i < n && p[i] >= '0' && p[i] <= '9' && rank < NIB_VOCAB_MAX; i++)
        rank = 10 * rank + (uint64_t)(p[i] - '0');
    if (i == from || i < n)
        return nib_fail(err, NIB_EFORMAT, "a line '%.*s' is no token and its rank",
                        (int)(n < 60 ? n : 60), p);
    bytes->n = 0;
    nib_code rc = nib_text_add_base64(bytes, p, (size_t)(gap - p), err);
    return rc ? rc : put_bytes(l, bytes->p, bytes->n, rank, err);
}

static const char NFC[] = "{\"type\":\"NFC\"}";

static nib_code from_ranks(nib_tokenizer *t, nib_token_list *l, const nib_source *src,
                           const char *file, const char *text, size_t n, nib_err *err)
{
    nib_text bytes = {0};
    const nib_pre_rule *rule;
    nib_code rc = NIB_OK;
    const char *pre = pre_of_file(file);
    l->alphabet = true;
    for (const char *p = text, *all = text + n; p < all && !rc;) {
        const char *end = memchr(p, '\n', (size_t)(all - p));
        if (!end) end = all;
        const size_t k = (size_t)(end - p) - (end > p && end[-1] == '\r');
        if (k) rc = read_line(l, p, k, &bytes, err);
        p = end + 1;
    }
    nib_free(bytes.p);
    if (!rc) rc = nib_pre_by_name(&rule, pre, strlen(pre), err);
    if (!rc && rule->nfc) rc = nib_normalizer_parse(&t->normalizer, NFC, strlen(NFC), NULL, 0, err);
    return rc ? rc : finish(t, l, src, rule->step[0], err);
}

nib_code nib_tokenizer_from_ranks(nib_tokenizer *t, const nib_source *src, const char *file,
                                  const char *text, size_t n, nib_err *err)
{
    nib_token_list l = {0};
    nib_code rc = from_ranks(t, &l, src, file, text, n, err);
    nib_list_fini(&l);
    return rc ? nib_wrap(err, "%s", file) : NIB_OK;
}
