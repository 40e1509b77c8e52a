/* SPDX-License-Identifier: MIT */
/* infer/stop_ids.c - see stop_ids.h. */
#include "infer/stop_ids.h"

#include "base/mem.h"

#include <string.h>

bool nib_ids_hold(const nib_ids *v, int32_t id)
{
    for (size_t i = 0; i < v->n; i++)
        if (v->id[i] == id) return true;
    return false;
}

static nib_code add(nib_ids *out, uint64_t id, const nib_tokenizer *tok, const char *key,
                    nib_err *err)
{
    if (id >= nib_tokenizer_n_vocab(tok))
        return nib_fail(err, NIB_EFORMAT, "'%s' is %llu; the vocabulary has 0 to %zu", key,
                        (unsigned long long)id, nib_tokenizer_n_vocab(tok) - 1);
    if (nib_ids_hold(out, (int32_t)id)) return NIB_OK;
    int32_t *more = nib_grow(out->id, out->n, out->n + 1, sizeof *more);
    if (!more) return nib_fail_nomem(err, "ids that end a text");
    out->id = more;
    out->cap = out->n + 1;
    out->id[out->n++] = (int32_t)id;
    return NIB_OK;
}

/* ---- folders ---- */

static nib_code add_json(nib_ids *out, const nib_json *j, const nib_tokenizer *tok, nib_err *err)
{
    static const char key[] = "eos_token_id";
    const bool list = nib_json_is_array(j);
    nib_code rc = NIB_OK;
    for (const nib_json *v = list ? nib_json_first(j) : j; v && !rc;
         v = list ? nib_json_next(v) : NULL) {
        uint64_t id;
        rc = nib_json_u64(v, &id)
                 ? add(out, id, tok, key, err)
                 : nib_fail(err, NIB_EFORMAT, "'%s' should be a token's id or a list of them", key);
    }
    return rc;
}

static nib_code from_folder(nib_ids *out, const nib_source *src, const nib_tokenizer *tok,
                            nib_err *err)
{
    static const char *const files[] = {"generation_config.json", "config.json"};
    for (size_t i = 0; i < 2; i++) {
        const nib_json *j = nib_json_get(nib_source_json(src, files[i]), "eos_token_id");
        if (!j || nib_json_is_null(j)) continue;
        nib_code rc = add_json(out, j, tok, err);
        return rc ? nib_wrap(err, "%s", files[i]) : NIB_OK;
    }
    return NIB_OK;
}

/* ---- GGUF ---- */

static const char *const keys[] = {
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
};

static const char *const texts[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<|eot|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<EOT>",
    "<|END_OF_TURN_TOKEN|>",
    "<end_of_utterance>",
};

static bool is_end(const nib_tokenizer *tok, int32_t id)
{
    const nib_str t = nib_tokenizer_token(tok, id);
    if (nib_tokenizer_shows(tok, id)) return false;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (t.n == strlen(texts[i]) && !memcmp(t.p, texts[i], t.n)) return true;
    return false;
}

static nib_code from_gguf(nib_ids *out, const nib_gguf_kvs *kvs, const nib_tokenizer *tok,
                          nib_err *err)
{
    nib_code rc = NIB_OK;
    uint64_t id;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !rc; i++)
        if (nib_gguf_get_u64(kvs, keys[i], &id)) rc = add(out, id, tok, keys[i], err);
    for (size_t i = 0; i < nib_tokenizer_n_vocab(tok) && !rc; i++)
        if (is_end(tok, (int32_t)i)) rc = add(out, i, tok, "token", err);
    return rc;
}

nib_code nib_stop_ids(nib_ids *out, const nib_source *src, const nib_tokenizer *tok, nib_err *err)
{
    const int32_t eos = nib_tokenizer_eos(tok);
    const nib_gguf_kvs *kvs = nib_source_kvs(src);
    nib_code rc = eos >= 0 ? add(out, (uint64_t)eos, tok, "EOS", err) : NIB_OK;
    if (rc) return rc;
    return kvs ? from_gguf(out, kvs, tok, err) : from_folder(out, src, tok, err);
}
