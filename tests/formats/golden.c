/* SPDX-License-Identifier: MIT */
#include "tests/formats/golden.h"

#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

nib_source *open_golden(const char *set, const char *name)
{
    char file[128];
    nib_err err = {0};
    nib_source *s;
    snprintf(file, sizeof file, "%s/%s.safetensors", set, name);
    char *path = nib_path_join(getenv("NIB_GOLDEN"), file);
    if (nib_source_open(&s, path, &err)) fail_msg("%s", err.msg);
    nib_free(path);
    return s;
}

void *bytes_of(const nib_source *s, const char *name)
{
    nib_err err;
    const nib_tensor *t = nib_source_find(s, name);
    if (!t) fail_msg("no tensor %s", name);
    void *p = nib_alloc((size_t)t->bytes, 1);
    assert_int_equal(nib_source_read(s, t, 0, p, (size_t)t->bytes, &err), NIB_OK);
    return p;
}

void expect_part(const nib_source *s, const nib_packed_parts *l, const uint8_t *packed,
                 nib_part_role role, const char *name)
{
    void *want = bytes_of(s, name);
    size_t i = 0;
    while (l->part[i].role != role) i++;
    assert_int_equal(nib_source_find(s, name)->bytes, l->part[i].bytes);
    assert_memory_equal(packed + l->part[i].at, want, (size_t)l->part[i].bytes);
    nib_free(want);
}
