/* SPDX-License-Identifier: MIT */
/* calib/checkpoint.c - see checkpoint.h. Tests: tests/calib/test_collect_importance.c. */
#include "calib/checkpoint.h"
#include "base/file.h"
#include "calib/fingerprint.h"

#include <string.h>

static const char KEY_RUN[] = "nibble.calibration.fingerprint";
static const char KEY_DONE[] = "nibble.calibration.windows_done";

nib_code nib_checkpoint_fingerprint(uint64_t *out, const nib_model *m, const nib_windows *w,
                                    const nib_calib_opts *opts, nib_err *err)
{
    uint64_t sizes[4] = {w->n, w->n_ctx, opts->process_output, opts->all_experts};
    nib_code rc = nib_model_fingerprint(out, m, err);
    if (rc) return rc;
    *out = nib_hash(*out, sizes, sizeof sizes);
    *out = nib_hash(*out, w->id, w->n * w->n_ctx * sizeof *w->id);
    return NIB_OK;
}

nib_code nib_checkpoint_save(const nib_imatrix *m, uint64_t fingerprint, size_t windows_done,
                             const char *path, nib_err *err)
{
    char hex[NIB_HASH_DIGITS + 1];
    nib_code rc;
    nib_gguf_kvs *extra = nib_gguf_kvs_new();
    nib_hash_text(hex, fingerprint);
    if (!extra || !nib_gguf_set_str(extra, KEY_RUN, hex, NIB_HASH_DIGITS) ||
        !nib_gguf_set_u32(extra, KEY_DONE, (uint32_t)windows_done))
        rc = nib_fail_nomem(err, "a checkpoint");
    else
        rc = nib_imatrix_write(m, NIB_F64, extra, path, true, err);
    nib_gguf_kvs_free(extra);
    return rc;
}

/* All entries of *m, which must be in `from` with the same sizes. */
static nib_code copy_entries(nib_imatrix *m, const nib_imatrix *from, nib_err *err)
{
    for (size_t i = 0; i < m->n; i++) {
        nib_imatrix_entry *a = &m->entry[i];
        const nib_imatrix_entry *b = nib_imatrix_find(from, a->name);
        if (!b || b->cols != a->cols || b->n_mat != a->n_mat)
            return nib_fail(err, NIB_EFORMAT, "entry '%s' is missing or of another size", a->name);
    }
    for (size_t i = 0; i < m->n; i++) {
        nib_imatrix_entry *a = &m->entry[i];
        const nib_imatrix_entry *b = nib_imatrix_find(from, a->name);
        memcpy(a->in_sum2, b->in_sum2, a->cols * a->n_mat * sizeof *a->in_sum2);
        memcpy(a->counts, b->counts, a->n_mat * sizeof *a->counts);
    }
    return NIB_OK;
}

static nib_code load_from(nib_imatrix *m, uint64_t fingerprint, size_t *windows_done,
                          const nib_source *src, nib_log *log, nib_err *err)
{
    char hex[NIB_HASH_DIGITS + 1];
    nib_str run;
    uint64_t done;
    nib_imatrix saved;
    const nib_gguf_kvs *kvs = nib_source_kvs(src);
    if (!kvs || !nib_gguf_get_str(kvs, KEY_RUN, &run) || !nib_gguf_get_u64(kvs, KEY_DONE, &done))
        return nib_fail(err, NIB_EFORMAT, "not a calibration's checkpoint");
    nib_hash_text(hex, fingerprint);
    if (strcmp(run.p, hex)) {
        nib_warn(log, "%s: of a run with another model, text or options; starting anew",
                 nib_source_path(src));
        return NIB_OK;
    }
    nib_code rc = nib_imatrix_read(&saved, src, err);
    if (rc) return rc;
    rc = copy_entries(m, &saved, err);
    nib_imatrix_free(&saved);
    if (!rc) *windows_done = done;
    return rc;
}

nib_code nib_checkpoint_load(nib_imatrix *m, uint64_t fingerprint, size_t *windows_done,
                             const char *path, nib_log *log, nib_err *err)
{
    nib_source *src;
    *windows_done = 0;
    if (!nib_file_exists(path)) return NIB_OK;
    nib_code rc = nib_source_open(&src, path, err);
    if (!rc) {
        rc = load_from(m, fingerprint, windows_done, src, log, err);
        nib_source_close(src);
    }
    return rc ? nib_wrap(err, "a file in the place of the checkpoint '%s' (remove it)", path) : rc;
}
