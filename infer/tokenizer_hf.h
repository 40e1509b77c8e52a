/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_hf.h - inside the tokenizer: reading a folder. Whatever file the vocabulary is
 * in, tokens are listed first, then completed from the configuration files beside it. */
#ifndef NIB_INFER_TOKENIZER_HF_H
#define NIB_INFER_TOKENIZER_HF_H

#include "base/arena.h"
#include "infer/tokenizer_impl.h"

#include <string.h>

static inline nib_str nib_str_of(const char *s)
{
    return (nib_str){s, strlen(s)};
}

/* Tokens by id, and those of them that are cut out of the text. */
typedef struct {
    nib_str text; /* p NULL: there is none */
    uint64_t id;  /* NIB_NO_ID: not given  */
    bool special, normalized, lstrip, rstrip, single_word;
    bool spelled; /* see nib_added_token */
    bool older;   /* of added_tokens.json: found in normalized text unless it is special */
} nib_listed_added;

typedef struct {
    nib_str *text; /* [n]; p NULL where no token has the id */
    uint8_t *type; /* [n] */
    double *score; /* [n] */
    size_t n, cap;
    uint64_t rows; /* of the embedding, as config.json has it */
    bool alphabet; /* normal tokens are in the byte alphabet  */
    nib_listed_added *added;
    size_t n_added, cap_added;
    nib_arena arena; /* texts that are nobody else's */
} nib_token_list;

#define NIB_NO_ID UINT64_MAX

/* A JSON text or key as bytes; lives as long as the list and the JSON. p NULL: no memory, or s NULL
 */
nib_str nib_list_text(nib_token_list *l, const char *s);
NIB_MUST_USE nib_code nib_list_put(nib_token_list *l, nib_str text, uint64_t id, uint8_t type,
                                   double score, nib_err *err);
NIB_MUST_USE nib_code nib_list_add(nib_token_list *l, nib_listed_added a, nib_err *err);
void nib_list_fini(nib_token_list *l);

/* "vocab" and "added_tokens" of a tokenizer.json. */
NIB_MUST_USE nib_code nib_list_json(nib_token_list *l, const nib_json *tj, nib_err *err);
/* The vocabulary of a list, completed by the tokens of the configuration files. */
NIB_MUST_USE nib_code nib_list_vocab(nib_tokenizer *t, nib_token_list *l, const nib_source *src,
                                     nib_err *err);
/* Which of them are cut out of the text. To be called once the normalizer is there. */
NIB_MUST_USE nib_code nib_list_set_added(nib_tokenizer *t, const nib_token_list *l, nib_err *err);
/* Special tokens by name, of the configuration files. */
void nib_list_specials(nib_tokenizer *t, const nib_source *src);

/* What goes around a text; `post` may be NULL. bos, eos: where nothing says so. */
NIB_MUST_USE nib_code nib_hf_around(nib_tokenizer *t, const nib_source *src, const nib_json *post,
                                    bool bos, bool eos, nib_err *err);
/* The name of the splitter, where it has one. */
NIB_MUST_USE nib_code nib_hf_name(nib_tokenizer *t, bool ignore_merges, nib_err *err);
NIB_MUST_USE nib_code nib_hf_templates(nib_tokenizer *t, const nib_source *src, nib_err *err);

/* From a SentencePiece model (tokenizer.model), from tekken.json, from tiktoken's ranks. */
NIB_MUST_USE nib_code nib_tokenizer_from_spm(nib_tokenizer *t, const nib_source *src,
                                             const void *data, size_t n, nib_err *err);
NIB_MUST_USE nib_code nib_tokenizer_from_tekken(nib_tokenizer *t, const nib_source *src,
                                                const nib_json *j, nib_err *err);
NIB_MUST_USE nib_code nib_tokenizer_from_ranks(nib_tokenizer *t, const nib_source *src,
                                               const char *file, const char *text, size_t n,
                                               nib_err *err);
/* The scores that a SentencePiece model has for the tokens of a vocabulary. *found: it has them all
 * but for added ones, at the same ids. */
NIB_MUST_USE nib_code nib_spm_scores(const nib_vocab *v, const void *data, size_t n, float *score,
                                     bool *found, nib_err *err);

#endif
