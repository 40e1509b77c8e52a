/* SPDX-License-Identifier: MIT */
/* formats/packed_ct_config.c - the configuration of compressed-tensors folders: see packed_ct.h.
 *
 * Groups of settings, "config_groups": {"group_0": ...}, each for the layers of its "targets":
 * names, "re:" and a regular expression that matches from the start of the name on, or a class,
 * "Linear" or "Embedding". Names win over expressions, these over the class; of several expressions
 * the first in the order of their letters wins, as the library has it. Which layers are packed is
 * seen from the tensors, so "ignore" is written but not read. Embeddings are packed like linear
 * layers, rows for outputs; they are written as a class, since some engines build them without a
 * name.
 * Tests: tests/formats/test_packed_config.c. */
#include "formats/packed_ct.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Which layout the words "format" and "num_bits" stand for. "naive-quantized" has the tensors of
 * the layouts that nothing packs. */
static const struct {
    const char *name, *type;
    nib_packing_kind kind;
} FORMATS[] = {{"pack-quantized", "int", NIB_PACKING_CT_PACKED},
               {"int-quantized", "int", NIB_PACKING_CT_INT},
               {"float-quantized", "float", NIB_PACKING_CT_FP8},
               {"nvfp4-pack-quantized", "float", NIB_PACKING_CT_NVFP4},
               {"mxfp4-pack-quantized", "float", NIB_PACKING_CT_MXFP4},
               {"mxfp8-quantized", "float", NIB_PACKING_CT_MXFP8},
               {"naive-quantized", "float", NIB_PACKING_CT_FP8}};
enum { N_FORMATS = sizeof FORMATS / sizeof *FORMATS };

static size_t format_of(nib_packing_kind kind)
{
    size_t i = 0;
    while (FORMATS[i].kind != kind) i++;
    return i;
}

static const char *format_name(const nib_packing *f)
{
    return FORMATS[format_of(f->kind)].name;
}

/* ---- reading ---- */

/* How weights or inputs are rounded. */
typedef struct {
    uint64_t bits, group, rows; /* rows and group: of a tile, "block_structure" */
    const char *type, *strategy;
    bool sym, dynamic, local, by_activation; /* local: dynamic, under a fixed scale of all */
} args;

/* "block_structure": [rows, columns], or "128x128". */
static nib_code read_tile(args *a, const nib_json *j, nib_err *err)
{
    const char *text;
    unsigned rows = 0, cols = 0;
    const nib_json *side = nib_json_first(j);
    if (nib_json_str(j, &text) && sscanf(text, "%ux%u", &rows, &cols) == 2)
        a->rows = rows, a->group = cols;
    else if (!nib_json_is_array(j) || nib_json_count(j) != 2 || !nib_json_u64(side, &a->rows) ||
             !nib_json_u64(nib_json_next(side), &a->group))
        a->rows = 0;
    if (a->rows && a->group && a->rows <= NIB_PACKING_COLS_MAX && a->group <= NIB_PACKING_COLS_MAX)
        return NIB_OK;
    return nib_fail(err, NIB_EFORMAT, "'block_structure' should be rows and columns of a tile");
}

static nib_code read_strategy(args *a, const nib_json *j, nib_err *err)
{
    const char *actorder = NULL;
    const nib_json *order = nib_json_get(j, "actorder");
    if (!nib_json_str(nib_json_get(j, "strategy"), &a->strategy))
        return nib_fail(err, NIB_EFORMAT, "'strategy' is missing or not a string");
    if (order && !nib_json_is_null(order) && !nib_json_str(order, &actorder))
        return nib_fail(err, NIB_EFORMAT, "'actorder' is not a string");
    a->by_activation = actorder && (!strcmp(actorder, "group") || !strcmp(actorder, "dynamic"));
    if (!strcmp(a->strategy, "block")) return read_tile(a, nib_json_get(j, "block_structure"), err);
    if (strcmp(a->strategy, "group") && strcmp(a->strategy, "tensor_group")) return NIB_OK;
    nib_code rc = nib_config_group(&a->group, nib_json_get(j, "group_size"), err);
    if (!rc && !a->group) a->strategy = "channel";
    return rc;
}

