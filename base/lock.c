/* SPDX-License-Identifier: MIT */
/* base/lock.c - see lock.h. */
#include "base/lock.h"

#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A process that was killed lets go when the system has taken it apart, which may be after whoever
 * killed it goes on: a lock is asked for so often before it counts as held. */
enum { HOST_MAX = 256, TRIES = 20, PAUSE_MS = 50 };

/* What a lock file says. */
typedef struct {
    long pid; /* 0: nothing that can be read */
    char host[HOST_MAX];
} holder;

static holder myself(void)
{
    holder h = {.pid = (long)getpid()};
    if (gethostname(h.host, sizeof h.host - 1)) *h.host = 0;
    return h;
}

static holder read_holder(int fd)
{
    holder h = {0};
    char text[HOST_MAX + 32], *end;
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    text[strcspn(text, "\n")] = 0;
    long pid = strtol(text, &end, 10);
    if (*end != ' ' || pid <= 0 || strlen(end + 1) >= sizeof h.host) return h;
    h.pid = pid;
    strcpy(h.host, end + 1);
    return h;
}

static nib_code write_holder(const nib_lock *l, nib_err *err)
{
    const holder me = myself();
    char text[HOST_MAX + 32];
    int n = snprintf(text, sizeof text, "%ld %s\n", me.pid, me.host);
    if (ftruncate(l->fd, 0)) return nib_fail_sys(err, errno, "%s", l->path);
    return nib_fd_write(l->fd, l->path, 0, text, (size_t)n, err);
}

/* Does the process that the file names live? Only for this host it can be asked. */
static bool is_alive(const holder *h)
{
    const holder me = myself();
    return h->pid && h->pid != me.pid && !strcmp(h->host, me.host) &&
           (!kill((pid_t)h->pid, 0) || errno == EPERM);
}

static bool is_held(int fd)
{
    if (!flock(fd, LOCK_EX | LOCK_NB)) return false;
    if (errno == EWOULDBLOCK) return true;
    const holder h = read_holder(fd);
    return is_alive(&h);
}

static nib_code fail_held(int fd, const char *target, nib_err *err)
{
    const holder h = read_holder(fd);
    if (!h.pid) return nib_fail(err, NIB_EIO, "%s: another run is writing it", target);
    return nib_fail(err, NIB_EIO, "%s: another run is writing it: process %ld on host '%s'", target,
                    h.pid, h.host);
}

/* Is the open file still the one of that name? Its holder removes it when done. */
static bool is_current(const nib_lock *l)
{
    struct stat mine, there;
    return !fstat(l->fd, &mine) && !lstat(l->path, &there) && mine.st_dev == there.st_dev &&
           mine.st_ino == there.st_ino;
}

static nib_code open_file(nib_lock *l, const char *target, nib_err *err)
{
    struct stat st;
    l->fd = open(l->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
    if (l->fd < 0) return nib_fail_sys(err, errno, "%s: cannot lock it by '%s'", target, l->path);
    if (!fstat(l->fd, &st) && S_ISREG(st.st_mode)) return NIB_OK;
    return nib_fail(err, NIB_EIO, "%s: cannot lock it: '%s' is not a regular file", target,
                    l->path);
}

static void lock_free(nib_lock *l)
{
    if (l->path && l->fd >= 0) close(l->fd);
    nib_free(l->path);
    *l = (nib_lock){.fd = -1};
}

nib_code nib_lock_take(nib_lock *l, const char *target, nib_err *err)
{
    *l = (nib_lock){.fd = -1, .path = nib_path_beside(target, ".nibble-lock")};
    if (!l->path) return nib_fail_nomem(err, "a path");
    nib_code rc;
    for (int i = 1;; i++) {
        rc = open_file(l, target, err);
        const bool held = !rc && is_held(l->fd);
        if (held && i >= TRIES) rc = fail_held(l->fd, target, err);
        if (rc || (!held && is_current(l))) break;
        if (held) nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL);
        close(l->fd);
        l->fd = -1;
    }
    if (!rc) rc = write_holder(l, err);
    if (rc) lock_free(l);
    return rc;
}

void nib_lock_release(nib_lock *l)
{
    if (l->path) unlink(l->path); /* while it is locked: nobody else's */
    lock_free(l);
}
