/* SPDX-License-Identifier: MIT */
/* Tokenizers of many kinds against the ids and texts that Hugging Face's library gave: from
 * tokenizer.json, and once more from the GGUF file that is written from it.
 *
 * Each folder of those that are named on the command line and in NIB_TOKENIZERS holds a
 * tokenizer.json and vectors.jsonl, one string a line: `ids` and `ids_special` without and with
 * what the post-processor adds, special tokens in the text parsed; `decoded` and `decoded_skip`
 * with special tokens and without. See the README there. */
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "tests/infer/tokenizers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { KINDS_MAX = 64, SHOWN = 5, FILE_MAX = 64 << 20 };

static char kinds[KINDS_MAX][320];
static size_t n_kinds;

typedef struct {
    size_t strings, wrong;
} tally;

/* A string that may hold NUL; *n its bytes. The caller frees it. */
static char *text_of(const nib_json *line, const char *key, size_t *n)
{
    const char *s = NULL;
    assert_true(nib_json_text(nib_json_get(line, key), &s));
    char *p = nib_alloc(strlen(s) + 1, 1);
    assert_non_null(p);
    *n = nib_json_bytes(p, s);
    p[*n] = 0;
    return p;
}

static nib_ids ids_in(const nib_json *line, const char *key)
{
    const nib_json *list = nib_json_get(line, key);
    nib_ids v = {.id = nib_alloc(nib_json_count(list), sizeof *v.id)};
    for (const nib_json *c = nib_json_first(list); c; c = nib_json_next(c)) {
        uint64_t id = 0;
        assert_true(nib_json_u64(c, &id));
        v.id[v.n++] = (int32_t)id;
    }
    return v;
}

static void show(const char *what, const char *text, const nib_ids *want, const nib_ids *got)
{
    fprintf(stderr, "# %s: '%s'\n#   expected", what, text);
    for (size_t i = 0; i < want->n && i < 40; i++) fprintf(stderr, " %d", (int)want->id[i]);
    fprintf(stderr, "\n#   got     ");
    for (size_t i = 0; i < got->n && i < 40; i++) fprintf(stderr, " %d", (int)got->id[i]);
    fprintf(stderr, "\n");
}

static bool same_ids(const nib_tokenizer *t, const nib_json *line, const char *key, unsigned flags,
                     bool print)
{
    nib_err err = {0};
    size_t n;
    char *text = text_of(line, "text", &n);
    nib_ids want = ids_in(line, key), got = {0};
    assert_int_equal(nib_tokenizer_encode(t, text, n, flags | NIB_TOK_PARSE_SPECIAL, &got, &err),
                     NIB_OK);
    const bool same =
        got.n == want.n && (!got.n || !memcmp(got.id, want.id, got.n * sizeof *got.id));
    if (!same && print) show(key, text, &want, &got);
    nib_ids_free(&want);
    nib_ids_free(&got);
    nib_free(text);
    return same;
}

static bool same_text(const nib_tokenizer *t, const nib_json *line, const char *key, bool skip,
                      bool print)
{
    nib_err err = {0};
    size_t n_want, n_got;
    char *want = text_of(line, key, &n_want), *got;
    nib_ids ids = ids_in(line, "ids");
    assert_int_equal(nib_tokenizer_decode(t, ids.id, ids.n, skip, &got, &n_got, &err), NIB_OK);
    const bool same = n_got == n_want && !memcmp(got, want, n_got);
    if (!same && print) fprintf(stderr, "# %s: expected '%s', got '%s'\n", key, want, got);
    nib_ids_free(&ids);
    nib_free(want);
    nib_free(got);
    return same;
}

static void check_line(const nib_tokenizer *t, const nib_json *line, tally *sum)
{
    const bool print = sum->wrong < SHOWN;
    bool ok = same_ids(t, line, "ids", 0, print);
    if (nib_json_get(line, "ids_special")) {
        ok = same_ids(t, line, "ids_special", NIB_TOK_ADD_SPECIAL, print) && ok;
        ok = same_text(t, line, "decoded", false, print) && ok;
        ok = same_text(t, line, "decoded_skip", true, print) && ok;
    }
    sum->strings++;
    sum->wrong += !ok;
}

