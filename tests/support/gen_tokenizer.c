/* SPDX-License-Identifier: MIT */
/* tokenizer.json and tokenizer_config.json: vocabulary and merges of an existing byte-level BPE
 * tokenizer under the splitter, normalizer and special tokens of a family.
 *
 * A larger vocabulary is filled with ordinary tokens that no merge makes. */
#include "tests/support/gen.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/file.h"

#include <stdio.h>
#include <string.h>

enum { TOKENIZER_BYTES_MAX = 256 << 20, SMALL_VOCAB = 2048, PAD_ONE_IN = 512 };

uint32_t gen_bos_id(const gen_spec *s)
{
    uint32_t pad = s->vocab > SMALL_VOCAB ? s->vocab / PAD_ONE_IN : 0;
    return s->vocab - pad - 2;
}

uint32_t gen_eos_id(const gen_spec *s)
{
    return gen_bos_id(s) + 1;
}

static bool add_special(nib_json *list, uint32_t id, const char *text)
{
    nib_json *t = nib_json_add_object(list, NULL);
    return t && nib_json_add_num(t, "id", id) && nib_json_add_str(t, "content", text) &&
           nib_json_add_bool(t, "single_word", false) && nib_json_add_bool(t, "lstrip", false) &&
           nib_json_add_bool(t, "rstrip", false) && nib_json_add_bool(t, "normalized", false) &&
           nib_json_add_bool(t, "special", true);
}

static bool add_byte_level(nib_json *list, const char *key, bool use_regex)
{
    nib_json *b = nib_json_add_object(list, key);
    return b && nib_json_add_str(b, "type", "ByteLevel") &&
           nib_json_add_bool(b, "add_prefix_space", false) &&
           nib_json_add_bool(b, "trim_offsets", false) &&
           nib_json_add_bool(b, "use_regex", use_regex);
}

static bool add_splitter(nib_json *root, const gen_family *f)
{
    if (!f->split) return add_byte_level(root, "pre_tokenizer", true);
    nib_json *pre = nib_json_add_object(root, "pre_tokenizer");
    if (!pre || !nib_json_add_str(pre, "type", "Sequence")) return false;
    nib_json *steps = nib_json_add_array(pre, "pretokenizers");
    nib_json *split = steps ? nib_json_add_object(steps, NULL) : NULL;
    if (!split || !nib_json_add_str(split, "type", "Split")) return false;
    nib_json *pattern = nib_json_add_object(split, "pattern");
    return pattern && nib_json_add_str(pattern, "Regex", f->split) &&
           nib_json_add_str(split, "behavior", "Isolated") &&
           nib_json_add_bool(split, "invert", false) && add_byte_level(steps, NULL, false);
}

static bool add_normalizer(nib_json *root, const gen_family *f)
{
    if (!f->nfc) return nib_json_add_null(root, "normalizer");
    nib_json *n = nib_json_add_object(root, "normalizer");
    return n && nib_json_add_str(n, "type", "NFC");
}

static bool add_template_item(nib_json *list, const char *kind, const char *id)
{
    nib_json *item = nib_json_add_object(list, NULL);
    nib_json *what = item ? nib_json_add_object(item, kind) : NULL;
    return what && nib_json_add_str(what, "id", id) && nib_json_add_num(what, "type_id", 0);
}

static bool add_post_processor(nib_json *root, const gen_spec *s)
{
    if (!s->family->add_bos) return add_byte_level(root, "post_processor", false);
    const char *bos = s->family->bos;
    nib_json *post = nib_json_add_object(root, "post_processor");
    if (!post || !nib_json_add_str(post, "type", "TemplateProcessing")) return false;
    nib_json *single = nib_json_add_array(post, "single");
    if (!single || !add_template_item(single, "SpecialToken", bos) ||
        !add_template_item(single, "Sequence", "A"))
        return false;
    nib_json *pair = nib_json_add_array(post, "pair");
    if (!pair || !add_template_item(pair, "Sequence", "A") ||
        !add_template_item(pair, "Sequence", "B"))
        return false;
    nib_json *special = nib_json_add_object(post, "special_tokens");
    nib_json *token = special ? nib_json_add_object(special, bos) : NULL;
    if (!token || !nib_json_add_str(token, "id", bos)) return false;
    nib_json *ids = nib_json_add_array(token, "ids");
    nib_json *tokens = nib_json_add_array(token, "tokens");
    return ids && tokens && nib_json_add_num(ids, NULL, gen_bos_id(s)) &&
           nib_json_add_str(tokens, NULL, bos);
}

static bool is_added(const nib_json *base, const char *text)
{
    const nib_json *t = nib_json_first(nib_json_get(base, "added_tokens"));
    const char *content;
    for (; t; t = nib_json_next(t))
        if (nib_json_str(nib_json_get(t, "content"), &content) && !strcmp(content, text))
            return true;
    return false;
}