/* `type` is what codes are, `other` what they may be, too; NULL: nothing else. */
static nib_code read_args(args *a, const nib_json *j, const char *type, const char *other,
                          nib_err *err)
{
    const char *dynamic = "";
    *a = (args){.type = "int", .sym = true};
    if (!nib_json_u64(nib_json_get(j, "num_bits"), &a->bits) || a->bits < 1 || a->bits > 8)
        return nib_fail(err, NIB_EFORMAT, "'num_bits' is missing or not from 1 to 8");
    nib_json_str(nib_json_get(j, "type"), &a->type);
    if (strcmp(a->type, type) && !(other && !strcmp(a->type, other)))
        return nib_fail(err, NIB_EFORMAT, "'type' is '%.60s'; nibble reads %s in this format",
                        a->type, type);
    nib_json_str(nib_json_get(j, "dynamic"), &dynamic);
    a->local = !strcmp(dynamic, "local");
    nib_code rc = nib_config_flag(&a->sym, j, "symmetric", err);
    if (!rc && !a->local) rc = nib_config_flag(&a->dynamic, j, "dynamic", err);
    return rc ? rc : read_strategy(a, j, err);
}

/* The strategies of weights and of dynamic and static inputs, and the range of bits, that a layout
 * has; where there is one of a group, the group. */
static const struct {
    nib_packing_kind kind;
    const char *weights[3], *dynamic[2], *fixed;
    uint64_t bits[2], group;
} CAN[] = {
    {NIB_PACKING_CT_PACKED, {"channel", "group"}, {"token"}, NULL, {1, 8}, 0},
    {NIB_PACKING_CT_INT, {"channel", "tensor", "group"}, {"token"}, "tensor", {1, 8}, 0},
    {NIB_PACKING_CT_FP8, {"channel", "tensor", "block"}, {"token", "group"}, "tensor", {8, 8}, 0},
    {NIB_PACKING_CT_NVFP4, {"tensor_group"}, {NULL}, "tensor_group", {4, 4}, 16},
    {NIB_PACKING_CT_MXFP4, {"group"}, {"group"}, NULL, {4, 4}, 32},
    {NIB_PACKING_CT_MXFP8, {"group"}, {"group"}, NULL, {8, 8}, 32},
};

/* The dtypes of scales, BF16 where tensors say it, and of codes, F32 where bits say it; and the
 * name of the former where the configuration gives it. */
typedef struct {
    nib_type scale, code;
    const char *scale_name;
} dtypes;

static dtypes dtypes_of(nib_packing_kind kind)
{
    switch (kind) {
    case NIB_PACKING_CT_FP8: return (dtypes){NIB_BF16, NIB_F8_E4M3, NULL};
    case NIB_PACKING_CT_NVFP4: return (dtypes){NIB_F8_E4M3, NIB_F32, "torch.float8_e4m3fn"};
    case NIB_PACKING_CT_MXFP4: return (dtypes){NIB_U8, NIB_F32, "torch.uint8"};
    case NIB_PACKING_CT_MXFP8: return (dtypes){NIB_U8, NIB_F8_E4M3, "torch.uint8"};
    default: return (dtypes){NIB_BF16, NIB_F32, NULL};
    }
}

static size_t can(nib_packing_kind kind)
{
    size_t i = 0;
    while (CAN[i].kind != kind) i++;
    return i;
}

static bool listed(const char *strategy, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (list[i] && !strcmp(strategy, list[i])) return true;
    return false;
}

static void list_names(char *buf, size_t n, const char *const *list, size_t n_list)
{
    size_t at = 0;
    *buf = 0;
    for (size_t i = 0; i < n_list && list[i] && at < n; i++)
        at += (size_t)snprintf(buf + at, n - at, "%s%s",
                               !i                                ? ""
                               : i + 1 == n_list || !list[i + 1] ? " and "
                                                                 : ", ",
                               list[i]);
}

