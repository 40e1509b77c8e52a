/* SPDX-License-Identifier: MIT */
/* tests/fuzz/tokenizer.c - see tokenizer.h. */
#include "tests/fuzz/tokenizer.h"
#include "infer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { VOCAB_MAX = 1 << 16 }; /* of a tokenizer that is written */

static char folder[] = "/tmp/nibble-fuzz-XXXXXX";
static const char *file;

static const char TEXT[] =
    "Hello, World! It's 12345 o'clock  \n\n\tDON'T caf\u00E9 e\u0301 \u4E16\u754C \u2581x<s></s> "
    "\U0001F600\u200D\U0001F525 <0x41> \xFF\xE2\x96 \u00BD\u0662 ab\0c    aaaaaaaaaaaaaaaaaaaaaaaa";

static const char *in_folder(const char *name)
{
    static char path[80];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void clean_up(void)
{
    unlink(in_folder("config.json"));
    unlink(in_folder("model.safetensors"));
    unlink(in_folder(file));
    rmdir(folder);
}

static void put(const char *name, const void *data, size_t n)
{
    FILE *f = fopen(in_folder(name), "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f)) abort();
}

static void begin(const char *name)
{
    static const char header[] = "{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}";
    uint8_t weights[8 + sizeof header] = {(uint8_t)(sizeof header - 1)};
    file = name;
    if (!mkdtemp(folder) || atexit(clean_up)) abort();
    memcpy(weights + 8, header, sizeof header - 1);
    put("model.safetensors", weights, sizeof weights);
    put("config.json", "{}", 2);
}

static void check(nib_code rc, const nib_err *err)
{
    if (rc && (!err->msg[0] || err->code != rc)) abort();
}

static void use(const nib_tokenizer *t)
{
    nib_err err = {0};
    nib_ids ids = {0};
    char *text;
    size_t n;
    nib_code rc = nib_tokenizer_encode(t, TEXT, sizeof TEXT - 1,
                                       NIB_TOK_ADD_SPECIAL | NIB_TOK_PARSE_SPECIAL, &ids, &err);
    check(rc, &err);
    for (size_t i = 0; i < ids.n; i++)
        if (ids.id[i] < 0 || (size_t)ids.id[i] >= nib_tokenizer_n_vocab(t)) abort();
    err = (nib_err){0};
    rc = nib_tokenizer_decode(t, ids.id, ids.n, false, &text, &n, &err);
    check(rc, &err);
    free(text);
    nib_ids_free(&ids);
}

static void write_all(const nib_tokenizer *t)
{
    nib_err err = {0};
    const size_t n = nib_tokenizer_n_vocab(t);
    if (n > VOCAB_MAX) return;
    nib_gguf_kvs *kvs = nib_gguf_kvs_new();
    if (!kvs) abort();
    check(nib_tokenizer_to_gguf(t, n + 1, NULL, kvs, &err), &err);
    nib_gguf_kvs_free(kvs);
    nib_json *a = nib_json_new_object(), *b = nib_json_new_object();
    err = (nib_err){0};
    check(nib_tokenizer_to_hf(t, 9, a, b, &err), &err);
    nib_json_free(a);
    nib_json_free(b);
}

void fuzz_tokenizer(const char *name, const uint8_t *data, size_t n)
{
    nib_source *s;
    nib_tokenizer *t = NULL;
    nib_err err = {0};
    if (!file) begin(name);
    put(name, data, n);
    nib_code rc = nib_source_open(&s, folder, &err);
    check(rc, &err);
    if (rc) return;
    err = (nib_err){0};
    rc = nib_tokenizer_open(&t, s, &err);
    check(rc, &err);
    if (!rc != !!t) abort();
    if (t) {
        use(t);
        write_all(t);
    }
    nib_tokenizer_close(t);
    nib_source_close(s);
}
