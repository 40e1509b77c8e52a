/* SPDX-License-Identifier: MIT */
/* run/batch_record.c - see batch_record.h. Tests: tests/run/test_batch.c. */
#define _XOPEN_SOURCE 700 /* scandir */
#include "run/batch_record.h"

#include "base/file.h"
#include "base/mem.h"
#include "calib/fingerprint.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 64 << 20, CHUNK = 1 << 20 };
static const char FORMAT[] = "nibble batch 1";

static nib_code add(nib_batch_records *r, const char *output, nib_batch_record **out, nib_err *err)
{
    nib_batch_record *grown = nib_grow(r->record, r->n, r->n + 1, sizeof *grown);
    if (!grown) return nib_fail_nomem(err, "records of outputs");
    r->record = grown;
    grown[r->n] = (nib_batch_record){.output = nib_strdup(output)};
    if (!grown[r->n].output) return nib_fail_nomem(err, "a path");
    *out = &grown[r->n++];
    return NIB_OK;
}

static nib_code read_record(nib_batch_records *r, const nib_json *j, nib_err *err)
{
    const char *output;
    nib_batch_record *to = NULL, got = {0};
    if (!nib_json_str(nib_json_get(j, "output"), &output) ||
        !nib_hash_get(&got.fingerprint, j, "fingerprint") ||
        !nib_hash_get(&got.contents, j, "contents") ||
        !nib_json_bool(nib_json_get(j, "done"), &got.done))
        return nib_fail(err, NIB_EFORMAT, "a record lacks output, fingerprint, contents or done");
    nib_code rc = add(r, output, &to, err);
    if (rc) return rc;
    got.output = to->output;
    *to = got;
    return NIB_OK;
}

nib_code nib_batch_records_open(nib_batch_records *r, const char *path, bool resume, nib_err *err)
{
    nib_json *root = NULL;
    const char *format = "";
    *r = (nib_batch_records){.path = nib_strdup(path)};
    if (!r->path) return nib_fail_nomem(err, "a path");
    if (!resume || !nib_file_exists(path)) return NIB_OK;
    nib_code rc = nib_json_load(&root, path, MOST_BYTES, err);
    if (rc) return rc;
    nib_json_str(nib_json_get(root, "format"), &format);
    if (strcmp(format, FORMAT) != 0)
        rc = nib_fail(err, NIB_EFORMAT, "holds no records of a batch; remove it to start anew");
    const nib_json *j = nib_json_first(nib_json_get(root, "outputs"));
    for (; j && !rc; j = nib_json_next(j)) rc = read_record(r, j, err);
    nib_json_free(root);
    return rc ? nib_wrap(err, "%s", path) : NIB_OK;
}

void nib_batch_records_free(nib_batch_records *r)
{
    for (size_t i = 0; i < r->n; i++) nib_free(r->record[i].output);
    nib_free(r->record);
    nib_free(r->path);
    *r = (nib_batch_records){0};
}

static nib_batch_record *find(const nib_batch_records *r, const char *output)
{
    for (size_t i = 0; i < r->n; i++)
        if (!strcmp(r->record[i].output, output)) return &r->record[i];
    return NULL;
}

const nib_batch_record *nib_batch_records_find(const nib_batch_records *r, const char *output)
{
    return find(r, output);
}

static nib_code save(const nib_batch_records *r, nib_err *err)
{
    nib_json *root = nib_json_new_object();
    bool ok = root && nib_json_add_str(root, "format", FORMAT);
    nib_json *list = ok ? nib_json_add_array(root, "outputs") : NULL;
    ok = list;
    for (size_t i = 0; i < r->n && ok; i++) {
        const nib_batch_record *x = &r->record[i];
        nib_json *j = nib_json_add_object(list, NULL);
        ok = j && nib_json_add_str(j, "output", x->output) &&
             nib_hash_add(j, "fingerprint", x->fingerprint) &&
             nib_hash_add(j, "contents", x->contents) && nib_json_add_bool(j, "done", x->done);
    }
    return nib_json_save(root, ok, r->path, true, err);
}

nib_code nib_batch_records_set(nib_batch_records *r, const nib_batch_record *what, nib_err *err)
{
    nib_batch_record *to = find(r, what->output);
    nib_code rc = to ? NIB_OK : add(r, what->output, &to, err);
    if (rc) return rc;
    to->fingerprint = what->fingerprint;
    to->contents = what->contents;
    to->done = what->done;
    return save(r, err);
}

/* ---- contents ---- */

static nib_code hash_file(uint64_t *h, const char *path, uint8_t *chunk, nib_err *err)
{
    nib_file f;
    nib_code rc = nib_file_open(&f, path, err);
    if (rc) return rc;
    *h = nib_hash(*h, &f.size, sizeof f.size);
    for (uint64_t at = 0; at < f.size && !rc; at += CHUNK) {
        const size_t n = f.size - at < CHUNK ? (size_t)(f.size - at) : CHUNK;
        rc = nib_file_read(&f, at, chunk, n, err);
        if (!rc) *h = nib_hash(*h, chunk, n);
    }
    nib_file_close(&f);
    return rc;
}

static int no_dots(const struct dirent *d)
{
    return strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static nib_code hash_folder(uint64_t *h, const char *path, uint8_t *chunk, nib_err *err)
{
    struct dirent **list;
    const int n = scandir(path, &list, no_dots, by_bytes);
    nib_code rc = n < 0 ? nib_fail_sys(err, errno, "%s", path) : NIB_OK;
    for (int i = 0; i < n; i++) {
        char *file = rc ? NULL : nib_path_join(path, list[i]->d_name);
        if (!rc && !file) rc = nib_fail_nomem(err, "a path");
        if (!rc) *h = nib_hash(*h, list[i]->d_name, strlen(list[i]->d_name) + 1);
        if (!rc) rc = hash_file(h, file, chunk, err);
        nib_free(file);
        free(list[i]);
    }
    if (n >= 0) free(list);
    return rc;
}

nib_code nib_batch_hash(uint64_t *h, const char *path, nib_err *err)
{
    uint8_t *chunk = nib_alloc(CHUNK, 1);
    if (!chunk) return nib_fail_nomem(err, "reading files");
    nib_code rc =
        nib_file_is_dir(path) ? hash_folder(h, path, chunk, err) : hash_file(h, path, chunk, err);
    nib_free(chunk);
    return rc;
}