static nib_code read_weights(nib_packing *f, const nib_json *j, nib_err *err)
{
    args a;
    char known[64];
    const size_t k = can(f->kind);
    nib_code rc = read_args(&a, j, FORMATS[format_of(f->kind)].type, NULL, err);
    if (rc) return rc;
    list_names(known, sizeof known, CAN[k].weights, 3);
    if (a.dynamic || a.local || !listed(a.strategy, CAN[k].weights, 3))
        return nib_fail(err, NIB_EFORMAT, "strategy '%.60s'%s; nibble reads %s for %s", a.strategy,
                        a.dynamic || a.local ? ", dynamic" : "", known, format_name(f));
    if (a.bits < CAN[k].bits[0] || a.bits > CAN[k].bits[1])
        return nib_fail(err, NIB_EFORMAT, "'num_bits' is %u; nibble reads %u%s for %s",
                        (unsigned)a.bits, (unsigned)CAN[k].bits[0],
                        CAN[k].bits[1] > CAN[k].bits[0] ? " to 8" : "", format_name(f));
    if (CAN[k].group && a.group != CAN[k].group)
        return nib_fail(err, NIB_EFORMAT, "'group_size' is %llu, should be %llu",
                        (unsigned long long)a.group, (unsigned long long)CAN[k].group);
    if (!strcmp(FORMATS[format_of(f->kind)].type, "float") && !a.sym)
        return nib_fail(err, NIB_EFORMAT, "'symmetric' is false; floats have no zero point");
    f->bits = (unsigned)a.bits;
    f->group = a.group;
    f->rows = a.rows;
    f->per_tensor = !strcmp(a.strategy, "tensor");
    f->sym = a.sym;
    f->desc_act = a.by_activation;
    f->scale_type = dtypes_of(f->kind).scale;
    f->code_type = dtypes_of(f->kind).code;
    return NIB_OK;
}

/* Inputs of integers may be floats, each token by its own range. With tiles each as many channels
 * of a token as a tile has columns. */
static nib_code read_inputs(nib_packing *f, const nib_json *j, nib_err *err)
{
    args a;
    const size_t k = can(f->kind);
    if (!j || nib_json_is_null(j)) return NIB_OK;
    const char *type = FORMATS[format_of(f->kind)].type;
    nib_code rc = read_args(&a, j, type, "float", err);
    if (rc) return rc;
    f->act_float = strcmp(a.type, type);
    const bool ok = a.dynamic ? listed(a.strategy, CAN[k].dynamic, 2)
                              : listed(a.strategy, &CAN[k].fixed, 1) && !f->act_float &&
                                    a.local == (f->kind == NIB_PACKING_CT_NVFP4);
    if (f->act_float && !a.sym)
        return nib_fail(err, NIB_EFORMAT, "'symmetric' is false; floats have no zero point");
    const bool of_tile = !f->rows || (a.dynamic && a.group == f->group);
    if (!ok || !of_tile || (CAN[k].group && a.group != CAN[k].group) ||
        (!f->rows && !CAN[k].group && a.group) || a.bits != CAN[k].bits[1])
        return nib_fail(err, NIB_EFORMAT, "%u bits, strategy '%.60s'%s; nibble reads %s",
                        (unsigned)a.bits, a.strategy, a.dynamic ? ", dynamic" : "",
                        CAN[k].group || f->rows ? "groups as the weights have them"
                                                : "8 bits, dynamic by token or static by tensor");
    f->act = a.dynamic ? NIB_ACT_TOKEN : NIB_ACT_TENSOR;
    f->act_sym = a.sym;
    return NIB_OK;
}

