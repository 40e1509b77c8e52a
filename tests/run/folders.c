/* SPDX-License-Identifier: MIT */
#include "tests/run/folders.h"

#include "base/file.h"
#include "run/job.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

nib_code write_folder_of(const char *model, const char *name, nib_recipe r, const nib_imatrix *im,
                         int threads, nib_err *err)
{
    nib_log log = {0};
    nib_ctx ctx = {.threads = threads, .log = &log};
    nib_job job;
    nib_job_opts opts = {.model = model, .recipe = r, .solve = nib_solve_defaults()};
    opts.recipe.format = NIB_FORMAT_DIR;
    opts.recipe.out = scratch(name);
    nib_code rc = nib_job_open(&job, &opts, &ctx, err);
    if (!rc) job.importances = im;
    if (!rc) rc = nib_job_plan(&job, &ctx, err);
    if (!rc) rc = nib_job_run(&job, &ctx, err);
    nib_job_close(&job);
    return rc;
}

nib_code write_folder_with(const char *name, nib_recipe r, const nib_imatrix *im, int threads,
                           nib_err *err)
{
    return write_folder_of(tiny_llama(), name, r, im, threads, err);
}

nib_code write_folder(const char *name, nib_recipe r, int threads, nib_err *err)
{
    return write_folder_with(name, r, NULL, threads, err);
}

void write_folder_ok(const char *name, nib_recipe r, int threads)
{
    nib_err err = {0};
    if (write_folder(name, r, threads, &err)) fail_msg("%s", err.msg);
}

/* The file with n bytes at `at` replaced. */
static void rewrite(const char *path, char *file, size_t size, size_t at, const void *data,
                    size_t n)
{
    assert_true(at + n <= size);
    memcpy(file + at, data, n);
    FILE *f = fopen(path, "wb");
    assert_int_equal(fwrite(file, 1, size, f), size);
    fclose(f);
    nib_free(file);
}

void patch(const char *name, const char *from, const char *to)
{
    char *data;
    size_t n, k = strlen(from), at = 0;
    nib_err err;
    assert_int_equal(nib_file_slurp(&data, &n, scratch(name), 1 << 24, &err), NIB_OK);
    while (at + k <= n && memcmp(data + at, from, k)) at++;
    if (at + k > n) fail_msg("%s holds no %s", name, from);
    rewrite(scratch(name), data, n, at, to, k);
}

void patch_tensor(const char *folder, const char *tensor, const void *data, size_t n)
{
    char path[512], *file;
    size_t size;
    nib_err err;
    nib_json *head;
    uint64_t n_head, at;
    snprintf(path, sizeof path, "%s/model.safetensors", scratch(folder));
    assert_int_equal(nib_file_slurp(&file, &size, path, 1 << 24, &err), NIB_OK);
    memcpy(&n_head, file, sizeof n_head);
    assert_int_equal(nib_json_parse(&head, file + 8, (size_t)n_head, &err), NIB_OK);
    const nib_json *offsets = nib_json_get(nib_json_get(head, tensor), "data_offsets");
    assert_true(nib_json_u64(nib_json_first(offsets), &at));
    nib_json_free(head);
    rewrite(path, file, size, (size_t)(8 + n_head + at), data, n);
}

void refuse_folder(const char *name, const char *part)
{
    nib_source *s;
    nib_err err;
    if (!nib_source_open(&s, scratch(name), &err)) fail_msg("opens, but should say '%s'", part);
    assert_int_equal(err.code, NIB_EFORMAT);
    expect_text(err.msg, part);
}
