/* SPDX-License-Identifier: MIT */
/* calib/ranges.c - see ranges.h. */
#include "calib/ranges.h"

#include <float.h>
#include <math.h>
#include <string.h>

static const char FORMAT[] = "nibble activation ranges";
enum { MAX_BYTES = 64 << 20 };

void nib_ranges_free(nib_ranges *r)
{
    nib_free(r->input);
    *r = (nib_ranges){0};
}

const nib_range *nib_ranges_find(const nib_ranges *r, uint32_t layer, nib_role role)
{
    size_t lo = 0, hi = r->n;
    while (lo < hi) {
        size_t middle = lo + (hi - lo) / 2;
        if (r->input[middle].layer < layer)
            lo = middle + 1;
        else
            hi = middle;
    }
    for (; lo < r->n && r->input[lo].layer == layer; lo++)
        for (size_t k = 0; k < r->input[lo].n_roles; k++)
            if (r->input[lo].role[k] == role) return &r->input[lo].range;
    return NULL;
}

/* ---- writing ---- */

static bool add_weights(nib_json *j, const nib_input_range *in, const nib_arch *arch)
{
    nib_json *list = nib_json_add_array(j, "weights");
    bool ok = list != NULL;
    for (size_t k = 0; k < in->n_roles && ok; k++) {
        const nib_place p = {.layer = in->layer, .role = in->role[k]};
        char name[NIB_GGUF_NAME_MAX + 1];
        nib_json *w = nib_json_add_object(list, NULL);
        nib_place_hf_name(arch, p, name, sizeof name);
        ok = w && nib_json_add_str(w, "hf", name);
        nib_place_gguf_name(p, name, sizeof name);
        ok = ok && nib_json_add_str(w, "gguf", name);
    }
    return ok;
}

static bool add_grids(nib_json *j, const nib_range *r)
{
    nib_json *sym = nib_json_add_object(j, "symmetric");
    nib_json *asym = nib_json_add_object(j, "asymmetric");
    return sym && asym && nib_json_add_num(sym, "scale", (double)r->scale) &&
           nib_json_add_num(asym, "lo", (double)r->lo) &&
           nib_json_add_num(asym, "hi", (double)r->hi) &&
           nib_json_add_num(asym, "scale", (double)r->asym_scale) &&
           nib_json_add_num(asym, "zero_point", r->zero);
}

static bool add_input(nib_json *list, const nib_input_range *in, const nib_arch *arch)
{
    nib_json *j = nib_json_add_object(list, NULL);
    return j && nib_json_add_num(j, "layer", in->layer) && add_weights(j, in, arch) &&
           nib_json_add_num(j, "values", (double)in->values) &&
           nib_json_add_num(j, "batches", (double)in->batches) &&
           nib_json_add_num(j, "min", (double)in->min) &&
           nib_json_add_num(j, "max", (double)in->max) &&
           nib_json_add_num(j, "amax", fmax(fabs((double)in->min), fabs((double)in->max))) &&
           nib_json_add_num(j, "threshold", (double)in->range.amax) && add_grids(j, &in->range);
}

static bool add_all(nib_json *root, const nib_ranges *r)
{
    bool ok = nib_measured_on_write(root, FORMAT, &r->on) &&
              nib_json_add_str(root, "method", nib_range_method_name(r->method));
    if (ok && r->method == NIB_RANGE_PERCENTILE)
        ok = nib_json_add_num(root, "percentile", r->percentile);
    nib_json *list = ok ? nib_json_add_array(root, "inputs") : NULL;
    ok = list != NULL;
    for (size_t i = 0; i < r->n && ok; i++) ok = add_input(list, &r->input[i], r->arch);
    return ok;
}

nib_code nib_ranges_save(const nib_ranges *r, const char *path, bool force, nib_err *err)
{
    nib_json *root = nib_json_new_object();
    return nib_json_save(root, root && add_all(root, r), path, force, err);
}

/* ---- reading ---- */

static nib_code read_float(float *out, const nib_json *j, const char *key, nib_err *err)
{
    double x;
    if (!nib_json_num(nib_json_get(j, key), &x) || fabs(x) > (double)FLT_MAX)
        return nib_fail(err, NIB_EFORMAT, "'%s' is missing or no number within float32", key);
    *out = (float)x;
    return NIB_OK;
}

