/* SPDX-License-Identifier: MIT */
/* tests/interop/tok_ids.c - token ids of many texts, for comparing tokenizers.
 *
 * tok_ids MODEL: texts come on standard input, each as its length in bytes on a line and then the
 * bytes; for each one its ids go out on a line. Special tokens are parsed, none are added. A second
 * argument names a GGUF file to write with the tokenizer and no tensors, a folder in its place to
 * write tokenizer.json and tokenizer_config.json into. */
#include "base/file.h"
#include "infer/tokenizer.h"

#include <stdio.h>

static nib_code answer(const nib_tokenizer *t, nib_err *err)
{
    nib_code rc = NIB_OK;
    nib_ids ids = {0};
    nib_buf text = {0};
    size_t n;
    while (!rc && scanf("%zu", &n) == 1 && getchar() == '\n') {
        char *p = nib_buf_reserve(&text, n + 1, 1);
        if (!p || fread(p, 1, n, stdin) != n) {
            rc = nib_fail(err, NIB_EIO, "standard input ends within a text");
            break;
        }
        ids.n = 0;
        rc = nib_tokenizer_encode(t, p, n, NIB_TOK_PARSE_SPECIAL, &ids, err);
        for (size_t i = 0; i < ids.n; i++) printf("%s%d", i ? " " : "", (int)ids.id[i]);
        putchar('\n');
    }
    nib_ids_free(&ids);
    nib_buf_free(&text);
    return rc;
}

static nib_code write_gguf(const nib_tokenizer *t, const char *path, nib_err *err)
{
    nib_gguf_writer *w = NULL;
    nib_gguf_kvs *kvs = nib_gguf_kvs_new();
    if (!kvs || !nib_gguf_set_str(kvs, "general.architecture", "llama", 5))
        return nib_fail_nomem(err, path);
    nib_code rc = nib_tokenizer_to_gguf(t, nib_tokenizer_n_vocab(t) + 3, NULL, kvs, err);
    if (!rc) rc = nib_gguf_begin(&w, path, kvs, NULL, 0, 0, true, err);
    if (!rc) rc = nib_gguf_end(w, err);
    nib_gguf_kvs_free(kvs);
    return rc;
}

static nib_code save(nib_json *j, const char *dir, const char *name, nib_err *err)
{
    char *path = nib_path_join(dir, name);
    nib_code rc = nib_json_save(j, path, path ? path : name, true, err);
    nib_free(path);
    return rc;
}

static nib_code write_folder(const nib_tokenizer *t, const char *dir, nib_err *err)
{
    nib_json *tokenizer = nib_json_new_object(), *config = nib_json_new_object();
    nib_code rc = tokenizer && config ? nib_tokenizer_to_hf(t, 4096, tokenizer, config, err)
                                      : nib_fail_nomem(err, dir);
    if (rc) {
        nib_json_free(tokenizer);
        nib_json_free(config);
        return rc;
    }
    rc = save(tokenizer, dir, "tokenizer.json", err);
    nib_code other = save(config, dir, "tokenizer_config.json", err);
    return rc ? rc : other;
}

int main(int argc, char **argv)
{
    nib_err err = {0};
    nib_source *src = NULL;
    nib_tokenizer *t = NULL;
    if (argc < 2) return 2;
    nib_code rc = nib_source_open(&src, argv[1], &err);
    if (!rc) rc = nib_tokenizer_open(&t, src, &err);
    if (!rc && argc > 2)
        rc = nib_file_is_dir(argv[2]) ? write_folder(t, argv[2], &err)
                                      : write_gguf(t, argv[2], &err);
    if (!rc) rc = answer(t, &err);
    if (rc) fprintf(stderr, "tok_ids: %s\n", err.msg);
    nib_tokenizer_close(t);
    nib_source_close(src);
    return rc ? 1 : 0;
}
