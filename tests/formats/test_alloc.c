/* SPDX-License-Identifier: MIT */
/* Every allocation fails once: a clean error, nothing left behind (the sanitizers see leaks). */
#include "base/file.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "tests/calib/tmp.h"
#include "tests/formats/make.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static nib_code write_gguf(const char *path, uint64_t split, nib_err *err)
{
    static const nib_gguf_tensor t[] = {{"a", NIB_F32, 1, {8}}, {"b", NIB_F32, 2, {2, 4}}};
    static const nib_str tokens[] = {{"x", 1}, {"yz", 2}};
    nib_gguf_writer *w = NULL;
    nib_code rc = NIB_OK;
    nib_gguf_kvs *k = nib_gguf_kvs_new();
    if (!k || !nib_gguf_set_u32(k, "n", 1) ||
        !nib_gguf_set_arr(k, "tokens", NIB_GGUF_STR, tokens, 2) ||
        !nib_gguf_set_str(k, "n", "s", 1))
        rc = nib_fail_nomem(err, "metadata");
    if (!rc) rc = nib_gguf_begin(&w, path, k, t, 2, split, true, err);
    for (size_t i = 0; i < 2 && !rc; i++) {
        rc = nib_gguf_write(w, i, "0123456789abcdef0123456789abcdef", 32, err);
        if (!rc && i == 1) {
            rc = nib_gguf_end(w, err);
            w = NULL;
        }
    }
    nib_gguf_abort(w);
    nib_gguf_kvs_free(k);
    return rc;
}

static nib_code write_one_gguf(const char *path, nib_err *err)
{
    return write_gguf(path, 0, err);
}

static nib_code write_split_gguf(const char *path, nib_err *err)
{
    return write_gguf(path, 32, err);
}

static nib_code write_safetensors(const char *path, nib_err *err)
{
    static const nib_st_tensor t[] = {{"b", NIB_F32, 1, {2}}, {"a", NIB_U8, 1, {8}}};
    nib_st_writer *w;
    nib_code rc = nib_st_begin(&w, path, t, 2, true, err);
    if (rc) return rc;
    if ((rc = nib_st_write(w, 0, "01234567", 8, err)) ||
        (rc = nib_st_write(w, 1, "abcdefgh", 8, err))) {
        nib_st_abort(w);
        return rc;
    }
    return nib_st_end(w, err);
}

static nib_code open_and_close(const char *path, nib_err *err)
{
    nib_source *s;
    nib_code rc = nib_source_open(&s, path, err);
    assert_true(rc ? s == NULL : s != NULL);
    nib_source_close(s);
    return rc;
}

/* Let allocation 1, 2, ... fail until none is left to fail. */
static void fail_each(nib_code (*run)(const char *, nib_err *), const char *path)
{
    char copy[128];
    long n = 1;
    snprintf(copy, sizeof copy, "%s", path);
    for (;; n++) {
        nib_err err = {0};
        nib_mem_fail_at(n);
        nib_code rc = run(copy, &err);
        nib_mem_fail_at(0);
        if (rc == NIB_OK) break;
        if (!err.msg[0] || err.code != rc) fail_msg("allocation %ld: no message", n);
        if (n > 100000) fail_msg("it never works");
    }
    assert_true(n > 3);
}

static void writers(void **state)
{
    (void)state;
    fail_each(write_one_gguf, tmp_path("one.gguf"));
    fail_each(write_split_gguf, tmp_path("two.gguf"));
    fail_each(write_safetensors, tmp_path("one.safetensors"));
}

static void gguf(void **state)
{
    (void)state;
    fail_each(open_and_close, tmp_path("one.gguf"));
    fail_each(open_and_close, tmp_path("two-00001-of-00002.gguf"));
}

static void folders(void **state)
{
    (void)state;
    fail_each(open_and_close, tmp_path("one.safetensors"));
    tmp_text("config.json", "{\"a\": [1, {\"b\": \"c\"}]}");
    tmp_text("chat_template.jinja", "text");
    tmp_text("model.safetensors.index.json",
             "{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"one.safetensors\"}}");
    fail_each(open_and_close, tmp_path(""));
    nib_err err = {0};
    assert_int_equal(write_safetensors(tmp_path("model.safetensors"), &err), NIB_OK);
    fail_each(open_and_close, tmp_path(""));
}

static void no_temporary_file_is_left(void **state)
{
    (void)state;
    char cmd[256];
    snprintf(cmd, sizeof cmd, "ls -A '%s' | grep -q nibble-tmp", tmp_path(""));
    assert_int_not_equal(system(cmd), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writers),
        cmocka_unit_test(gguf),
        cmocka_unit_test(folders),
        cmocka_unit_test(no_temporary_file_is_left),
    };
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
