/* SPDX-License-Identifier: MIT */
/* formats/packed_folder.c - see packed_folder.h. Tests: tests/run/test_folder_foreign.c. */
#include "formats/packed_folder.h"

#include "base/str.h"
#include "formats/packed_format_impl.h"

#include <stdio.h>
#include <string.h>

/* What the folder's configuration says. */
typedef struct {
    nib_packing_rules rules;
    nib_packing_kind kind[NIB_PACKING_KINDS]; /* [n_kinds] those of its checkpoint format */
    size_t n_kinds;
    const nib_file *file;
} folder;

void nib_packed_free(nib_packed_set *set)
{
    nib_free(set->v);
    nib_tensors_free(&set->parts);
    nib_arena_free(&set->memory);
    *set = (nib_packed_set){0};
}

/* ---- what the folder says ---- */

/* What config.json says of quantization, under its names: compressed-tensors had the second. */
static const nib_json *config_of(const nib_hf_files *side)
{
    return nib_json_either(nib_hf_files_json(side, "config.json"), "quantization_config",
                           "compression_config");
}

/* The method of AutoRound's folders is the one whose layout they have: "auto_round:auto_gptq". */
static const char *method_of_packing(const nib_json *config, const char *method)
{
    const char *packing = "";
    if (strcmp(method, "auto-round") && strcmp(method, "intel/auto-round")) return method;
    nib_json_str(nib_json_either(config, "packing_format", "backend"), &packing);
    if (strstr(packing, "gptq")) return nib_packing_method(NIB_PACKING_GPTQ);
    if (strstr(packing, "awq")) return nib_packing_method(NIB_PACKING_AWQ);
    return method;
}

/* Its method; NULL: it does not say, and has no key that only one method has. */
static const char *method_of(const nib_json *config)
{
    static const struct {
        const char *key;
        nib_packing_kind kind;
    } telling[] = {{"config_groups", NIB_PACKING_CT_PACKED},
                   {"zero_point", NIB_PACKING_AWQ},
                   {"load_in_4bit", NIB_PACKING_BNB4},
                   {"load_in_8bit", NIB_PACKING_BNB8},
                   {"desc_act", NIB_PACKING_GPTQ}};
    const char *method;
    if (nib_json_str(nib_json_get(config, "quant_method"), &method))
        return method_of_packing(config, method);
    for (size_t i = 0; i < sizeof telling / sizeof *telling; i++)
        if (nib_json_get(config, telling[i].key)) return nib_packing_method(telling[i].kind);
    return NULL;
}

/* The object that describes the format, and the format's name; NULL: not one that is known here. */
static const nib_json *find_config(const nib_hf_files *side, const char **method)
{
    const nib_json *j = config_of(side);
    if (j) {
        *method = method_of(j);
        return *method && nib_packing_knows(*method) ? j : NULL;
    }
    for (int k = 0; k < NIB_PACKING_KINDS; k++) {
        const char *own = nib_packed_config_file((nib_packing_kind)k);
        *method = nib_packing_method((nib_packing_kind)k);
        if (!own || !(j = nib_hf_files_json(side, own))) continue;
        const char *said = *method;
        nib_json_str(nib_json_get(j, "quant_method"), &said);
        if (!strcmp(said, *method)) return j;
    }
    return NULL;
}

const char *nib_packed_unknown(const nib_hf_files *side)
{
    const nib_json *config = nib_hf_files_json(side, "config.json"), *j = config_of(side);
    const char *method = method_of(j);
    if (method) return nib_packing_knows(method) ? NULL : method;
    if (nib_json_is_object(nib_json_get(config, "quantization"))) return "mlx";
    if (nib_hf_files_json(side, "hf_quant_config.json")) return "modelopt";
    if (!nib_json_is_object(j)) return NULL;
    return "(no quant_method)";
}

/* ---- what a tensor is, by its name ---- */

