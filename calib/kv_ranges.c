/* SPDX-License-Identifier: MIT */
/* calib/kv_ranges.c - see kv_ranges.h. Tests: tests/run/test_kv_ranges.c. */
#include "calib/kv_ranges.h"

#include "calib/pass.h"

#include <float.h>
#include <math.h>
#include <string.h>

static const char FORMAT[] = "nibble key/value ranges";
enum { MAX_BYTES = 64 << 20 };

static const char *const keys[2] = {"keys", "values"};

void nib_kv_ranges_free(nib_kv_ranges *r)
{
    for (int of = 0; of < 2; of++) nib_free(r->of[of]);
    *r = (nib_kv_ranges){.n = 0};
}

static nib_code make_room(nib_kv_ranges *r, const nib_model *m, bool per_head, nib_err *err)
{
    r->per_head = per_head;
    r->n_layer = m->hp.n_layer;
    r->n = per_head ? m->hp.n_head_kv : 1;
    for (int of = 0; of < 2; of++)
        if (!(r->of[of] = nib_calloc(r->n_layer * r->n, sizeof(float))))
            return nib_fail_nomem(err, "ranges of keys and values");
    return NIB_OK;
}

/* ---- measuring ---- */

typedef struct {
    nib_kv_ranges *r;
    size_t n_head, dim[2]; /* heads, and values of one */
} watched;

/* Of what is no number the range is none either. */
static void on_keys(void *arg, uint32_t layer, const float *k, const float *v, size_t rows)
{
    const watched *w = arg;
    const float *x[2] = {k, v};
    for (int of = 0; of < 2; of++)
        for (size_t i = 0; i < rows * w->n_head; i++) {
            float *most = w->r->of[of] + layer * w->r->n + (w->r->per_head ? i % w->n_head : 0);
            for (size_t c = 0; c < w->dim[of]; c++) {
                const float a = fabsf(x[of][i * w->dim[of] + c]);
                if (!(a <= *most)) *most = a;
            }
        }
}

nib_code nib_kv_ranges_measure(nib_kv_ranges *r, const nib_model *m, const nib_windows *w,
                               bool per_head, const nib_ctx *ctx, nib_err *err)
{
    watched seen = {r, m->hp.n_head_kv, {m->hp.head_dim, m->hp.value_dim}};
    const nib_pass pass = {.keys = {on_keys, &seen}};
    *r = (nib_kv_ranges){.n = 0};
    if (m->arch->linear_block.n)
        return nib_fail(err, NIB_EINVAL, "'%s' has layers of linear attention, which keep no keys",
                        m->arch->name);
    nib_code rc = make_room(r, m, per_head, err);
    if (!rc) rc = nib_pass_run(&pass, m, w, 0, ctx, err);
    if (!rc) rc = nib_measured_on_get(&r->on, m, w, err);
    for (size_t i = 0; i < r->n_layer * r->n * 2 && !rc; i++)
        if (!isfinite(r->of[i % 2][i / 2]))
            rc = nib_fail(err, NIB_ENUMERIC, "%s of layer %zu are not finite", keys[i % 2],
                          i / 2 / r->n);
    if (rc) nib_kv_ranges_free(r);
    return rc;
}

/* ---- writing ---- */

static bool add_layer(nib_json *list, const nib_kv_ranges *r, size_t layer)
{
    nib_json *j = nib_json_add_object(list, NULL);
    bool ok = j != NULL;
    for (int of = 0; of < 2 && ok; of++) {
        nib_json *numbers = nib_json_add_array(j, keys[of]);
        ok = numbers != NULL;
        for (size_t i = 0; i < r->n && ok; i++)
            ok = nib_json_add_num(numbers, NULL, (double)r->of[of][layer * r->n + i]);
    }
    return ok;
}

static bool add_all(nib_json *root, const nib_kv_ranges *r)
{
    bool ok = nib_measured_on_write(root, FORMAT, &r->on) &&
              nib_json_add_str(root, "strategy", r->per_head ? "head" : "tensor");
    nib_json *list = ok ? nib_json_add_array(root, "layers") : NULL;
    ok = list != NULL;
    for (size_t l = 0; l < r->n_layer && ok; l++) ok = add_layer(list, r, l);
    return ok;
}

nib_code nib_kv_ranges_save(const nib_kv_ranges *r, const char *path, bool force, nib_err *err)
{
    nib_json *root = nib_json_new_object();
    return nib_json_save(root, root && add_all(root, r), path, force, err);
}

/* ---- reading ---- */

static nib_code read_numbers(float *out, size_t n, const nib_json *list, const char *key,
                             nib_err *err)
{
    const nib_json *j = nib_json_first(list);
    double x;
    bool ok = nib_json_is_array(list) && nib_json_count(list) == n;
    for (size_t i = 0; i < n && ok; i++, j = nib_json_next(j)) {
        ok = nib_json_num(j, &x) && x >= 0 && x <= (double)FLT_MAX;
        if (ok) out[i] = (float)x;
    }
    if (ok) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT, "'%s' should be a list of %zu magnitudes", key, n);
}

static nib_code read_layers(nib_kv_ranges *r, const nib_json *list, nib_err *err)
{
    nib_code rc = NIB_OK;
    const nib_json *j = nib_json_first(list);
    if (!nib_json_is_array(list) || nib_json_count(list) != r->n_layer)
        return nib_fail(err, NIB_EFORMAT, "'layers' should be a list of %zu entries", r->n_layer);
    for (size_t l = 0; l < r->n_layer && !rc; l++, j = nib_json_next(j))
        for (int of = 0; of < 2 && !rc; of++)
            if ((rc = read_numbers(r->of[of] + l * r->n, r->n, nib_json_get(j, keys[of]), keys[of],
                                   err)))
                nib_wrap(err, "'layers', entry %zu", l);
    return rc;
}

static nib_code read_all(nib_kv_ranges *r, const nib_json *root, const nib_model *m, nib_err *err)
{
    const char *strategy;
    nib_code rc = nib_measured_on_read(&r->on, root, FORMAT, m, err);
    if (rc) return rc;
    if (!nib_json_str(nib_json_get(root, "strategy"), &strategy) ||
        (strcmp(strategy, "tensor") && strcmp(strategy, "head")))
        return nib_fail(err, NIB_EFORMAT, "'strategy' should be tensor or head");
    rc = make_room(r, m, !strcmp(strategy, "head"), err);
    return rc ? rc : read_layers(r, nib_json_get(root, "layers"), err);
}

nib_code nib_kv_ranges_load(nib_kv_ranges *r, const char *path, const nib_model *m, nib_err *err)
{
    nib_json *root;
    *r = (nib_kv_ranges){.n = 0};
    nib_code rc = nib_json_load(&root, path, MAX_BYTES, err);
    if (rc) return rc;
    rc = read_all(r, root, m, err);
    nib_json_free(root);
    if (!rc) return NIB_OK;
    nib_kv_ranges_free(r);
    return nib_wrap(err, "%s", path);
}
