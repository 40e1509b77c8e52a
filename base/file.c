/* SPDX-License-Identifier: MIT */
/* base/file.c - see file.h. */
#include "base/file.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { OUT_BUFFER = 1 << 20, LINKS_MAX = 40 /* in a row; as many as Linux follows */ };
static const char TMP_MARK[] = ".nibble-tmp.";

/* ---- reading ---- */

nib_code nib_file_open(nib_file *f, const char *path, nib_err *err)
{
    *f = (nib_file){.fd = -1};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return nib_fail_sys(err, errno, "%s", path);
    struct stat st;
    if (fstat(fd, &st)) {
        int e = errno;
        close(fd);
        return nib_fail_sys(err, e, "%s", path);
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return nib_fail(err, NIB_EIO, "%s: not a regular file", path);
    }
    char *copy = nib_strdup(path);
    if (!copy) {
        close(fd);
        return nib_fail_nomem(err, "a file name");
    }
    *f = (nib_file){fd, (uint64_t)st.st_size, copy};
    return NIB_OK;
}

nib_code nib_fd_read(int fd, const char *name, uint64_t offset, void *dst, size_t n, nib_err *err)
{
    for (uint8_t *p = dst; n;) {
        ssize_t got = pread(fd, p, n, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return nib_fail_sys(err, errno, "%s: reading at offset %llu", name,
                                (unsigned long long)offset);
        if (got == 0)
            return nib_fail(err, NIB_EIO, "%s: ends at offset %llu; it was longer before", name,
                            (unsigned long long)offset);
        p += got;
        offset += (uint64_t)got;
        n -= (size_t)got;
    }
    return NIB_OK;
}

nib_code nib_fd_write(int fd, const char *name, uint64_t offset, const void *data, size_t n,
                      nib_err *err)
{
    for (const uint8_t *p = data; n;) {
        ssize_t put = pwrite(fd, p, n, (off_t)offset);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0)
            return nib_fail_sys(err, errno, "%s: writing at offset %llu", name,
                                (unsigned long long)offset);
        p += put;
        offset += (uint64_t)put;
        n -= (size_t)put;
    }
    return NIB_OK;
}

nib_code nib_file_read(const nib_file *f, uint64_t offset, void *dst, size_t n, nib_err *err)
{
    if (offset > f->size || n > f->size - offset)
        return nib_fail(err, NIB_EFORMAT,
                        "%s: truncated: %zu bytes at offset %llu run past the end (%llu bytes)",
                        f->path, n, (unsigned long long)offset, (unsigned long long)f->size);
    return nib_fd_read(f->fd, f->path, offset, dst, n, err);
}

void nib_file_close(nib_file *f)
{
    if (f->path && f->fd >= 0) close(f->fd);
    nib_free(f->path);
    *f = (nib_file){.fd = -1};
}

nib_code nib_file_slurp(char **data, size_t *size, const char *path, size_t max_bytes, nib_err *err)
{
    nib_file f;
    *data = NULL;
    *size = 0;
    nib_code rc = nib_file_open(&f, path, err);
    if (rc) return rc;
    char *p = NULL;
    if (f.size > max_bytes) {
        rc = nib_fail(err, NIB_EFORMAT,
                      "%s: %llu bytes, more than the %zu that this kind of file may have", path,
                      (unsigned long long)f.size, max_bytes);
    } else if (!(p = nib_alloc((size_t)f.size + 1, 1))) {
        rc = nib_fail_nomem(err, path);
    } else if (!(rc = nib_file_read(&f, 0, p, (size_t)f.size, err))) {
        p[f.size] = 0;
        *data = p;
        *size = (size_t)f.size;
        p = NULL;
    }
    nib_free(p);
    nib_file_close(&f);
    return rc;
}

nib_code nib_file_head(void *dst, size_t n, const char *path, nib_err *err)
{
    nib_file f;
    nib_code rc = nib_file_open(&f, path, err);
    if (rc) return rc;
    memset(dst, 0, n);
    rc = nib_file_read(&f, 0, dst, f.size < n ? (size_t)f.size : n, err);
    nib_file_close(&f);
    return rc;
}

bool nib_file_exists(const char *path)
{
    struct stat st;
    return !lstat(path, &st);
}

