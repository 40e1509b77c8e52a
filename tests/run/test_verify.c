/* SPDX-License-Identifier: MIT */
/* A byte that has changed, wherever it is, is found; what has not changed is whole; and differences
 * from another model are what they are. */
#include "run/verify.h"

#include "base/file.h"
#include "run/job.h"
#include "tests/run/folders.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void make(const char *out, nib_recipe r)
{
    nib_log log = {0};
    nib_ctx ctx = {.threads = 2, .log = &log};
    nib_err err = {0};
    nib_job job;
    nib_job_opts opts = {.model = tiny_llama(), .recipe = r, .solve = nib_solve_defaults()};
    opts.recipe.out = out;
    opts.recipe.force = true;
    nib_code rc = nib_job_open(&job, &opts, &ctx, &err);
    if (!rc) rc = nib_job_plan(&job, &ctx, &err);
    if (!rc) rc = nib_job_run(&job, &ctx, &err);
    nib_job_close(&job);
    if (rc) fail_msg("%s", err.msg);
}

static nib_verify_report verify(const char *path, const char *against)
{
    nib_log log = {0};
    nib_ctx ctx = {.threads = 2, .log = &log};
    nib_err err = {0};
    nib_verify_report r = {0};
    if (nib_verify(&r, path, against, &ctx, &err)) fail_msg("%s", err.msg);
    return r;
}

static void is_whole(const char *path, const char *version)
{
    nib_verify_report r = verify(path, NULL);
    if (r.n_faults) fail_msg("%s: %s", path, r.fault[0]);
    assert_string_equal(r.version, version);
    nib_verify_report_free(&r);
}

/* The i-th file of those that make up the model, in the order of their names; NULL: no more. */
static char *file_of(const char *path, size_t i)
{
    struct dirent **list;
    char *found = NULL;
    if (!nib_file_is_dir(path)) return i ? NULL : nib_strdup(path);
    const int n = scandir(path, &list, NULL, alphasort);
    assert_true(n > 2);
    size_t at = 0;
    for (int k = 0; k < n; k++) {
        if (*list[k]->d_name != '.' && at++ == i) found = nib_path_join(path, list[k]->d_name);
        free(list[k]);
    }
    free(list);
    return found;
}

static void flip(const char *file, long at, unsigned bit)
{
    FILE *f = fopen(file, "r+b");
    assert_non_null(f);
    fseek(f, at, SEEK_SET);
    const int c = fgetc(f);
    assert_int_not_equal(c, EOF);
    fseek(f, at, SEEK_SET);
    fputc(c ^ (int)(1u << bit), f);
    fclose(f);
}

static long size_of(const char *file)
{
    FILE *f = fopen(file, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    const long n = ftell(f);
    fclose(f);
    return n;
}

/* So many bits, spread over the files, each alone. */
static void flips_are_found(const char *path, int n)
{
    uint64_t x = 88172645463325252u;
    size_t n_files = 0;
    for (char *f; (f = file_of(path, n_files)); n_files++) nib_free(f);
    for (int i = 0; i < n; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        char *file = file_of(path, (size_t)i % n_files);
        const long size = size_of(file);
        /* every other one in the first part, which is the head */
        const long at = (long)(x % (uint64_t)(i % 2 || size < 4000 ? size : 4000));
        flip(file, at, (unsigned)(x >> 60) & 7);
        nib_verify_report r = verify(path, NULL);
        if (!r.n_faults) fail_msg("%s: byte %ld, bit %u", file, at, (unsigned)(x >> 60) & 7);
        nib_verify_report_free(&r);
        flip(file, at, (unsigned)(x >> 60) & 7);
        nib_free(file);
    }
    is_whole(path, NIB_VERSION);
}

static void flips_in_a_file(void **state)
{
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s", scratch("q.gguf"));
    make(path, (nib_recipe){.type = "q4_0"});
    is_whole(path, NIB_VERSION);
    flips_are_found(path, 100);
}

static void flips_in_a_folder(void **state)
{
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s", scratch("folder"));
    make(path,
         (nib_recipe){.format = NIB_FORMAT_DIR,
                      .layout = {.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 128, .sym = true}});
    is_whole(path, NIB_VERSION);
    flips_are_found(path, 100);
}

static void flips_in_plain_shards(void **state)
{
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s", scratch("plain"));
    make(path, (nib_recipe){.format = NIB_FORMAT_PLAIN, .type = "bf16", .split_max = 2000000});
    is_whole(path, NIB_VERSION);
    flips_are_found(path, 40);
}

/* Each file of a split model, at its beginning and at its end. */
static void flips_in_a_split_file(void **state)
{
    (void)state;
    char path[256], first[256], name[64];
    int n = 0;
    snprintf(path, sizeof path, "%s", scratch("s.gguf"));
    make(path, (nib_recipe){.type = "q8_0", .split_max = 1500000});
    for (int k = 2; k < 9 && !n; k++) {
        snprintf(name, sizeof name, "s-00001-of-%05d.gguf", k);
        if (nib_file_exists(scratch(name))) n = k;
    }
    assert_true(n > 1);
    snprintf(first, sizeof first, "%s", scratch(name));
    is_whole(first, NIB_VERSION);
    for (int i = 1; i <= n; i++) {
        snprintf(name, sizeof name, "s-%05d-of-%05d.gguf", i, n);
        const long size = size_of(scratch(name)), at[] = {40, 130, size - 1, size / 2};
        for (int k = 0; k < 4; k++) {
            flip(scratch(name), at[k], 3);
            nib_verify_report r = verify(first, NULL);
            if (!r.n_faults) fail_msg("%s: byte %ld", name, at[k]);
            nib_verify_report_free(&r);
            flip(scratch(name), at[k], 3);
        }
    }
    is_whole(first, NIB_VERSION);
}

static void without_checksums(void **state)
{
    (void)state;
    is_whole(tiny_llama(), "");
}

static void differences(void **state)
{
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s", scratch("d.gguf"));
    make(path, (nib_recipe){.type = "q8_0", .pure = true});
    nib_verify_report r = verify(path, tiny_llama());
    assert_int_equal(r.n_faults, 0);
    assert_int_equal(r.n_lines, 38);
    for (size_t i = 0; i < r.n_lines; i++) {
        const double e = nib_difference_error(&r.line[i].d);
        if (!strcmp(r.line[i].format, "q8_0")) /* rounding errors of 1/254 of the largest weight */
            assert_true(e > 0.001 && e < 0.02);
        else
            assert_true(e == 0);
    }
    nib_verify_report_free(&r);
    r = verify(path, path);
    for (size_t i = 0; i < r.n_lines; i++) assert_true(r.line[i].d.largest == 0);
    nib_verify_report_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flips_in_a_file),       cmocka_unit_test(flips_in_a_folder),
        cmocka_unit_test(flips_in_plain_shards), cmocka_unit_test(flips_in_a_split_file),
        cmocka_unit_test(without_checksums),     cmocka_unit_test(differences),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
