/* SPDX-License-Identifier: MIT */
/* formats/carried.c - see carried.h. Tests: tests/run/test_write_folder.c. */
#include "formats/carried.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum { SMALL_FILE_MAX = 256 << 20 };

/* Texts that belong to a model; configurations and indexes are made anew. */
static bool carried_along(const char *name)
{
    static const char *const ends[] = {".json", ".txt", ".jinja", ".md", ".model", ".py"};
    static const char *const made[] = {
        "config.json",          "quantize_config.json",         "quant_config.json",
        "hf_quant_config.json", "model.safetensors.index.json", "nibble.json"};
    if (*name == '.') return false;
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        if (!strcmp(name, made[i])) return false;
    if (strstr(name, ".index.json")) return false;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (nib_ends_with(name, ends[i])) return true;
    return !strncmp(name, "README", 6) || !strncmp(name, "LICENSE", 7) ||
           !strncmp(name, "NOTICE", 6);
}

static nib_code copy(const char *to, const char *from, nib_err *err)
{
    char *data, *path = nib_path_join(to, nib_path_base(from));
    size_t n;
    if (!path) return nib_fail_nomem(err, "a path");
    nib_code rc = nib_file_slurp(&data, &n, from, SMALL_FILE_MAX, err);
    if (!rc) {
        rc = nib_file_save(path, data, n, false, err);
        nib_free(data);
    }
    nib_free(path);
    return rc;
}

static nib_code open_folder(DIR **out, char **path, const nib_source *s, nib_err *err)
{
    *path = nib_source_folder(s);
    *out = *path ? opendir(*path) : NULL;
    if (!*path) return nib_fail_nomem(err, "a path");
    return *out ? NIB_OK : nib_fail_sys(err, errno, "%s", *path);
}

/* The next file that is carried along, its path the caller's; NULL: there are no more. */
static nib_code next(char **path, DIR *d, const char *folder, nib_err *err)
{
    *path = NULL;
    for (struct dirent *e; (e = readdir(d));) {
        if (!carried_along(e->d_name)) continue;
        if (!(*path = nib_path_join(folder, e->d_name))) return nib_fail_nomem(err, "a path");
        if (!nib_file_is_dir(*path)) return NIB_OK;
        nib_free(*path);
        *path = NULL;
    }
    return NIB_OK;
}

nib_code nib_carried_copy(const char *to, const nib_source *s, nib_err *err)
{
    char *folder, *path = NULL;
    DIR *d;
    nib_code rc = open_folder(&d, &folder, s, err);
    while (!rc && !(rc = next(&path, d, folder, err)) && path) {
        rc = copy(to, path, err);
        nib_free(path);
    }
    if (d) closedir(d);
    nib_free(folder);
    return rc;
}

nib_code nib_carried_bytes(uint64_t *bytes, const nib_source *s, nib_err *err)
{
    char *folder, *path = NULL;
    DIR *d;
    nib_code rc = open_folder(&d, &folder, s, err);
    *bytes = 0;
    while (!rc && !(rc = next(&path, d, folder, err)) && path) {
        struct stat st;
        if (!stat(path, &st)) *bytes += (uint64_t)st.st_size;
        nib_free(path);
    }
    if (d) closedir(d);
    nib_free(folder);
    return rc;
}
