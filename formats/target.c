/* SPDX-License-Identifier: MIT */
/* formats/target.c - see target.h. What it finds may change until the files are written; writing
 * checks for itself. Tests: tests/run/test_target.c. */
#include "formats/target.h"
#include "base/file.h"
#include "base/mem.h"
#include "formats/solved_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

nib_code nib_target_folder(const char *path, nib_err *err)
{
    char *dir = nib_path_dir(path);
    if (!dir) return nib_fail_nomem(err, "a path");
    nib_code rc = NIB_OK;
    if (access(dir, F_OK))
        rc = nib_fail_sys(err, errno, "%s: folder '%s'", path, dir);
    else if (!nib_file_is_dir(dir))
        rc = nib_fail(err, NIB_EIO, "%s: '%s' is not a folder", path, dir);
    else if (access(dir, W_OK | X_OK))
        rc = nib_fail_sys(err, errno, "%s: cannot write into folder '%s'", path, dir);
    nib_free(dir);
    return rc;
}

nib_code nib_target_find(nib_target *t, const char *name, bool folder, nib_err *err)
{
    size_t n = strlen(name);
    *t = (nib_target){.lock.fd = -1};
    while (folder && n > 1 && name[n - 1] == '/') n--;
    char *plain = nib_strndup(name, n);
    if (!plain) return nib_fail_nomem(err, "a path");
    nib_code rc = nib_path_target(&t->path, plain, err);
    nib_free(plain);
    return rc;
}

nib_code nib_target_claim(nib_target *t, const char *name, bool folder, nib_err *err)
{
    nib_code rc = nib_target_find(t, name, folder, err);
    if (!rc) rc = nib_target_folder(t->path, err);
    if (!rc) rc = nib_lock_take(&t->lock, t->path, err);
    if (rc) nib_target_release(t);
    return rc;
}

void nib_target_release(nib_target *t)
{
    nib_lock_release(&t->lock);
    nib_free(t->path);
    *t = (nib_target){.lock.fd = -1};
}

static nib_code check_file(const char *path, const nib_source *src, bool force, nib_err *err)
{
    for (size_t i = 0; i < nib_source_n_files(src); i++)
        if (nib_file_same(path, nib_source_file(src, i)))
            return nib_fail(err, NIB_EINVAL, "%s: is a file of the model that is being read", path);
    char *target;
    nib_code rc = nib_path_target(&target, path, err);
    nib_free(target);
    if (rc) return rc;
    if (nib_file_is_dir(path))
        return nib_fail(err, NIB_EIO, "%s: is a folder; name a file in it", path);
    if (!force && nib_file_exists(path))
        return nib_fail(err, NIB_EIO, "%s: exists already; --force replaces it", path);
    return NIB_OK;
}

nib_code nib_target_room(const char *path, const nib_disk_need *need, uint64_t disk_free,
                         nib_err *err)
{
    const bool solving = need->spilled > need->output;
    const uint64_t bytes = need->solved + (solving ? need->spilled : need->output),
                   there = nib_solved_file_bytes(path);
    char parts[160] = "";
    if (bytes <= disk_free || bytes - disk_free <= there) return NIB_OK;
    if (solving)
        snprintf(parts, sizeof parts,
                 " (%.1f for solved tensors, %.1f for activations, which --memory keeps in memory)",
                 (double)need->solved / 1e6, (double)need->spilled / 1e6);
    else if (need->solved)
        snprintf(parts, sizeof parts,
                 " (%.1f for the output, %.1f for solved tensors until it is there)",
                 (double)need->output / 1e6, (double)need->solved / 1e6);
    return nib_fail(err, NIB_EIO, "%s: needs %.1f MB of disk%s, and %.1f MB are free", path,
                    (double)bytes / 1e6, parts, (double)(disk_free + there) / 1e6);
}

nib_code nib_target_check(const nib_output_files *l, const nib_source *src, bool force,
                          nib_err *err)
{
    nib_code rc = nib_target_folder(l->file_path[0], err);
    for (size_t i = 0; i < l->n_files && !rc; i++)
        rc = check_file(l->file_path[i], src, force, err);
    return rc;
}
