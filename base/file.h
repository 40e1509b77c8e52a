/* SPDX-License-Identifier: MIT */
/* base/file.h - files: read at an offset, read whole, write aside and rename.
 *
 * Reading is positional (pread), so one open file may be read by many threads. Sizes are taken
 * once, at open; a file that shrinks afterwards is an error, not a crash. */
#ifndef NIB_BASE_FILE_H
#define NIB_BASE_FILE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    int fd; /* -1 when closed */
    uint64_t size;
    char *path; /* owned copy, for messages */
} nib_file;

/* Open a regular file for reading. On failure *f is closed and empty. */
NIB_MUST_USE nib_code nib_file_open(nib_file *f, const char *path, nib_err *err);
/* Exactly n bytes at offset into dst; fewer is NIB_EFORMAT ("truncated"). Threads may share f. */
NIB_MUST_USE nib_code nib_file_read(const nib_file *f, uint64_t offset, void *dst, size_t n,
                                    nib_err *err);
/* Accepts a closed or zeroed-with-fd=-1 file. */
void nib_file_close(nib_file *f);

/* All n bytes at an offset of an open descriptor, whatever interrupts. `name` stands for the file
 * in errors; NIB_EIO also when it ends before. */
NIB_MUST_USE nib_code nib_fd_read(int fd, const char *name, uint64_t offset, void *dst, size_t n,
                                  nib_err *err);
NIB_MUST_USE nib_code nib_fd_write(int fd, const char *name, uint64_t offset, const void *data,
                                   size_t n, nib_err *err);

/* The whole file, with a NUL after it that is not counted. *data is the caller's (nib_free).
 * Larger than max_bytes: NIB_EFORMAT. */
NIB_MUST_USE nib_code nib_file_slurp(char **data, size_t *size, const char *path, size_t max_bytes,
                                     nib_err *err);

/* The first n bytes, as zeros where the file is shorter: enough to see of what kind it is. */
NIB_MUST_USE nib_code nib_file_head(void *dst, size_t n, const char *path, nib_err *err);

bool nib_file_exists(const char *path);
bool nib_file_is_dir(const char *path);
/* Are both there, and one and the same file or folder? */
bool nib_file_same(const char *a, const char *b);

/* "dir/name"; NULL when memory is short. The caller frees it. */
char *nib_path_join(const char *dir, const char *name);
/* The part after the last '/', borrowed from path. */
const char *nib_path_base(const char *path);
/* The folder that holds path: what stands before the last '/', "." when there is none. NULL when
 * memory is short. The caller frees it. */
char *nib_path_dir(const char *path);
/* ".NAME" and the suffix, in the folder of `path`, whose name is NAME: what lies beside a target
 * while it is made. NULL when memory is short. The caller frees it. */
char *nib_path_beside(const char *path, const char *suffix);

/* Where a file or folder of the name `path` is written: a symbolic link stands for what it points
 * to, there or not, so that the link stays. *target is the caller's (nib_free). NIB_EIO when that
 * is a device, a FIFO or a socket: those are never replaced; or when `path` ends in a slash. */
NIB_MUST_USE nib_code nib_path_target(char **target, const char *path, nib_err *err);

/* A file being written. Bytes go to a temporary name in the target's folder
 * (".NAME.nibble-tmp.PID"); nib_out_commit() syncs and renames it over the target. A crash leaves
 * the old target or none. Temporary files of runs that died are removed when the next run opens the
 * same target. Writing goes through one reused buffer. */
typedef struct nib_out nib_out;

/* What is written is nib_path_target() of `path`. NIB_EIO when the folder is missing or unwritable,
 * or the target exists and !force, or is not a regular file. */
NIB_MUST_USE nib_code nib_out_open(nib_out **out, const char *path, bool force, nib_err *err);
NIB_MUST_USE nib_code nib_out_write(nib_out *o, const void *data, size_t n, nib_err *err);
NIB_MUST_USE nib_code nib_out_zeros(nib_out *o, size_t n, nib_err *err);
/* Other bytes in place of n that were written before; not before nib_out_finish(). */
NIB_MUST_USE nib_code nib_out_rewrite(nib_out *o, uint64_t offset, const void *data, size_t n,
                                      nib_err *err);
/* Bytes written so far. */
uint64_t nib_out_pos(const nib_out *o);
/* Flush, fsync, close, rename, fsync the folder; frees o in every case. */
NIB_MUST_USE nib_code nib_out_commit(nib_out *o, nib_err *err);
/* The first half of commit: flush and fsync; the temporary file stays until nib_out_rename().
 * For targets of several files that must appear together. */
NIB_MUST_USE nib_code nib_out_finish(nib_out *o, nib_err *err);
/* Second half: rename over the target; frees o in every case. */
NIB_MUST_USE nib_code nib_out_rename(nib_out *o, nib_err *err);
/* Remove the temporary file and free; accepts NULL. */
void nib_out_abort(nib_out *o);

/* A whole file in that way: n bytes, which may be none. */
NIB_MUST_USE nib_code nib_file_save(const char *path, const void *data, size_t n, bool force,
                                    nib_err *err);

/* Make the names in the folder that holds path last: after a rename. Where that cannot be done,
 * what was renamed is there all the same, so it is no error. */
void nib_sync_parent(const char *path);

/* Bytes free for this user on the file system that holds (or will hold) `path`; UINT64_MAX when
 * unknown. */
uint64_t nib_disk_free(const char *path);

#endif