/* Length of the layer's name when t holds the codes of a weight; else 0. Codes may have the same
 * suffix as weights that are not packed, but they are no numbers by themselves. */
static size_t is_codes(const nib_tensors *ts, const nib_tensor *t, nib_packing_kind kind)
{
    const char *suffix = nib_packing_suffix(kind, NIB_PART_CODES);
    size_t n = nib_stem(t->name, suffix);
    if (!n || n > NIB_PACKED_NAME_MAX || !nib_packing_holds(kind, t->codec->type)) return 0;
    const bool number =
        t->codec->decode && t->codec->type != NIB_F8_E4M3 && t->codec->type != NIB_F8_E5M2;
    const bool sure = !number && *suffix; /* without one, any tensor could be it */
    return sure || nib_packed_part(ts, t->name, n, kind, NIB_PART_SCALES) ? n : 0;
}

/* Length of the layer's name when t holds the codes of a weight, and of what kind; else 0. */
static size_t find_codes(const folder *d, const nib_tensors *ts, const nib_tensor *t,
                         nib_packing_kind *kind)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n_kinds && !n; i++) n = is_codes(ts, t, *kind = d->kind[i]);
    return n;
}

/* Length of the layer's name when t is another part of a weight than its codes; else 0. */
static size_t is_part(const nib_tensor *t, nib_packing_kind kind)
{
    size_t n = 0;
    for (int role = NIB_PART_CODES + 1; role < NIB_PART_ROLES && !n; role++) {
        const char *suffix = nib_packing_suffix(kind, (nib_part_role)role);
        if (suffix) n = nib_stem(t->name, suffix);
    }
    return n;
}

/* ---- the list of weights ---- */

/* The weight itself, in place of its codes. */
static nib_code add_weight(nib_tensors *to, nib_packed *p, const nib_tensor *q, size_t n,
                           nib_err *err)
{
    char name[NIB_PACKED_NAME_MAX + 32];
    const nib_packing_kind kind = p->l.format.kind;
    const unsigned tail = nib_packing_tail(kind, NIB_PART_CODES);
    int k = snprintf(name, sizeof name, "%.*s%s", (int)n, q->name, nib_packing_weight_suffix(kind));
    nib_tensor *t = nib_tensors_add(to, name, (size_t)k);
    if (!t) return nib_fail_nomem(err, "the list of tensors");
    t->codec = &p->codec;
    t->n_dims = tail ? q->n_dims - (int)tail + 1 : 2;
    t->shape[0] = p->l.out;
    if (tail) memcpy(t->shape, q->shape, (size_t)(t->n_dims - 1) * sizeof *t->shape);
    t->shape[t->n_dims - 1] = p->l.in;
    t->offset = q->offset;
    t->file = q->file;
    for (size_t i = 0; i < p->l.n_parts; i++) t->bytes += p->part[i]->bytes;
    t->packed = p;
    return NIB_OK;
}

static nib_code copy_tensor(nib_tensors *to, const nib_tensor *from, nib_err *err)
{
    nib_tensor *t = nib_tensors_add(to, from->name, strlen(from->name));
    if (!t) return nib_fail_nomem(err, "the list of tensors");
    const char *name = t->name;
    *t = *from;
    t->name = name;
    return NIB_OK;
}

/* How the layer whose name is the first n bytes is packed. */
static nib_code find_format(const nib_packing **out, const folder *d, const nib_tensor *t, size_t n,
                            nib_err *err)
{
    char layer[NIB_PACKED_NAME_MAX + 1];
    snprintf(layer, sizeof layer, "%.*s", (int)n, t->name);
    nib_code rc = nib_packing_rules_find(out, &d->rules, layer, err);
    return rc ? nib_wrap(err, "quantization_config") : NIB_OK;
}