static nib_code add_vocab(nib_json *vocab, const nib_json *base, const gen_spec *s, nib_err *err)
{
    uint32_t n = 0, room = gen_bos_id(s);
    const nib_json *t = nib_json_first(nib_json_get(nib_json_get(base, "model"), "vocab"));
    for (; t; t = nib_json_next(t)) {
        uint64_t id;
        if (is_added(base, nib_json_key(t))) continue;
        if (!nib_json_u64(t, &id) || id != n || n >= room)
            return nib_fail(err, NIB_EINVAL,
                            "%s: ids of the vocabulary should run from 0 to at most %u, in order",
                            s->tokenizer, room - 1);
        if (!nib_json_add_num(vocab, nib_json_key(t), n++))
            return nib_fail_nomem(err, "the vocabulary");
    }
    for (; n < room; n++) {
        char filler[32];
        snprintf(filler, sizeof filler, "\xC4\xA0zq%u", n); /* U+0120 stands for a space */
        if (!nib_json_add_num(vocab, filler, n)) return nib_fail_nomem(err, "the vocabulary");
    }
    return NIB_OK;
}

static nib_code add_merges(nib_json *merges, const nib_json *base, nib_err *err)
{
    const nib_json *m = nib_json_first(nib_json_get(nib_json_get(base, "model"), "merges"));
    const char *text;
    for (; m; m = nib_json_next(m)) {
        if (!nib_json_str(m, &text)) return nib_fail(err, NIB_EINVAL, "a merge is no string");
        if (!nib_json_add_str(merges, NULL, text)) return nib_fail_nomem(err, "the merges");
    }
    return NIB_OK;
}

static nib_code fill(nib_json *root, const nib_json *base, const gen_spec *s, nib_err *err)
{
    const gen_family *f = s->family;
    nib_json *added = nib_json_add_array(root, "added_tokens");
    bool ok = added && nib_json_add_str(root, "version", "1.0") &&
              add_special(added, gen_bos_id(s), f->bos) &&
              add_special(added, gen_eos_id(s), f->eos) && add_normalizer(root, f) &&
              add_splitter(root, f) && add_post_processor(root, s) &&
              add_byte_level(root, "decoder", false);
    nib_json *model = ok ? nib_json_add_object(root, "model") : NULL;
    nib_json *vocab = NULL, *merges = NULL;
    if (!model || !nib_json_add_str(model, "type", "BPE") ||
        !nib_json_add_bool(model, "byte_fallback", false) ||
        !nib_json_add_bool(model, "ignore_merges", f->ignore_merges) ||
        !(vocab = nib_json_add_object(model, "vocab")) ||
        !(merges = nib_json_add_array(model, "merges")))
        return nib_fail_nomem(err, "the tokenizer");
    nib_code rc = add_vocab(vocab, base, s, err);
    return rc ? rc : add_merges(merges, base, err);
}

static nib_code write_config(const gen_spec *s, const char *dir, nib_err *err)
{
    const gen_family *f = s->family;
    nib_code rc;
    char *text = NULL;
    nib_json *j = nib_json_new_object();
    /* Families without BOS in front say null here, and name it in config.json alone. */
    bool ok = j && nib_json_add_bool(j, "add_bos_token", f->add_bos) &&
              (f->add_bos ? nib_json_add_str(j, "bos_token", f->bos)
                          : nib_json_add_null(j, "bos_token")) &&
              nib_json_add_str(j, "eos_token", f->eos) &&
              nib_json_add_str(j, "tokenizer_class", "PreTrainedTokenizerFast") &&
              (!f->chat_template || nib_json_add_str(j, "chat_template", f->chat_template)) &&
              (text = nib_json_print(j, true));
    rc = ok ? gen_text_write(dir, "tokenizer_config.json", text, strlen(text), err)
            : nib_fail_nomem(err, "tokenizer_config.json");
    nib_free(text);
    nib_json_free(j);
    return rc;
}

nib_code gen_tokenizer_write(const gen_spec *s, const char *dir, nib_err *err)
{
    nib_code rc;
    nib_json *base = NULL, *root = nib_json_new_object();
    char *text = NULL, *path = nib_path_join(s->tokenizer, "tokenizer.json");
    if (!root || !path) {
        rc = nib_fail_nomem(err, "the tokenizer");
        goto done;
    }
    if ((rc = nib_json_load(&base, path, TOKENIZER_BYTES_MAX, err))) goto done;
    if ((rc = fill(root, base, s, err))) goto done;
    if (!(text = nib_json_print(root, false))) {
        rc = nib_fail_nomem(err, "tokenizer.json");
        goto done;
    }
    rc = gen_text_write(dir, "tokenizer.json", text, strlen(text), err);
    if (!rc) rc = write_config(s, dir, err);
done:
    nib_free(text);
    nib_free(path);
    nib_json_free(base);
    nib_json_free(root);
    return rc;
}
