/* SPDX-License-Identifier: MIT */
/* The model generator itself: its numbers have the spread it promises, and do not depend on how the
 * work was cut up. That its folders open is tested by everything that uses them. */
#include "base/file.h"
#include "base/mem.h"
#include "tests/support/gen.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { N = 100000 };

/* Errors of the estimates at N = 1e5: mean 2/316, std 2/447; the bounds are five times that. */
static void numbers_have_the_promised_spread(void **state)
{
    (void)state;
    float *x = nib_alloc(N, sizeof *x);
    double sum = 0, square = 0;
    assert_non_null(x);
    gen_fill(x, N, 7, 0, 3.0f, 2.0f);
    for (size_t i = 0; i < N; i++) sum += x[i], square += ((double)x[i] - 3) * ((double)x[i] - 3);
    assert_true(fabs(sum / N - 3) < 0.032);
    assert_true(fabs(sqrt(square / N) - 2) < 0.023);
    nib_free(x);
}

static void slices_and_streams(void **state)
{
    (void)state;
    float whole[64], part[64], other[64];
    size_t same = 0;
    gen_fill(whole, 64, 1, 0, 0, 1);
    gen_fill(part, 20, 1, 0, 0, 1);
    gen_fill(part + 20, 44, 1, 20, 0, 1);
    assert_memory_equal(whole, part, sizeof whole);
    gen_fill(other, 64, 2, 0, 0, 1);
    for (size_t i = 0; i < 64; i++) same += whole[i] == other[i];
    assert_true(same < 3);
}

static void *slurp(const char *dir, const char *name, size_t *n)
{
    nib_err err = {0};
    char *path = nib_path_join(dir, name), *data = NULL;
    assert_int_equal(nib_file_slurp(&data, n, path, 1 << 26, &err), NIB_OK);
    nib_free(path);
    return data;
}

static void same_seed_same_bytes_for_any_thread_count(void **state)
{
    (void)state;
    char dir[2][32] = {"/tmp/nib-gen-XXXXXX", "/tmp/nib-gen-XXXXXX"};
    gen_spec spec = {.family = gen_family_find("qwen2"),
                     .layers = 1,
                     .hidden = 64,
                     .ff = 96,
                     .heads = 2,
                     .kv_heads = 1,
                     .head_dim = 32,
                     .vocab = 3000,
                     .dtype = NIB_BF16,
                     .shards = 1,
                     .seed = 5,
                     .tokenizer = getenv("NIB_TINY")};
    assert_non_null(spec.tokenizer);
    char *data[2];
    size_t n[2];
    for (int i = 0; i < 2; i++) {
        nib_err err = {0};
        nib_ctx ctx = {.threads = i ? 3 : 1};
        assert_non_null(mkdtemp(dir[i]));
        assert_int_equal(gen_model(&spec, dir[i], &ctx, &err), NIB_OK);
        data[i] = slurp(dir[i], "model.safetensors", &n[i]);
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(data[0], data[1], n[0]);
    for (int i = 0; i < 2; i++) {
        char cmd[64];
        snprintf(cmd, sizeof cmd, "rm -r '%s'", dir[i]);
        assert_int_equal(system(cmd), 0);
        nib_free(data[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_have_the_promised_spread),
        cmocka_unit_test(slices_and_streams),
        cmocka_unit_test(same_seed_same_bytes_for_any_thread_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