static nib_code read_format(nib_packing *f, const nib_json *config, const nib_json *group,
                            nib_err *err)
{
    const char *name = "";
    char known[160];
    const char *names[N_FORMATS];
    if (!nib_json_str(nib_json_get(group, "format"), &name))
        nib_json_str(nib_json_get(config, "format"), &name);
    for (size_t i = 0; i < N_FORMATS; i++) {
        names[i] = FORMATS[i].name;
        f->kind = FORMATS[i].kind;
        if (!strcmp(name, names[i])) return NIB_OK;
    }
    list_names(known, sizeof known, names, N_FORMATS);
    return nib_fail(err, NIB_EFORMAT, "'format' is '%.60s'; nibble reads %s", name, known);
}

static nib_code refuse_extras(const nib_json *config, const nib_json *group, nib_err *err)
{
    const nib_json *out = nib_json_get(group, "output_activations");
    const char *sparsity = "dense";
    if (nib_json_count(nib_json_get(config, "transform_config")))
        return nib_fail(err, NIB_EFORMAT, "'transform_config' is set, which nibble cannot follow");
    nib_json_str(nib_json_get(nib_json_get(config, "sparsity_config"), "format"), &sparsity);
    if (strcmp(sparsity, "dense"))
        return nib_fail(err, NIB_EFORMAT,
                        "'sparsity_config' is of '%.60s', which nibble cannot read", sparsity);
    if (out && !nib_json_is_null(out))
        return nib_fail(err, NIB_EFORMAT,
                        "'output_activations' is set, which nibble cannot follow");
    return NIB_OK;
}

static nib_code add_targets(nib_packing_rules *rules, const nib_json *targets, const nib_packing *f,
                            nib_err *err)
{
    nib_code rc = NIB_OK;
    if (!nib_json_is_array(targets) || !nib_json_first(targets))
        return nib_fail(err, NIB_EFORMAT, "'targets' is missing or no list of names");
    for (const nib_json *t = nib_json_first(targets); t && !rc; t = nib_json_next(t)) {
        const char *text;
        if (!nib_json_str(t, &text))
            return nib_fail(err, NIB_EFORMAT, "'targets' holds what is no name");
        const bool regex = !strncmp(text, "re:", 3);
        const nib_rule_kind kind = regex                        ? NIB_RULE_REGEX
                                   : !strcmp(text, "Linear")    ? NIB_RULE_LINEAR
                                   : !strcmp(text, "Embedding") ? NIB_RULE_EMBEDDINGS
                                                                : NIB_RULE_NAME;
        rc = nib_packing_rules_add(rules, kind, regex ? text + 3 : text, f, err);
    }
    return rc;
}

static nib_code read_group(nib_packing_rules *rules, const nib_json *config, const nib_json *group,
                           nib_err *err)
{
    nib_packing f = {.scale_type = NIB_BF16};
    if (!nib_json_is_object(group)) return nib_fail(err, NIB_EFORMAT, "is not an object");
    nib_code rc = read_format(&f, config, group, err);
    if (!rc) rc = refuse_extras(config, group, err);
    if (rc) return rc;
    if (read_weights(&f, nib_json_get(group, "weights"), err)) return nib_wrap(err, "weights");
    if (read_inputs(&f, nib_json_get(group, "input_activations"), err))
        return nib_wrap(err, "input_activations");
    return add_targets(rules, nib_json_get(group, "targets"), &f, err);
}

static int by_precedence(const void *a, const void *b)
{
    const nib_packing_rule *r = a, *s = b;
    return r->kind != s->kind ? (r->kind < s->kind ? -1 : 1) : strcmp(r->text, s->text);
}

nib_code nib_ct_config_read(nib_packing_rules *rules, const nib_json *config, nib_err *err)
{
    const nib_json *groups = nib_json_get(config, "config_groups"), *first = nib_json_first(groups);
    nib_code rc = NIB_OK;
    if (!nib_json_is_object(groups) || !first)
        return nib_fail(err, NIB_EFORMAT, "'config_groups' holds no object");
    for (const nib_json *g = first; g && !rc; g = nib_json_next(g))
        if ((rc = read_group(rules, config, g, err))) nib_wrap(err, "'%.60s'", nib_json_key(g));
    if (rc) return rc;
    qsort(rules->v, rules->n, sizeof *rules->v, by_precedence);
    for (size_t i = 1; i < rules->n; i++)
        if (!by_precedence(&rules->v[i - 1], &rules->v[i]))
            return nib_fail(err, NIB_EFORMAT, "'%.200s' is a target twice", rules->v[i].text);
    return NIB_OK;
}

