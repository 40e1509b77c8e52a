/* SPDX-License-Identifier: MIT */
/* tests/run/planning.c - see planning.h. */
#include "tests/run/planning.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

opened tiny;

int open_tiny(void **state)
{
    int rc = scratch_make(state);
    if (!rc) open_model(&tiny, tiny_llama());
    return rc;
}

int close_tiny(void **state)
{
    close_model(&tiny);
    return scratch_remove(state);
}

nib_code try_plan(nib_plan *p, const nib_recipe *r, const nib_imatrix *im, nib_err *err)
{
    nib_ctx ctx = {.threads = 2};
    return nib_plan_make(p, r, &tiny.model, im, &ctx, err);
}

void plan_ok(nib_plan *p, const nib_recipe *r, const nib_imatrix *im)
{
    nib_err err = {0};
    if (try_plan(p, r, im, &err)) fail_msg("%s", err.msg);
}

void plan_fails(const nib_recipe *r, const nib_imatrix *im, nib_code code, const char *text)
{
    nib_plan p;
    nib_err err = {0};
    nib_code rc = try_plan(&p, r, im, &err);
    if (!rc) fail_msg("should fail with '%s'", text);
    expect_text(err.msg, text);
    assert_int_equal(rc, code);
    assert_null(p.tensor);
}

const nib_plan_tensor *find_planned(const nib_plan *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++)
        if (!strcmp(p->tensor[i].name, name)) return &p->tensor[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

void expect_type(const nib_plan *p, const char *name, const char *type, const char *reason)
{
    const nib_plan_tensor *t = find_planned(p, name);
    if (strcmp(t->codec->name, type))
        fail_msg("%s is %s, should be %s", name, t->codec->name, type);
    expect_text(t->reason, reason);
}