bool nib_file_is_dir(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

bool nib_file_same(const char *a, const char *b)
{
    struct stat s, t;
    return !stat(a, &s) && !stat(b, &t) && s.st_dev == t.st_dev && s.st_ino == t.st_ino;
}

/* ---- paths ---- */

char *nib_path_join(const char *dir, const char *name)
{
    size_t d = strlen(dir), n = strlen(name);
    bool slash = d && dir[d - 1] != '/';
    char *p = nib_alloc(d + slash + n + 1, 1);
    if (!p) return NULL;
    memcpy(p, dir, d);
    if (slash) p[d] = '/';
    memcpy(p + d + slash, name, n + 1);
    return p;
}

const char *nib_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *nib_path_dir(const char *path)
{
    const char *base = nib_path_base(path);
    if (base == path) return nib_strdup(".");
    size_t n = (size_t)(base - path);
    return nib_strndup(path, n > 1 ? n - 1 : 1);
}

char *nib_path_beside(const char *path, const char *suffix)
{
    const char *base = nib_path_base(path);
    size_t n = strlen(path) + strlen(suffix) + 2;
    char *p = nib_alloc(n, 1);
    if (p) snprintf(p, n, "%.*s.%s%s", (int)(base - path), path, base, suffix);
    return p;
}

/* Where the symbolic link `at` leads in one step; NULL when memory is short. */
static char *link_step(const char *at, const char *link)
{
    if (*link == '/') return nib_strdup(link);
    char *dir = nib_path_dir(at), *next = dir ? nib_path_join(dir, link) : NULL;
    nib_free(dir);
    return next;
}

/* What `path` leads to when its last part is a symbolic link, step by step: the end need not
 * exist. */
static nib_code follow(char **to, const char *path, nib_err *err)
{
    char link[4096], *at = nib_strdup(path);
    for (int i = 0; at && i < LINKS_MAX; i++) {
        ssize_t n = readlink(at, link, sizeof link - 1);
        if (n < 0) { /* no link, or nothing */
            *to = at;
            return NIB_OK;
        }
        link[n] = 0;
        char *next = link_step(at, link);
        nib_free(at);
        at = next;
    }
    bool endless = at;
    nib_free(at);
    return endless ? nib_fail_sys(err, ELOOP, "%s", path) : nib_fail_nomem(err, "a path");
}

nib_code nib_path_target(char **target, const char *path, nib_err *err)
{
    struct stat st;
    const size_t n = strlen(path);
    *target = NULL;
    if (n && path[n - 1] == '/')
        return nib_fail(err, NIB_EIO, "%s: names a folder, and a file is written here: name one",
                        path);
    const bool there = !stat(path, &st);
    const char *odd = !there                 ? NULL
                      : S_ISCHR(st.st_mode)  ? "a character device"
                      : S_ISBLK(st.st_mode)  ? "a block device"
                      : S_ISFIFO(st.st_mode) ? "a FIFO"
                      : S_ISSOCK(st.st_mode) ? "a socket"
                                             : NULL;
    if (odd)
        return nib_fail(err, NIB_EIO,
                        "%s: is %s; name a regular file, which is written aside and renamed", path,
                        odd);
    nib_code rc = follow(target, path, err);
    if (rc || !there || nib_file_same(path, *target)) return rc;
    nib_free(*target); /* /dev/stdout of a file that was removed */
    *target = NULL;
    return nib_fail(err, NIB_EIO, "%s: a symbolic link that does not lead to its file", path);
}

/* ---- writing ---- */

struct nib_out {
    int fd;
    char *path, *tmp;
    uint64_t pos;
    size_t fill;
    uint8_t buffer[OUT_BUFFER];
};

static void out_free(nib_out *o)
{
    if (!o) return;
    if (o->fd >= 0) close(o->fd);
    nib_free(o->path);
    nib_free(o->tmp);
    nib_free(o);
}

void nib_out_abort(nib_out *o)
{
    if (o && o->tmp) unlink(o->tmp);
    out_free(o);
}

/* A lock tells files being written from litter: it goes when the writer dies, however it dies,
 * while its process number may belong to somebody else by then, or mean nothing in this container.
 * Where the file system has no locks, only a file of our own name is known to be litter. */
static void remove_litter(const char *path, bool own_name)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    if (!flock(fd, LOCK_EX | LOCK_NB) || (errno != EWOULDBLOCK && own_name)) unlink(path);
    close(fd);
}

/* Remove temporary files that dead runs left beside the target `base` in `dir`; `tmp` is the name
 * that this run is going to use. */
static void sweep_litter(const char *dir, const char *base, const char *tmp)
{
    DIR *d = opendir(dir);
    if (!d) return;
    size_t n = strlen(base), m = sizeof TMP_MARK - 1;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] != '.' || strncmp(e->d_name + 1, base, n) ||
            strncmp(e->d_name + 1 + n, TMP_MARK, m))
            continue;
        char *path = nib_path_join(dir, e->d_name);
        if (path) remove_litter(path, !strcmp(path, tmp));
        nib_free(path);
    }
    closedir(d);
}

static char *tmp_name(const char *dir, const char *base)
{
    size_t n = strlen(dir) + strlen(base) + sizeof TMP_MARK + 32;
    char *p = nib_alloc(n, 1);
    if (p) snprintf(p, n, "%s/.%s%s%ld", dir, base, TMP_MARK, (long)getpid());
    return p;
}

/* Create and lock the temporary file; -1 and errno when that fails. Another run's sweep may take it
 * for litter before it is locked: then make it anew. */
static int create_locked(const char *tmp)
{
    for (;;) {
        struct stat st;
        int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0) return -1;
        if (flock(fd, LOCK_EX) || fstat(fd, &st) || st.st_nlink) return fd;
        close(fd);
    }
}