static nib_code read_positive(float *out, const nib_json *j, const char *key, nib_err *err)
{
    nib_code rc = read_float(out, j, key, err);
    if (rc || *out > 0) return rc;
    return nib_fail(err, NIB_EFORMAT, "'%s' is %g and should be above 0", key, (double)*out);
}

static nib_code read_count(uint64_t *out, const nib_json *j, const char *key, nib_err *err)
{
    if (nib_json_u64(nib_json_get(j, key), out) && *out) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT, "'%s' is missing or no whole number above 0", key);
}

/* The first step that reads what the weight of that role reads. */
static const nib_step *first_reader(const nib_arch *a, nib_role r)
{
    const nib_steps *s = nib_arch_steps_of(a, r);
    return s->step + nib_steps_first_reader(s, r);
}

static nib_code read_weight(nib_ranges *r, nib_input_range *in, const nib_json *j, nib_err *err)
{
    const char *gguf, *hf;
    char expected[NIB_GGUF_NAME_MAX + 1];
    nib_place p;
    if (!nib_json_str(nib_json_get(j, "gguf"), &gguf) || !nib_json_str(nib_json_get(j, "hf"), &hf))
        return nib_fail(err, NIB_EFORMAT, "a weight should have its names in 'gguf' and 'hf'");
    if (!nib_place_parse(gguf, NULL, &p) || p.bias || p.role < NIB_ROLE_FIRST_BLOCK)
        return nib_fail(err, NIB_EFORMAT, "'%.100s' is no weight of a block", gguf);
    nib_place_hf_name(r->arch, p, expected, sizeof expected);
    if (strcmp(hf, expected) != 0)
        return nib_fail(err, NIB_EFORMAT, "'%s' should be '%s' by its other name, not '%.100s'",
                        gguf, expected, hf);
    if (p.layer != in->layer)
        return nib_fail(err, NIB_EFORMAT, "'%s' is not of layer %u", gguf, in->layer);
    if (in->n_roles == NIB_READERS_MAX || nib_ranges_find(r, p.layer, p.role))
        return nib_fail(err, NIB_EFORMAT, "'%s' is listed twice, or with more than %d others", gguf,
                        NIB_READERS_MAX - 1);
    if (in->n_roles && first_reader(r->arch, p.role) != first_reader(r->arch, in->role[0]))
        return nib_fail(err, NIB_EFORMAT, "'%s' does not read the same as the weight before it",
                        gguf);
    in->role[in->n_roles++] = p.role;
    return NIB_OK;
}

static nib_code read_range(nib_range *r, const nib_json *j, nib_err *err)
{
    const nib_json *sym = nib_json_get(j, "symmetric"), *asym = nib_json_get(j, "asymmetric");
    nib_code rc;
    double zero;
    if ((rc = read_positive(&r->amax, j, "threshold", err))) return rc;
    if ((rc = read_positive(&r->scale, sym, "scale", err))) return nib_wrap(err, "'symmetric'");
    if ((rc = read_float(&r->lo, asym, "lo", err)) || (rc = read_float(&r->hi, asym, "hi", err)) ||
        (rc = read_positive(&r->asym_scale, asym, "scale", err)))
        return nib_wrap(err, "'asymmetric'");
    if (!(r->lo <= 0 && r->hi >= 0 && r->lo < r->hi))
        return nib_fail(err, NIB_EFORMAT, "'asymmetric': 'lo' %g and 'hi' %g do not enclose 0",
                        (double)r->lo, (double)r->hi);
    if (!nib_json_num(nib_json_get(asym, "zero_point"), &zero) || zero != floor(zero) ||
        zero < -128 || zero > 127)
        return nib_fail(err, NIB_EFORMAT,
                        "'asymmetric': 'zero_point' should be a whole number from -128 to 127");
    r->zero = (int)zero;
    return NIB_OK;
}

