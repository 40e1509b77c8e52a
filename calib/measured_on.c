/* SPDX-License-Identifier: MIT */
/* calib/measured_on.c - see measured_on.h. Tests: tests/calib/test_ranges.c,
 * tests/run/test_kv_ranges.c. */
#include "calib/measured_on.h"

#include "calib/fingerprint.h"

#include <inttypes.h>
#include <string.h>

enum { VERSION = 1 };

nib_code nib_measured_on_get(nib_measured_on *on, const nib_model *m, const nib_windows *w,
                             nib_err *err)
{
    *on =
        (nib_measured_on){.n_windows = w->n,
                          .n_ctx = w->n_ctx,
                          .text = nib_hash(NIB_HASH_START, w->id, w->n * w->n_ctx * sizeof *w->id)};
    return nib_model_fingerprint(&on->model, m, err);
}

bool nib_measured_on_write(nib_json *root, const char *format, const nib_measured_on *on)
{
    bool ok = nib_json_add_str(root, "format", format) &&
              nib_json_add_num(root, "version", VERSION) && nib_hash_add(root, "model", on->model);
    nib_json *w = ok ? nib_json_add_object(root, "windows") : NULL;
    return w && nib_json_add_num(w, "count", (double)on->n_windows) &&
           nib_json_add_num(w, "tokens", (double)on->n_ctx) &&
           nib_hash_add(w, "fingerprint", on->text);
}

static nib_code read_count(size_t *out, const nib_json *j, const char *key, nib_err *err)
{
    uint64_t v = 0;
    if (!nib_json_u64(nib_json_get(j, key), &v) || !v)
        return nib_fail(err, NIB_EFORMAT, "'%s' is missing or no whole number above 0", key);
    *out = (size_t)v;
    return NIB_OK;
}

static nib_code read_hash(uint64_t *out, const nib_json *j, const char *key, nib_err *err)
{
    if (nib_hash_get(out, j, key)) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT, "'%s' is missing or not %d hexadecimal digits", key,
                    NIB_HASH_DIGITS);
}

static nib_code check_model(const nib_measured_on *on, const nib_model *m, nib_err *err)
{
    uint64_t fingerprint;
    nib_code rc = nib_model_fingerprint(&fingerprint, m, err);
    if (rc || fingerprint == on->model) return rc;
    return nib_fail(err, NIB_EFORMAT,
                    "measured on another model than '%s' ('model' is %016" PRIx64
                    ", should be %016" PRIx64 ")",
                    nib_source_path(m->src), on->model, fingerprint);
}

nib_code nib_measured_on_read(nib_measured_on *on, const nib_json *root, const char *format,
                              const nib_model *m, nib_err *err)
{
    const nib_json *w = nib_json_get(root, "windows");
    const char *text;
    uint64_t version;
    nib_code rc;
    if (!nib_json_str(nib_json_get(root, "format"), &text) || strcmp(text, format) != 0)
        return nib_fail(err, NIB_EFORMAT, "no file of %s: 'format' should be \"%s\"",
                        format + strcspn(format, " ") + 1, format);
    if (!nib_json_u64(nib_json_get(root, "version"), &version) || version != VERSION)
        return nib_fail(err, NIB_EFORMAT, "'version' should be %d", VERSION);
    if ((rc = read_hash(&on->model, root, "model", err))) return rc;
    if ((rc = read_count(&on->n_windows, w, "count", err)) ||
        (rc = read_count(&on->n_ctx, w, "tokens", err)) ||
        (rc = read_hash(&on->text, w, "fingerprint", err)))
        return nib_wrap(err, "'windows'");
    return check_model(on, m, err);
}
