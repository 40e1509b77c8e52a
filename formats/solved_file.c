/* SPDX-License-Identifier: MIT */
/* formats/solved_file.c - see solved_file.h. Head: 8 bytes of mark, u64 fingerprint, u32 blocks
 * done, little-endian, in the first HEAD bytes; tensor data follows. */
#include "formats/solved_file.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/rd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEAD = 64 };
static const char MARK[8] = "nibsolv1", SUFFIX[] = ".nibble-solved";

uint64_t nib_solved_file_bytes(const char *target)
{
    struct stat st;
    char *path = nib_path_beside(target, SUFFIX);
    const uint64_t bytes = path && !lstat(path, &st) ? (uint64_t)st.st_blocks * 512 : 0;
    nib_free(path);
    return bytes;
}

nib_code nib_solved_file_write(nib_solved_file *s, uint64_t offset, const void *data, size_t n,
                               nib_err *err)
{
    return nib_fd_write(s->fd, s->path, HEAD + offset, data, n, err);
}

nib_code nib_solved_file_read(const nib_solved_file *s, uint64_t offset, void *data, size_t n,
                              nib_err *err)
{
    return nib_fd_read(s->fd, s->path, HEAD + offset, data, n, err);
}

nib_code nib_solved_file_mark(nib_solved_file *s, uint32_t done, nib_err *err)
{
    uint8_t head[HEAD] = {0};
    memcpy(head, MARK, sizeof MARK);
    for (int i = 0; i < 8; i++) head[8 + i] = (uint8_t)(s->fingerprint >> 8 * i);
    for (int i = 0; i < 4; i++) head[16 + i] = (uint8_t)(done >> 8 * i);
    if (fsync(s->fd)) return nib_fail_sys(err, errno, "%s: flushing to disk", s->path);
    nib_code rc = nib_fd_write(s->fd, s->path, 0, head, sizeof head, err);
    if (!rc && fsync(s->fd)) rc = nib_fail_sys(err, errno, "%s: flushing to disk", s->path);
    s->done = done;
    return rc;
}

static nib_code take_up(nib_solved_file *s, nib_err *err)
{
    uint8_t head[HEAD];
    nib_code rc = nib_fd_read(s->fd, s->path, 0, head, sizeof head, err);
    if (rc) return rc;
    nib_rd r = {head, head + sizeof head, false};
    if (memcmp(nib_rd_bytes(&r, sizeof MARK), MARK, sizeof MARK))
        return nib_fail(err, NIB_EFORMAT, "%s: holds no unfinished run", s->path);
    if (nib_rd_u64(&r) != s->fingerprint)
        return nib_fail(err, NIB_EINVAL,
                        "%s: the unfinished run had another model, text or recipe; run it again "
                        "with the same, or without --resume to start anew",
                        s->path);
    s->done = nib_rd_u32(&r);
    return NIB_OK;
}

/* Never through a link, and into nothing but a file: the name is known to everybody. */
static nib_code open_file(nib_solved_file *s, bool resume, nib_err *err)
{
    struct stat st;
    const int flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    s->fd = open(s->path, flags | (resume ? 0 : O_TRUNC), 0666);
    if (s->fd < 0) return nib_fail_sys(err, errno, "%s", s->path);
    if (!fstat(s->fd, &st) && S_ISREG(st.st_mode)) return NIB_OK;
    return nib_fail(err, NIB_EIO, "%s: is not a regular file", s->path);
}

nib_code nib_solved_file_open(nib_solved_file *s, const char *target, uint64_t fingerprint,
                              bool resume, nib_err *err)
{
    *s = (nib_solved_file){.fd = -1, .fingerprint = fingerprint};
    if (!(s->path = nib_path_beside(target, SUFFIX))) return nib_fail_nomem(err, "a path");
    bool found = nib_file_exists(s->path);
    nib_code rc = open_file(s, resume, err);
    if (!rc) rc = resume && found ? take_up(s, err) : nib_solved_file_mark(s, 0, err);
    if (rc) nib_solved_file_close(s, false);
    return rc;
}

void nib_solved_file_close(nib_solved_file *s, bool remove)
{
    if (s->path && s->fd >= 0) close(s->fd);
    if (s->path && remove) unlink(s->path);
    nib_free(s->path);
    *s = (nib_solved_file){.fd = -1};
}