/* ---- writing ---- */

static bool write_tile(nib_json *j, const args *a)
{
    nib_json *tile = a->rows ? nib_json_add_array(j, "block_structure") : NULL;
    if (!a->rows) return nib_json_add_null(j, "block_structure");
    return tile && nib_json_add_num(tile, NULL, (double)a->rows) &&
           nib_json_add_num(tile, NULL, (double)a->group);
}

static bool write_args(nib_json *group, const char *key, const args *a, const char *observer,
                       const char *scale_dtype)
{
    nib_json *j = nib_json_add_object(group, key);
    bool ok =
        j && nib_json_add_num(j, "num_bits", (double)a->bits) &&
        nib_json_add_str(j, "type", a->type) && nib_json_add_bool(j, "symmetric", a->sym) &&
        nib_json_add_str(j, "strategy", a->strategy) &&
        (a->group && !a->rows ? nib_json_add_num(j, "group_size", (double)a->group)
                              : nib_json_add_null(j, "group_size")) &&
        write_tile(j, a) &&
        (a->local ? nib_json_add_str(j, "dynamic", "local")
                  : nib_json_add_bool(j, "dynamic", a->dynamic)) &&
        (a->by_activation ? nib_json_add_str(j, "actorder", "group")
                          : nib_json_add_null(j, "actorder")) &&
        (a->dynamic ? nib_json_add_null(j, "observer") : nib_json_add_str(j, "observer", observer));
    if (scale_dtype)
        ok = ok && nib_json_add_str(j, "scale_dtype", scale_dtype) &&
             nib_json_add_str(j, "zp_dtype", scale_dtype);
    return ok && nib_json_add_object(j, "observer_kwargs");
}

static const char *weight_strategy(const nib_packing *f)
{
    if (f->kind == NIB_PACKING_CT_NVFP4) return "tensor_group";
    return f->rows ? "block" : f->group ? "group" : f->per_tensor ? "tensor" : "channel";
}

static args input_args(const nib_packing *f)
{
    const bool dynamic = f->act == NIB_ACT_TOKEN, nv = f->kind == NIB_PACKING_CT_NVFP4;
    const char *type = FORMATS[format_of(f->kind)].type;
    const uint64_t group = strcmp(type, "int") ? f->group : 0;
    return (args){.bits = CAN[can(f->kind)].bits[1],
                  .group = group,
                  .type = f->act_float ? "float" : type,
                  .strategy = nv         ? "tensor_group"
                              : !dynamic ? "tensor"
                              : group    ? "group"
                                         : "token",
                  .sym = f->act_sym,
                  .dynamic = dynamic,
                  .local = nv};
}

/* Returns the list of its targets, which the caller fills; NULL: no memory. */
static nib_json *write_group(nib_json *groups, size_t number, const nib_packing *f)
{
    const args inputs = input_args(f), weights = {.bits = f->bits,
                                                  .group = f->group,
                                                  .rows = f->rows,
                                                  .type = FORMATS[format_of(f->kind)].type,
                                                  .strategy = weight_strategy(f),
                                                  .sym = f->sym,
                                                  .by_activation = f->desc_act};
    const char *scales = dtypes_of(f->kind).scale_name;
    char name[32];
    snprintf(name, sizeof name, "group_%zu", number);
    nib_json *group = nib_json_add_object(groups, name);
    nib_json *targets = group ? nib_json_add_array(group, "targets") : NULL;
    bool ok = targets && nib_json_add_str(group, "format", format_name(f)) &&
              write_args(group, "weights", &weights, "memoryless_minmax", scales) &&
              (f->act ? write_args(group, "input_activations", &inputs, "static_minmax", scales)
                      : nib_json_add_null(group, "input_activations")) &&
              nib_json_add_null(group, "output_activations");
    return ok ? targets : NULL;
}