static nib_code fold_codes(nib_packed_set *set, nib_tensors *to, const folder *d,
                           const nib_tensor *t, size_t n, nib_packing_kind kind, nib_err *err)
{
    const nib_packed_from from = {&set->parts, d->file, &set->memory};
    const nib_packing *f;
    nib_code rc = find_format(&f, d, t, n, err);
    /* Of several kinds with the same names the configuration's is the one. */
    if (!rc && f && is_codes(&set->parts, t, f->kind) == n) kind = f->kind;
    if (!rc && (!f || (f->kind != kind && nib_packing_renamed(f->kind) != kind)))
        rc = nib_fail(err, NIB_EFORMAT,
                      "tensor '%.200s' is there, but quantization_config does not say that its "
                      "layer is packed%s",
                      t->name, f ? " in this way" : "");
    if (rc) return rc;
    nib_packed *p = &set->v[set->n++];
    rc = nib_packed_gather(p, &from, *f, t, n, err);
    set->n_settled += p->settled;
    return rc ? rc : add_weight(to, p, t, n, err);
}

/* A part without codes says nothing. */
static nib_code lost_part(const folder *d, const nib_tensor *t, size_t n, nib_packing_kind kind,
                          nib_err *err)
{
    const nib_packing *f;
    nib_code rc = find_format(&f, d, t, n, err);
    return rc ? rc
              : nib_packed_missing(t, n, nib_packing_suffix(f ? f->kind : kind, NIB_PART_CODES),
                                   err);
}

/* One tensor of the files: the codes of a weight, another part of one, or one of its own. */
static nib_code fold_one(nib_packed_set *set, nib_tensors *to, const folder *d, const nib_tensor *t,
                         nib_err *err)
{
    nib_packing_kind kind = d->kind[0];
    size_t n = find_codes(d, &set->parts, t, &kind), lost = 0;
    if (n) return fold_codes(set, to, d, t, n, kind, err);
    for (size_t i = 0; i < d->n_kinds; i++) {
        if (!(n = is_part(t, d->kind[i]))) continue;
        if (nib_packed_part(&set->parts, t->name, n, d->kind[i], NIB_PART_CODES)) return NIB_OK;
        if (!lost) kind = d->kind[i]; /* the most usual one of that name */
        lost = lost ? lost : n;
    }
    return lost ? lost_part(d, t, lost, kind, err) : copy_tensor(to, t, err);
}

/* The list of weights in place of that of set->parts. */
static nib_code fold(nib_packed_set *set, nib_tensors *ts, const folder *d, nib_err *err)
{
    nib_packing_kind kind;
    size_t n = 0;
    for (size_t i = 0; i < ts->n; i++) n += find_codes(d, ts, &ts->v[i], &kind) > 0;
    if (!n) return NIB_OK;
    set->parts = *ts;
    *ts = (nib_tensors){0};
    set->v = nib_calloc(n, sizeof *set->v);
    if (!set->v) return nib_fail_nomem(err, "packed weights");
    nib_code rc = nib_tensors_reserve(ts, set->parts.n, err);
    for (size_t i = 0; i < set->parts.n && !rc; i++)
        rc = fold_one(set, ts, d, &set->parts.v[i], err);
    return rc;
}

nib_code nib_packed_fold(nib_packed_set *set, nib_tensors *ts, const nib_hf_files *side,
                         const nib_file *file, nib_err *err)
{
    folder d = {.file = file};
    const char *method;
    const nib_json *config = find_config(side, &method);
    if (!config) return NIB_OK;
    for (int k = 0; k < NIB_PACKING_KINDS; k++)
        if (!strcmp(nib_packing_method((nib_packing_kind)k), method))
            d.kind[d.n_kinds++] = (nib_packing_kind)k;
    nib_code rc = nib_packed_config_read(&d.rules, method, config, err);
    rc = rc ? nib_wrap(err, "quantization_config") : fold(set, ts, &d, err);
    nib_packing_rules_free(&d.rules);
    return rc;
}
