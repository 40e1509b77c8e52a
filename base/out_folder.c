/* SPDX-License-Identifier: MIT */
/* base/out_folder.c - see out_folder.h. Tests: tests/run/test_out_folder.c. */
#define _GNU_SOURCE /* renameat2 */
#include "base/out_folder.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char TEMPORARY[] = ".nibble-tmp.", OLD[] = ".old";

static bool is_dots(const char *name)
{
    return !strcmp(name, ".") || !strcmp(name, "..");
}

/* Remove a folder of files. */
static void remove_flat(const char *dir)
{
    DIR *d = opendir(dir);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));) {
        char *path = is_dots(e->d_name) ? NULL : nib_path_join(dir, e->d_name);
        if (path) unlink(path);
        nib_free(path);
    }
    closedir(d);
    rmdir(dir);
}

/* ---- may it be made ---- */

static nib_code check_replaceable(const char *target, const char *mark, nib_err *err)
{
    DIR *d = opendir(target);
    if (!d) return nib_fail_sys(err, errno, "%s", target);
    bool marked = false, empty = true;
    nib_code rc = NIB_OK;
    for (struct dirent *e; !rc && (e = readdir(d));) {
        if (is_dots(e->d_name)) continue;
        empty = false;
        marked |= !strcmp(e->d_name, mark);
        char *path = nib_path_join(target, e->d_name);
        if (!path)
            rc = nib_fail_nomem(err, "a path");
        else if (nib_file_is_dir(path))
            rc = nib_fail(err, NIB_EIO, "%s: holds a folder, '%s', so --force does not replace it",
                          target, e->d_name);
        nib_free(path);
    }
    closedir(d);
    if (!rc && !marked && !empty)
        rc =
            nib_fail(err, NIB_EIO, "%s: holds no %s, so --force does not replace it", target, mark);
    return rc;
}

nib_code nib_out_folder_check(const char *target, const char *mark, bool force, nib_err *err)
{
    struct stat st;
    if (lstat(target, &st))
        return errno == ENOENT ? NIB_OK : nib_fail_sys(err, errno, "%s", target);
    if (!S_ISDIR(st.st_mode)) return nib_fail(err, NIB_EIO, "%s: is no folder", target);
    if (!force) return nib_fail(err, NIB_EIO, "%s: exists already; --force replaces it", target);
    return check_replaceable(target, mark, err);
}

/* ---- what dead runs left ---- */

/* A replaced folder goes back to its name when its successor never came. */
static void sweep_one(const char *path, const char *target)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    if (fd < 0) return;
    if (!flock(fd, LOCK_EX | LOCK_NB)) {
        if (!nib_ends_with(path, OLD) || !lstat(target, &st) || rename(path, target))
            remove_flat(path);
    }
    close(fd);
}

static void sweep(const char *target)
{
    const char *base = nib_path_base(target);
    const size_t n = strlen(base);
    char *dir = nib_path_dir(target);
    DIR *d = dir ? opendir(dir) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] != '.' || strncmp(e->d_name + 1, base, n) ||
            strncmp(e->d_name + 1 + n, TEMPORARY, sizeof TEMPORARY - 1))
            continue;
        char *path = nib_path_join(dir, e->d_name);
        if (path) sweep_one(path, target);
        nib_free(path);
    }
    if (d) closedir(d);
    nib_free(dir);
}

/* ---- making it ---- */

static void stage_free(nib_out_folder *s)
{
    if (s->fd >= 0) close(s->fd);
    nib_free(s->target);
    nib_free(s->dir);
    nib_free(s->old);
    *s = (nib_out_folder){.fd = -1};
}

void nib_out_folder_abort(nib_out_folder *s)
{
    if (s->fd >= 0) remove_flat(s->dir);
    stage_free(s);
}

static nib_code make_dir(nib_out_folder *s, nib_err *err)
{
    if (mkdir(s->dir, 0777))
        return nib_fail_sys(err, errno, "%s: cannot make a folder beside it", s->target);
    if ((s->fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return nib_fail_sys(err, errno, "%s", s->dir);
    flock(s->fd, LOCK_EX); /* where there are no locks, litter stays */
    return NIB_OK;
}

nib_code nib_out_folder_open(nib_out_folder *s, const char *target, const char *mark, bool force,
                             nib_err *err)
{
    const size_t room = strlen(target) + sizeof TEMPORARY + sizeof OLD + 32;
    const char *base = nib_path_base(target);
    *s = (nib_out_folder){.target = nib_strdup(target),
                          .dir = nib_alloc(room, 1),
                          .old = nib_alloc(room, 1),
                          .mark = mark,
                          .force = force,
                          .fd = -1};
    if (!s->target || !s->dir || !s->old) {
        stage_free(s);
        return nib_fail_nomem(err, "a path");
    }
    snprintf(s->dir, room, "%.*s.%s%s%ld", (int)(base - target), target, base, TEMPORARY,
             (long)getpid());
    snprintf(s->old, room, "%s%s", s->dir, OLD);
    sweep(target);
    nib_code rc = nib_out_folder_check(target, mark, force, err);
    if (!rc) rc = make_dir(s, err);
    if (rc) stage_free(s);
    return rc;
}

static nib_code finish(const nib_out_folder *s, nib_err *err)
{
    if (!rename(s->dir, s->target)) return NIB_OK;
    return nib_fail_sys(err, errno, "%s: renaming the finished folder", s->target);
}

/* Where the file system cannot exchange two names. When a run is killed in between, the next one
 * puts the old folder back. */
static nib_code replace_in_steps(const nib_out_folder *s, nib_err *err)
{
    if (rename(s->target, s->old))
        return nib_fail_sys(err, errno, "%s: moving the old folder aside", s->target);
    nib_code rc = finish(s, err);
    if (!rc) {
        nib_sync_parent(s->target);
        remove_flat(s->old);
    } else if (rename(s->old, s->target)) {
        nib_wrap(err, "the old one is '%s'", s->old);
    }
    return rc;
}

/* Where names can be exchanged, the old folder is there or the new one, at every moment. */
static nib_code replace(const nib_out_folder *s, nib_err *err)
{
    if (renameat2(AT_FDCWD, s->dir, AT_FDCWD, s->target, RENAME_EXCHANGE))
        return replace_in_steps(s, err);
    nib_sync_parent(s->target);
    remove_flat(s->dir);
    return NIB_OK;
}

nib_code nib_out_folder_commit(nib_out_folder *s, nib_err *err)
{
    nib_code rc = nib_out_folder_check(s->target, s->mark, s->force, err);
    fsync(s->fd);
    if (!rc) rc = nib_file_is_dir(s->target) ? replace(s, err) : finish(s, err);
    if (rc) {
        nib_out_folder_abort(s);
        return rc;
    }
    nib_sync_parent(s->target);
    stage_free(s);
    return NIB_OK;
}