/* The first exception that has this one's format. */
static size_t first_alike(const nib_packing_note *note, size_t i)
{
    for (size_t k = 0; k < i; k++) {
        const nib_packing *f = note->exception[k].format;
        if (f && nib_packing_same(f, note->exception[i].format)) return k;
    }
    return i;
}

/* One group for each format that layers of their own have; *number is of the last one. */
static bool write_exceptions(nib_json *groups, size_t *number, const nib_packing_note *note)
{
    bool ok = true;
    for (size_t i = 0; i < note->n_exceptions && ok; i++) {
        const nib_packing_exception *e = &note->exception[i];
        if (!e->format || first_alike(note, i) < i) continue;
        nib_json *targets = write_group(groups, ++*number, e->format);
        ok = targets != NULL;
        for (size_t k = i; k < note->n_exceptions && ok; k++) {
            char target[NIB_LAYER_REGEX_MAX];
            const nib_packing *f = note->exception[k].format;
            if (!f || !nib_packing_same(f, e->format)) continue;
            nib_config_regex(target, sizeof target, "re:", &note->exception[k]);
            ok = nib_json_add_str(targets, NULL, target);
        }
    }
    return ok;
}

/* Groups of embedding and output matrix, or of both. */
static bool write_vocabulary(nib_json *groups, size_t number, const nib_packing_note *note)
{
    const bool one = note->embedding && note->head && nib_packing_same(note->embedding, note->head);
    nib_json *targets = note->embedding ? write_group(groups, ++number, note->embedding) : NULL;
    bool ok = !note->embedding || (targets && nib_json_add_str(targets, NULL, "Embedding"));
    if (!ok || !note->head) return ok;
    if (!one) targets = write_group(groups, ++number, note->head);
    return targets && nib_json_add_str(targets, NULL, note->output);
}

/* The format of all groups, where it is one. */
static const char *common_format(const nib_packing *f, const nib_packing_note *note)
{
    const bool other = (note->embedding && note->embedding->kind != f->kind) ||
                       (note->head && note->head->kind != f->kind);
    return other ? "mixed-precision" : format_name(f);
}

/* Keys and values in 8-bit floats with scales that are known before, as llm-compressor has it. */
static bool write_kv_cache(nib_json *config, const nib_packing_note *note)
{
    if (!note->kv_cache) return nib_json_add_null(config, "kv_cache_scheme");
    nib_json *j = nib_json_add_object(config, "kv_cache_scheme");
    return j && nib_json_add_null(j, "actorder") && nib_json_add_null(j, "block_structure") &&
           nib_json_add_bool(j, "dynamic", false) && nib_json_add_null(j, "group_size") &&
           nib_json_add_num(j, "num_bits", 8) && nib_json_add_str(j, "observer", "minmax") &&
           nib_json_add_object(j, "observer_kwargs") &&
           nib_json_add_str(j, "strategy", note->kv_per_head ? "attn_head" : "tensor") &&
           nib_json_add_bool(j, "symmetric", true) && nib_json_add_str(j, "type", "float");
}

bool nib_ct_config_write(nib_json *config, const nib_packing *f, const nib_packing_note *note)
{
    bool ok = nib_json_add_str(config, "version", "0.12.2") &&
              nib_json_add_str(config, "format", common_format(f, note)) &&
              nib_json_add_str(config, "quantization_status", "compressed") &&
              nib_json_add_null(config, "global_compression_ratio") &&
              write_kv_cache(config, note) && nib_json_add_object(config, "sparsity_config") &&
              nib_json_add_object(config, "transform_config") &&
              nib_config_unpacked(config, "ignore", note, false);
    nib_json *groups = ok ? nib_json_add_object(config, "config_groups") : NULL;
    size_t number = 0;
    nib_json *targets = groups ? write_group(groups, number, f) : NULL;
    return targets && nib_json_add_str(targets, NULL, "Linear") &&
           write_exceptions(groups, &number, note) && write_vocabulary(groups, number, note);
}
