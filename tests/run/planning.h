/* SPDX-License-Identifier: MIT */
/* tests/run/planning.h - plans of the demonstration model, made and looked into. */
#ifndef NIB_TESTS_RUN_PLANNING_H
#define NIB_TESTS_RUN_PLANNING_H

#include "tests/run/fixture.h"

/* The demonstration model, open between CMocka's group setup and teardown. */
extern opened tiny;
int open_tiny(void **state);
int close_tiny(void **state);

/* A plan of it. */
nib_code try_plan(nib_plan *p, const nib_recipe *r, const nib_imatrix *im, nib_err *err);
/* Must succeed. */
void plan_ok(nib_plan *p, const nib_recipe *r, const nib_imatrix *im);
/* Must fail with this code, and say `text`. */
void plan_fails(const nib_recipe *r, const nib_imatrix *im, nib_code code, const char *text);

/* A tensor of the plan; fails the test when there is none of that name. */
const nib_plan_tensor *find_planned(const nib_plan *p, const char *name);
/* Its format must be `type`, and what is said of it contain `reason`. */
void expect_type(const nib_plan *p, const char *name, const char *type, const char *reason);

#endif