nib_code nib_out_open(nib_out **out, const char *name, bool force, nib_err *err)
{
    char *path, *dir = NULL;
    nib_out *o = NULL;
    *out = NULL;
    nib_code rc = nib_path_target(&path, name, err);
    if (rc) return rc;
    if (nib_file_is_dir(path))
        rc = nib_fail(err, NIB_EIO, "%s: is a folder; name a file", path);
    else if (!force && nib_file_exists(path))
        rc = nib_fail(err, NIB_EIO, "%s: exists already; --force replaces it", path);
    if (rc) goto done;
    dir = nib_path_dir(path);
    o = nib_alloc(1, sizeof *o);
    if (o) { /* all but the buffer, which is large */
        o->fd = -1;
        o->pos = 0;
        o->fill = 0;
        o->path = nib_strdup(path);
        o->tmp = dir ? tmp_name(dir, nib_path_base(path)) : NULL;
    }
    if (!o || !o->path || !o->tmp) {
        rc = nib_fail_nomem(err, "an output file");
        goto done;
    }
    sweep_litter(dir, nib_path_base(path), o->tmp);
    o->fd = create_locked(o->tmp);
    if (o->fd < 0) {
        rc = nib_fail_sys(err, errno, "%s: cannot create a file in folder '%s'", path, dir);
        goto done;
    }
    *out = o;
    o = NULL;
done:
    nib_free(dir);
    nib_free(path);
    out_free(o);
    return rc;
}

static nib_code write_all(nib_out *o, const uint8_t *p, size_t n, nib_err *err)
{
    while (n) {
        ssize_t put = write(o->fd, p, n);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return nib_fail_sys(err, errno, "%s: writing", o->path);
        p += put;
        n -= (size_t)put;
    }
    return NIB_OK;
}

static nib_code flush(nib_out *o, nib_err *err)
{
    size_t n = o->fill;
    o->fill = 0;
    return write_all(o, o->buffer, n, err);
}

nib_code nib_out_write(nib_out *o, const void *data, size_t n, nib_err *err)
{
    o->pos += n;
    if (n > OUT_BUFFER - o->fill) {
        nib_code rc = flush(o, err);
        if (rc) return rc;
        if (n >= OUT_BUFFER) return write_all(o, data, n, err);
    }
    memcpy(o->buffer + o->fill, data, n);
    o->fill += n;
    return NIB_OK;
}

nib_code nib_out_zeros(nib_out *o, size_t n, nib_err *err)
{
    static const uint8_t zeros[256];
    while (n) {
        size_t k = n < sizeof zeros ? n : sizeof zeros;
        nib_code rc = nib_out_write(o, zeros, k, err);
        if (rc) return rc;
        n -= k;
    }
    return NIB_OK;
}

uint64_t nib_out_pos(const nib_out *o)
{
    return o->pos;
}

nib_code nib_out_finish(nib_out *o, nib_err *err)
{
    nib_code rc = flush(o, err);
    if (rc) return rc;
    if (fsync(o->fd)) return nib_fail_sys(err, errno, "%s: flushing to disk", o->path);
    /* Closing a copy reports what a close has to report, and keeps the lock until the rename. */
    int copy = dup(o->fd);
    if (copy >= 0 && close(copy)) return nib_fail_sys(err, errno, "%s: closing", o->path);
    return NIB_OK;
}

nib_code nib_out_rewrite(nib_out *o, uint64_t offset, const void *data, size_t n, nib_err *err)
{
    nib_code rc = nib_fd_write(o->fd, o->path, offset, data, n, err);
    if (!rc && fsync(o->fd)) rc = nib_fail_sys(err, errno, "%s: flushing to disk", o->path);
    return rc;
}

void nib_sync_parent(const char *path)
{
    char *dir = nib_path_dir(path);
    int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    nib_free(dir);
}

nib_code nib_out_rename(nib_out *o, nib_err *err)
{
    if (rename(o->tmp, o->path)) {
        nib_code rc = nib_fail_sys(err, errno, "%s: renaming the finished file", o->path);
        nib_out_abort(o);
        return rc;
    }
    nib_sync_parent(o->path);
    out_free(o);
    return NIB_OK;
}

nib_code nib_out_commit(nib_out *o, nib_err *err)
{
    nib_code rc = nib_out_finish(o, err);
    if (rc) {
        nib_out_abort(o);
        return rc;
    }
    return nib_out_rename(o, err);
}

nib_code nib_file_save(const char *path, const void *data, size_t n, bool force, nib_err *err)
{
    nib_out *o;
    nib_code rc = nib_out_open(&o, path, force, err);
    if (rc) return rc;
    if (!(rc = nib_out_write(o, data, n, err))) return nib_out_commit(o, err);
    nib_out_abort(o);
    return rc;
}

uint64_t nib_disk_free(const char *path)
{
    struct statvfs v;
    char *dir = nib_file_is_dir(path) ? nib_strdup(path) : nib_path_dir(path);
    uint64_t n = UINT64_MAX;
    if (dir && !statvfs(dir, &v)) n = (uint64_t)v.f_bavail * v.f_frsize;
    nib_free(dir);
    return n;
}