static tally check_all(const nib_tokenizer *t, const char *dir)
{
    nib_err err = {0};
    char *path = nib_path_join(dir, "vectors.jsonl"), *text;
    size_t n;
    tally sum = {0};
    if (nib_file_slurp(&text, &n, path, FILE_MAX, &err)) fail_msg("%s", err.msg);
    for (char *p = text, *end; p < text + n; p = end + 1) {
        nib_json *line;
        end = memchr(p, '\n', (size_t)(text + n - p));
        if (!end) end = text + n;
        if (nib_json_parse(&line, p, (size_t)(end - p), &err)) fail_msg("%s", err.msg);
        check_line(t, line, &sum);
        nib_json_free(line);
    }
    nib_free(text);
    nib_free(path);
    return sum;
}

/* The kind's file in the folder of tokenizers.h; config.json says nothing of tokens. */
static nib_tokenizer *open_kind(const char *dir)
{
    static const char *const files[] = {"tokenizer.json", "tokenizer.model", "tekken.json",
                                        "qwen.tiktoken"};
    nib_err err = {0};
    nib_source_close(open_folder(NULL, NULL, NULL));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *path = nib_path_join(dir, files[i]), *text;
        size_t n;
        remove(tmp_path(files[i]));
        if (nib_file_exists(path)) {
            if (nib_file_slurp(&text, &n, path, FILE_MAX, &err)) fail_msg("%s", err.msg);
            tmp_write(files[i], text, n);
            nib_free(text);
        }
        nib_free(path);
    }
    tmp_text("config.json", "{}");
    nib_source *s = must_open(tmp_path(""));
    nib_tokenizer *t = must_load(s);
    nib_source_close(s);
    return t;
}

static bool has_gguf(const char *dir)
{
    return !strstr(dir, "wordpiece");
}

static void the_library_says_the_same(void **state)
{
    const char *dir = *state;
    nib_tokenizer *t = open_kind(dir);
    const tally a = check_all(t, dir);
    fprintf(stderr, "# %s: %zu of %zu strings\n", nib_path_base(dir), a.strings - a.wrong,
            a.strings);
    assert_true(a.strings > 0);
    assert_int_equal(a.wrong, 0);
    if (has_gguf(dir)) {
        nib_tokenizer *back = through_gguf(t, nib_tokenizer_n_vocab(t) + 2);
        const tally b = check_all(back, dir);
        fprintf(stderr, "# %s from GGUF: %zu of %zu strings\n", nib_path_base(dir),
                b.strings - b.wrong, b.strings);
        assert_int_equal(b.wrong, 0);
        nib_tokenizer_close(back);
    }
    nib_tokenizer_close(t);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void find_kinds(const char *root)
{
    DIR *d = opendir(root);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d)) && n_kinds < KINDS_MAX;) {
        if (e->d_name[0] == '.') continue;
        snprintf(kinds[n_kinds], sizeof kinds[0], "%s/%s", root, e->d_name);
        n_kinds += nib_file_is_dir(kinds[n_kinds]);
    }
    closedir(d);
    qsort(kinds, n_kinds, sizeof kinds[0], by_name);
}

int main(int argc, char **argv)
{
    struct CMUnitTest tests[KINDS_MAX];
    for (int i = 1; i < argc; i++) find_kinds(argv[i]);
    if (getenv("NIB_TOKENIZERS")) find_kinds(getenv("NIB_TOKENIZERS"));
    for (size_t i = 0; i < n_kinds; i++)
        tests[i] = (struct CMUnitTest){.name = nib_path_base(kinds[i]),
                                       .test_func = the_library_says_the_same,
                                       .initial_state = kinds[i]};
    if (!n_kinds) return 1;
    return _cmocka_run_group_tests("tokenizers", tests, n_kinds, tmp_make, tmp_remove);
}
