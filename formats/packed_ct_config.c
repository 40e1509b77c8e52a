/* SPDX-License-Identifier: MIT */
/* formats/packed_ct_config.c - the configuration of compressed-tensors folders: see packed_ct.h.
 *
 * Groups of settings, "config_groups": {"group_0": ...}, each for the layers of its "targets":
 * names, "re:" and a regular expression that matches from the start of the name on, or "Linear",
 * the class of them all. Names win over expressions, these over the class; of several expressions
 * the first in the order of their letters wins, as the library has it. Which layers are packed is
 * seen from the tensors, so "ignore" is written but not read.
 * Tests: tests/formats/test_packed_config.c. */
#include "formats/packed_ct.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char PACKED[] = "pack-quantized", INT[] = "int-quantized";

/* ---- reading ---- */

/* How weights or inputs are rounded. */
typedef struct {
    uint64_t bits, group;
    const char *strategy;
    bool sym, dynamic, by_activation;
} args;

static nib_code read_strategy(args *a, const nib_json *j, nib_err *err)
{
    const char *actorder = NULL;
    const nib_json *order = nib_json_get(j, "actorder");
    if (!nib_json_str(nib_json_get(j, "strategy"), &a->strategy))
        return nib_fail(err, NIB_EFORMAT, "'strategy' is missing or not a string");
    if (order && !nib_json_is_null(order) && !nib_json_str(order, &actorder))
        return nib_fail(err, NIB_EFORMAT, "'actorder' is not a string");
    a->by_activation = actorder && (!strcmp(actorder, "group") || !strcmp(actorder, "dynamic"));
    if (strcmp(a->strategy, "group")) return NIB_OK;
    nib_code rc = nib_config_group(&a->group, nib_json_get(j, "group_size"), err);
    if (!rc && !a->group) a->strategy = "channel";
    return rc;
}

static nib_code read_args(args *a, const nib_json *j, nib_err *err)
{
    const char *type = "int";
    *a = (args){.sym = true};
    if (!nib_json_u64(nib_json_get(j, "num_bits"), &a->bits) || a->bits < 1 || a->bits > 8)
        return nib_fail(err, NIB_EFORMAT, "'num_bits' is missing or not from 1 to 8");
    nib_json_str(nib_json_get(j, "type"), &type);
    if (strcmp(type, "int"))
        return nib_fail(err, NIB_EFORMAT, "'type' is '%.60s'; nibble reads int", type);
    nib_code rc = nib_config_flag(&a->sym, j, "symmetric", err);
    if (!rc) rc = nib_config_flag(&a->dynamic, j, "dynamic", err);
    return rc ? rc : read_strategy(a, j, err);
}

static nib_code read_weights(nib_packing *f, const nib_json *j, nib_err *err)
{
    args a;
    const bool packed = f->kind == NIB_PACKING_CT_PACKED;
    nib_code rc = read_args(&a, j, err);
    if (rc) return rc;
    const char *other = packed ? "group" : "tensor";
    if (a.dynamic || (strcmp(a.strategy, "channel") && strcmp(a.strategy, other)))
        return nib_fail(err, NIB_EFORMAT, "strategy '%.60s'%s; nibble reads channel and %s for %s",
                        a.strategy, a.dynamic ? ", dynamic" : "", other, packed ? PACKED : INT);
    if (a.bits != 8 && (!packed || a.bits != 4))
        return nib_fail(err, NIB_EFORMAT, "'num_bits' is %u; nibble reads %s for %s",
                        (unsigned)a.bits, packed ? "4 and 8" : "8", packed ? PACKED : INT);
    f->bits = (unsigned)a.bits;
    f->group = a.group;
    f->per_tensor = !strcmp(a.strategy, "tensor");
    f->sym = a.sym;
    f->desc_act = a.by_activation;
    return NIB_OK;
}

static nib_code read_inputs(nib_packing *f, const nib_json *j, nib_err *err)
{
    args a;
    if (!j || nib_json_is_null(j)) return NIB_OK;
    nib_code rc = read_args(&a, j, err);
    if (rc) return rc;
    if (a.bits != 8 || strcmp(a.strategy, a.dynamic ? "token" : "tensor"))
        return nib_fail(err, NIB_EFORMAT,
                        "%u bits, strategy '%.60s'%s; nibble reads 8 bits, dynamic by token or "
                        "static by tensor",
                        (unsigned)a.bits, a.strategy, a.dynamic ? ", dynamic" : "");
    f->act = a.dynamic ? NIB_ACT_TOKEN : NIB_ACT_TENSOR;
    f->act_sym = a.sym;
    return NIB_OK;
}

