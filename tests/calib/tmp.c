/* SPDX-License-Identifier: MIT */
/* tests/calib/tmp.c - see tmp.h. */
#include "tests/calib/tmp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <cmocka.h>

static char dir[] = "/tmp/nib-calib-XXXXXX";

int tmp_make(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

int tmp_remove(void **state)
{
    (void)state;
    char cmd[64];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    return system(cmd);
}

const char *tmp_path(const char *name)
{
    static char path[2][128];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

const char *tmp_write(const char *name, const void *data, size_t n)
{
    const char *path = tmp_path(name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return path;
}

const char *tmp_text(const char *name, const char *text)
{
    return tmp_write(name, text, strlen(text));
}

const char *tmp_gzip(const char *name, const char *text)
{
    const char *path = tmp_path(name);
    gzFile f = gzopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(gzwrite(f, text, (unsigned)strlen(text)), strlen(text));
    assert_int_equal(gzclose(f), Z_OK);
    return path;
}

const char *tmp_patched(const char *name, const char *folder, long at, const void *data, size_t n)
{
    const char *copy = tmp_path(name);
    char text[512];
    snprintf(text, sizeof text, "cp -r '%s' '%s' && chmod -R u+w '%s'", folder, copy, copy);
    assert_int_equal(system(text), 0);
    snprintf(text, sizeof text, "%s/model.safetensors", copy);
    FILE *f = fopen(text, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return copy;
}

void tmp_expect(const char *msg, const char *part)
{
    if (!strstr(msg, part)) fail_msg("message '%s' lacks '%s'", msg, part);
}
