/* SPDX-License-Identifier: MIT */
/* cli/kept_base.c - see kept_base.h. Tests: tests/cases/commands. */
#include "cli/kept_base.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char SUFFIX[] = ".kld";

static const char *in_folder(nib_arena *keep, const char *path, const char *name)
{
    const size_t n = strlen(path) + 1 + strlen(name) + sizeof SUFFIX;
    char *file = nib_arena_alloc(keep, n, 1, 1);
    if (file) snprintf(file, n, "%s/%s%s", path, name, SUFFIX);
    return file;
}

bool nib_kept_is(const char *path, const nib_named_text *text, size_t n)
{
    nib_arena own = {0};
    if (!nib_file_is_dir(path)) return nib_base_file_is(path);
    const char *file = n ? in_folder(&own, path, text[0].name) : NULL;
    const bool is = file && nib_base_file_is(file);
    nib_arena_free(&own);
    return is;
}

nib_code nib_kept_path(const char **file, nib_arena *keep, const char *path,
                       const nib_named_text *text, size_t i, size_t n, nib_err *err)
{
    *file = path;
    if (n < 2 && !nib_file_is_dir(path)) return NIB_OK;
    if (!text[i].named || strchr(text[i].name, '/') || text[i].name[0] == '.')
        return nib_fail(err, NIB_EINVAL,
                        "--text %s: a base file for each text needs their names: --text NAME=FILE",
                        text[i].path);
    *file = in_folder(keep, path, text[i].name);
    return *file ? NIB_OK : nib_fail_nomem(err, "a file name");
}

nib_code nib_kept_prepare(const char *path, nib_arena *keep, const nib_named_text *text, size_t n,
                          bool force, nib_err *err)
{
    for (size_t i = 0; i < n; i++) {
        const char *file;
        nib_code rc = nib_kept_path(&file, keep, path, text, i, n, err);
        if (rc) return rc;
        if (!force && nib_file_exists(file))
            return nib_fail(err, NIB_EIO, "%s: exists already; --force replaces it", file);
    }
    if (n > 1 && mkdir(path, 0777) && errno != EEXIST)
        return nib_fail_sys(err, errno, "%s: cannot be made", path);
    return NIB_OK;
}