static nib_code read_format(nib_packing *f, const nib_json *config, const nib_json *group,
                            nib_err *err)
{
    const char *name = "";
    if (!nib_json_str(nib_json_get(group, "format"), &name))
        nib_json_str(nib_json_get(config, "format"), &name);
    f->kind = strcmp(name, INT) ? NIB_PACKING_CT_PACKED : NIB_PACKING_CT_INT;
    if (!strcmp(name, INT) || !strcmp(name, PACKED)) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT, "'format' is '%.60s'; nibble reads %s and %s", name, PACKED,
                    INT);
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
        const nib_rule_kind kind = regex                     ? NIB_RULE_REGEX
                                   : !strcmp(text, "Linear") ? NIB_RULE_ALL
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

static const char *format_name(const nib_packing *f)
{
    return f->kind == NIB_PACKING_CT_INT ? INT : PACKED;
}

static bool write_args(nib_json *group, const char *key, const args *a, const char *observer)
{
    nib_json *j = nib_json_add_object(group, key);
    bool ok =
        j && nib_json_add_num(j, "num_bits", (double)a->bits) &&
        nib_json_add_str(j, "type", "int") && nib_json_add_bool(j, "symmetric", a->sym) &&
        nib_json_add_str(j, "strategy", a->strategy) &&
        (a->group ? nib_json_add_num(j, "group_size", (double)a->group)
                  : nib_json_add_null(j, "group_size")) &&
        nib_json_add_null(j, "block_structure") && nib_json_add_bool(j, "dynamic", a->dynamic) &&
        (a->by_activation ? nib_json_add_str(j, "actorder", "group")
                          : nib_json_add_null(j, "actorder")) &&
        (a->dynamic ? nib_json_add_null(j, "observer") : nib_json_add_str(j, "observer", observer));
    return ok && nib_json_add_object(j, "observer_kwargs");
}

/* Returns the list of its targets, which the caller fills; NULL: no memory. */
static nib_json *write_group(nib_json *groups, size_t number, const nib_packing *f)
{
    const args weights = {.bits = f->bits,
                          .group = f->group,
                          .strategy = f->group        ? "group"
                                      : f->per_tensor ? "tensor"
                                                      : "channel",
                          .sym = f->sym,
                          .by_activation = f->desc_act};
    const args inputs = {.bits = 8,
                         .strategy = f->act == NIB_ACT_TOKEN ? "token" : "tensor",
                         .sym = f->act_sym,
                         .dynamic = f->act == NIB_ACT_TOKEN};
    char name[32];
    snprintf(name, sizeof name, "group_%zu", number);
    nib_json *group = nib_json_add_object(groups, name);
    nib_json *targets = group ? nib_json_add_array(group, "targets") : NULL;
    bool ok = targets && nib_json_add_str(group, "format", format_name(f)) &&
              write_args(group, "weights", &weights, "memoryless_minmax") &&
              (f->act ? write_args(group, "input_activations", &inputs, "static_minmax")
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

/* One group for each format that layers of their own have. */
static bool write_exceptions(nib_json *groups, const nib_packing_note *note)
{
    size_t number = 0;
    bool ok = true;
    for (size_t i = 0; i < note->n_exceptions && ok; i++) {
        const nib_packing_exception *e = &note->exception[i];
        if (!e->format || first_alike(note, i) < i) continue;
        nib_json *targets = write_group(groups, ++number, e->format);
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
              nib_json_add_str(config, "format", format_name(f)) &&
              nib_json_add_str(config, "quantization_status", "compressed") &&
              nib_json_add_null(config, "global_compression_ratio") &&
              write_kv_cache(config, note) && nib_json_add_object(config, "sparsity_config") &&
              nib_json_add_object(config, "transform_config") &&
              nib_config_unpacked(config, "ignore", note, false);
    nib_json *groups = ok ? nib_json_add_object(config, "config_groups") : NULL;
    nib_json *targets = groups ? write_group(groups, 0, f) : NULL;
    return targets && nib_json_add_str(targets, NULL, "Linear") && write_exceptions(groups, note);
}
