/* SPDX-License-Identifier: MIT */
/* tests/formats/make.c - see make.h. */
#include "tests/formats/make.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

void put(bytes *f, const void *data, size_t n)
{
    if (n > sizeof f->b - f->n) fail_msg("the test's file is too large");
    memcpy(f->b + f->n, data, n);
    f->n += n;
}

void put_uint(bytes *f, uint64_t v, size_t n)
{
    uint8_t b[8];
    for (size_t i = 0; i < n; i++) b[i] = (uint8_t)(v >> 8 * i);
    put(f, b, n);
}

void put_str(bytes *f, const char *s)
{
    put_uint(f, strlen(s), 8);
    put(f, s, strlen(s));
}

void make_safetensors(bytes *f, const char *header, size_t data)
{
    f->n = 0;
    put_uint(f, strlen(header), 8);
    put(f, header, strlen(header));
    for (size_t i = 0; i < data; i++) put_uint(f, i, 1);
}

nib_source *must_open(const char *path)
{
    nib_source *s;
    nib_err err = {0};
    if (nib_source_open(&s, path, &err)) fail_msg("%s", err.msg);
    return s;
}

void must_refuse(const char *path, const char *part)
{
    nib_source *s;
    nib_err err = {0};
    if (!nib_source_open(&s, path, &err)) fail_msg("%s was opened; '%s' expected", path, part);
    assert_null(s);
    assert_int_not_equal(err.code, NIB_OK);
    if (!strstr(err.msg, part)) fail_msg("message '%s' lacks '%s'", err.msg, part);
}