/* The next entry, r->input[r->n]; there is room. */
static nib_code read_input(nib_ranges *r, const nib_json *j, uint32_t n_layer, nib_err *err)
{
    nib_input_range *in = &r->input[r->n];
    const nib_json *weights = nib_json_get(j, "weights");
    nib_code rc;
    uint64_t layer;
    if (!nib_json_u64(nib_json_get(j, "layer"), &layer) || layer >= n_layer ||
        (r->n && layer < in[-1].layer))
        return nib_fail(err, NIB_EFORMAT,
                        "'layer' should be a number below %u, and no lower than the one before it",
                        n_layer);
    *in = (nib_input_range){.layer = (uint32_t)layer};
    if (!nib_json_is_array(weights) || !nib_json_first(weights))
        return nib_fail(err, NIB_EFORMAT, "'weights' should be a list of names");
    r->n++; /* so that a name that comes twice is found */
    for (const nib_json *w = nib_json_first(weights); w; w = nib_json_next(w))
        if ((rc = read_weight(r, in, w, err))) return rc;
    if ((rc = read_count(&in->values, j, "values", err))) return rc;
    if ((rc = read_count(&in->batches, j, "batches", err))) return rc;
    if ((rc = read_float(&in->min, j, "min", err))) return rc;
    if ((rc = read_float(&in->max, j, "max", err))) return rc;
    if (in->min > in->max)
        return nib_fail(err, NIB_EFORMAT, "'min' %g is above 'max' %g", (double)in->min,
                        (double)in->max);
    return read_range(&in->range, j, err);
}

static nib_code read_inputs(nib_ranges *r, const nib_json *list, uint32_t n_layer, nib_err *err)
{
    const size_t count = nib_json_count(list), most = (size_t)n_layer * NIB_ROLE_COUNT;
    if (!nib_json_is_array(list) || count > most)
        return nib_fail(err, NIB_EFORMAT, "'inputs' should be a list of at most %zu entries", most);
    r->input = nib_calloc(count, sizeof *r->input);
    if (!r->input) return nib_fail_nomem(err, "activation ranges");
    size_t i = 0;
    for (const nib_json *j = nib_json_first(list); j; j = nib_json_next(j), i++) {
        nib_code rc = read_input(r, j, n_layer, err);
        if (rc) return nib_wrap(err, "'inputs', entry %zu", i);
    }
    return NIB_OK;
}

static nib_code read_method(nib_ranges *r, const nib_json *root, nib_err *err)
{
    const char *method;
    if (!nib_json_str(nib_json_get(root, "method"), &method) ||
        (r->method = nib_range_method_find(method)) == NIB_RANGE_METHODS)
        return nib_fail(err, NIB_EFORMAT,
                        "'method' should be minmax, average, percentile, mse or kl");
    if (r->method == NIB_RANGE_PERCENTILE &&
        (!nib_json_num(nib_json_get(root, "percentile"), &r->percentile) || r->percentile <= 0 ||
         r->percentile >= 100))
        return nib_fail(err, NIB_EFORMAT, "'percentile' should be a number between 0 and 100");
    return NIB_OK;
}

static nib_code check_complete(const nib_ranges *r, const nib_model *m, nib_err *err)
{
    for (uint32_t layer = 0; layer < m->hp.n_layer; layer++)
        for (nib_role role = NIB_ROLE_FIRST_BLOCK; role < NIB_ROLE_COUNT; role++) {
            const nib_tensor *w = nib_model_param(m, layer, role)->weight;
            if (w && nib_role_is_linear(role) && !nib_ranges_find(r, layer, role))
                return nib_fail(err, NIB_EFORMAT, "'inputs' has no entry for weight '%s'", w->name);
        }
    return NIB_OK;
}

nib_code nib_ranges_load(nib_ranges *r, const char *path, const nib_model *m, nib_err *err)
{
    nib_json *root;
    *r = (nib_ranges){0};
    nib_code rc = nib_json_load(&root, path, MAX_BYTES, err);
    if (rc) return rc;
    r->arch = m->arch;
    rc = nib_measured_on_read(&r->on, root, FORMAT, m, err);
    if (!rc) rc = read_method(r, root, err);
    if (!rc) rc = read_inputs(r, nib_json_get(root, "inputs"), m->hp.n_layer, err);
    if (!rc) rc = check_complete(r, m, err);
    nib_json_free(root);
    if (!rc) return NIB_OK;
    nib_ranges_free(r);
    return nib_wrap(err, "%s", path);
}
