/* SPDX-License-Identifier: MIT */
/* formats/packed_gptq.c - GPTQ folders (AutoGPTQ, GPTQModel), one kind of packed_format.h.
 *
 *   X.qweight  I32 [in*b/32, out]      codes; down each column a stream of b-bit fields, first
 *                                      field in the lowest bits, fields may cross words (b = 3)
 *   X.qzeros   I32 [groups, out*b/32]  zero points, the same stream along each row
 *   X.scales   F16 [groups, out]
 *   X.g_idx    I32 [in]                the group of each column; older tools leave it out where
 *                                      columns lie as they were
 *
 * Checkpoint format "gptq" (v1) stores zero - 1, "gptq_v2" zero. Readers differ over zero points
 * that v1 cannot hold (0, whose field wraps), so they are refused when packing; a field of all ones
 * in v1 is read as 2^b, as readers without a mask have it. The "planar" and "marlin" layouts are
 * left out. */
#include "formats/packed_format_impl.h"

#include <string.h>

enum { UNIT = 32 };

/* ---- shapes ---- */

static const char *const suffix[NIB_PART_ROLES] = {[NIB_PART_CODES] = ".qweight",
                                                   [NIB_PART_SCALES] = ".scales",
                                                   [NIB_PART_ZEROS] = ".qzeros",
                                                   [NIB_PART_G_IDX] = ".g_idx"};

static const unsigned char widths[] = {2, 3, 4, 8, 0};

static bool known_bits(uint64_t bits)
{
    for (const unsigned char *w = widths; *w; w++)
        if (*w == bits) return true;
    return false;
}

static nib_type scale_type(nib_type weight)
{
    (void)weight;
    return NIB_F16;
}

static nib_code make(nib_packed_parts *l, nib_err *err)
{
    const nib_packing *f = &l->format;
    if (!known_bits(f->bits))
        return nib_fail(err, NIB_EINVAL, "%u bits; GPTQ folders hold 2, 3, 4 or 8", f->bits);
    if (l->in % UNIT || l->out % UNIT)
        return nib_fail(err, NIB_EINVAL,
                        "shape [%llu, %llu]; GPTQ folders hold multiples of %d both ways",
                        (unsigned long long)l->out, (unsigned long long)l->in, UNIT);
    nib_packing_add(l, NIB_PART_CODES, NIB_I32, 2, l->in / UNIT * f->bits, l->out);
    nib_packing_add(l, NIB_PART_SCALES, f->scale_type, 2, l->groups, l->out);
    nib_packing_add(l, NIB_PART_ZEROS, NIB_I32, 2, l->groups, l->out / UNIT * f->bits);
    nib_packing_add(l, NIB_PART_G_IDX, NIB_I32, 1, l->in, 1);
    return NIB_OK;
}

static bool measure(const nib_packing *f, const uint64_t shape[2], uint64_t *out, uint64_t *in)
{
    uint64_t bits;
    if (__builtin_mul_overflow(shape[0], (uint64_t)32, &bits) || bits % f->bits) return false;
    *out = shape[1];
    *in = bits / f->bits;
    return true;
}

/* ---- packing ---- */

static nib_code pack_params(uint8_t *dst, const nib_packed_parts *l, const nib_block_param *param,
                            nib_err *err)
{
    const unsigned bits = l->format.bits;
    const int32_t low = l->format.v2 ? 0 : 1, high = (int32_t)(1u << bits) - 1;
    uint8_t *zeros = nib_packing_at(dst, l, NIB_PART_ZEROS);
    nib_code rc = NIB_OK;
    for (size_t r = 0; r < l->out && !rc; r++)
        for (size_t g = 0; g < l->groups && !rc; g++) {
            const nib_block_param *p = &param[r * l->groups + g];
            rc = nib_pack_scale(dst, l, g * l->out + r, p->d, r, err);
            if (!rc) rc = nib_check_zero((int32_t)p->zero, low, high, r, err);
            if (rc) break;
            nib_put_field(zeros + g * (l->out / UNIT * bits) * 4, 1, r, bits,
                          (uint32_t)((int32_t)p->zero - low));
        }
    return rc;
}

static nib_code pack(uint8_t *dst, const nib_packed_parts *l, const nib_packing_values *v,
                     nib_err *err)
{
    for (size_t first = 0; first < l->in; first += UNIT)
        for (size_t r = 0; r < l->out; r++)
            for (size_t k = first; k < first + UNIT; k++)
                nib_put_field(dst + r * 4, (size_t)l->out, k, l->format.bits,
                              v->code[r * l->in + k]);
    nib_pack_g_idx(dst, l, v->outer);
    return pack_params(dst, l, v->param, err);
}

/* ---- reading ---- */

/* UNIT columns at a time, so that reads down the columns and writes along the rows both stay near.
 */
static nib_code read_codes(nib_packing_rows *r, const nib_packed_parts *l,
                           const nib_packing_from *from, size_t row, nib_err *err)
{
    const unsigned bits = l->format.bits;
    nib_code rc = nib_packing_strip(from, l, NIB_PART_CODES, row * 4, r->n * 4, r->bytes, err);
    if (rc) return rc;
    for (size_t first = 0; first < l->in; first += UNIT)
        for (size_t i = 0; i < r->n; i++)
            nib_get_fields(r->code + i * l->in + first, UNIT,
                           r->bytes + (first / UNIT * bits * r->n + i) * 4, r->n, bits);
    return NIB_OK;
}

/* The strip begins with a whole word, so its first field need not begin with it. */
static nib_code read_zeros(nib_packing_rows *r, const nib_packed_parts *l,
                           const nib_packing_from *from, size_t row, nib_err *err)
{
    const unsigned bits = l->format.bits;
    const size_t first = row * bits / 32, words = ((row + r->n) * bits + 31) / 32 - first;
    const size_t groups = (size_t)l->groups;
    nib_code rc = nib_packing_strip(from, l, NIB_PART_ZEROS, first * 4, words * 4, r->bytes, err);
    if (rc) return rc;
    for (size_t g = 0; g < groups; g++)
        for (size_t i = 0; i < r->n; i++) {
            const size_t bit = (row + i) * bits - first * 32;
            r->zero[i * groups + g] =
                (int32_t)nib_get_bits(r->bytes + g * words * 4, 1, bit, bits) + !l->format.v2;
        }
    return NIB_OK;
}

static nib_code read(nib_packing_rows *r, const nib_packed_parts *l, const nib_packing_from *from,
                     size_t row, nib_err *err)
{
    nib_code rc = read_codes(r, l, from, row, err);
    if (!rc) rc = read_zeros(r, l, from, row, err);
    return rc ? rc : nib_read_group_scales(r, l, from, row, err);
}

/* Symmetric layers have one zero point, 2^(b-1), so their fields show whether it was stored less 1,
 * whatever the configuration says: published folders have it wrong (vLLM's issue 38966). */
static nib_code settle(nib_packed_parts *l, bool *changed, const nib_packing_from *from,
                       nib_err *err)
{
    const unsigned bits = l->format.bits;
    const uint32_t other = (1u << (bits - 1)) - l->format.v2; /* as the other version has it */
    const size_t n = (size_t)l->out;
    uint8_t *words = l->format.sym ? nib_alloc(n / UNIT * bits, 4) : NULL;
    bool all = true;
    nib_code rc = NIB_OK;
    if (!l->format.sym) return NIB_OK;
    if (!words) return nib_fail_nomem(err, "zero points");
    for (size_t g = 0; g < l->groups && all && !rc; g++) {
        rc = nib_packing_lines(from, l, NIB_PART_ZEROS, g, 1, words, err);
        for (size_t i = 0; i < n && all && !rc; i++)
            all = nib_get_bits(words, 1, i * bits, bits) == other;
    }
    nib_free(words);
    *changed = all && !rc;
    if (*changed) l->format.v2 = !l->format.v2;
    return rc;
}

/* ---- configuration ---- */

static nib_code read_version(nib_packing *f, const nib_json *config, nib_err *err)
{
    const nib_json *v = nib_json_either(config, "checkpoint_format", "format");
    const char *name = "gptq";
    bool marlin = false;
    nib_code rc = nib_config_flag(&marlin, config, "is_marlin_format", err);
    if (rc) return rc;
    if (v && !nib_json_is_null(v) && !nib_json_str(v, &name))
        return nib_fail(err, NIB_EFORMAT, "'checkpoint_format' is not a string");
    f->v2 = !strcmp(name, "gptq_v2");
    if (marlin || (!f->v2 && strcmp(name, "gptq")))
        return nib_fail(err, NIB_EFORMAT,
                        "'checkpoint_format' is '%.60s'; nibble reads gptq and gptq_v2",
                        marlin ? "marlin" : name);
    return NIB_OK;
}

/* What is said of it replaces what *f has; where *f has no bits yet, nothing may be left unsaid. */
static nib_code read_numbers(nib_packing *f, const nib_json *j, nib_err *err)
{
    const nib_json *said = nib_json_either(j, "bits", "w_bit"),
                   *group = nib_json_either(j, "group_size", "q_group_size");
    uint64_t bits = f->bits;
    nib_code rc = NIB_OK;
    if (group || !f->bits) rc = nib_config_group(&f->group, group, err);
    if ((said && !nib_json_u64(said, &bits)) || !known_bits(bits))
        rc = nib_fail(err, NIB_EFORMAT, "'bits' is missing or not 2, 3, 4 or 8");
    f->bits = (unsigned)bits;
    if (!rc) rc = nib_config_flag(&f->sym, j, "sym", err);
    return rc ? rc : nib_config_flag(&f->desc_act, j, "desc_act", err);
}

/* "+:REGEX" or just "REGEX": an object that replaces the numbers of these layers; "-:REGEX": they
 * are not packed. Other members of the object are the quantizer's notes. */
static nib_code read_dynamic(nib_packing_rules *rules, const nib_json *rule,
                             const nib_packing *base, nib_err *err)
{
    const char *regex = nib_json_key(rule);
    const bool packed = strncmp(regex, "-:", 2) != 0;
    nib_packing f = *base;
    nib_code rc = NIB_OK;
    if (!packed || !strncmp(regex, "+:", 2)) regex += 2;
    if (packed && !nib_json_is_object(rule))
        rc = nib_fail(err, NIB_EFORMAT, "is not an object");
    else if (packed)
        rc = read_numbers(&f, rule, err);
    if (rc) return nib_wrap(err, "'%.200s'", regex);
    return nib_packing_rules_add(rules, NIB_RULE_REGEX, regex, packed ? &f : NULL, err);
}

/* AutoRound's exceptions, by name; layers of 16 bits and more are not packed. */
static nib_code read_extra(nib_packing_rules *rules, const nib_json *layer, const nib_packing *base,
                           nib_err *err)
{
    uint64_t bits = base->bits;
    nib_packing f = *base;
    nib_json_u64(nib_json_get(layer, "bits"), &bits);
    const bool packed = bits < 16;
    nib_code rc = packed ? read_numbers(&f, layer, err) : NIB_OK;
    if (rc) return nib_wrap(err, "'%.200s'", nib_json_key(layer));
    return nib_packing_rules_add(rules, NIB_RULE_NAME, nib_json_key(layer), packed ? &f : NULL,
                                 err);
}

static nib_code config_read(nib_packing_rules *rules, const nib_json *config, nib_err *err)
{
    nib_packing f = {.kind = NIB_PACKING_GPTQ, .sym = true, .scale_type = NIB_F16};
    const nib_json *dynamic = nib_json_get(config, "dynamic");
    nib_code rc = read_numbers(&f, config, err);
    if (!rc) rc = read_version(&f, config, err);
    if (!rc && dynamic && !nib_json_is_null(dynamic) && !nib_json_is_object(dynamic))
        rc = nib_fail(err, NIB_EFORMAT, "'dynamic' is not an object");
    const nib_json *extra = nib_json_get(config, "extra_config");
    for (const nib_json *r = nib_json_first(extra); r && !rc; r = nib_json_next(r))
        if ((rc = read_extra(rules, r, &f, err))) nib_wrap(err, "extra_config");
    for (const nib_json *r = nib_json_first(dynamic); r && !rc; r = nib_json_next(r))
        if ((rc = read_dynamic(rules, r, &f, err))) nib_wrap(err, "dynamic");
    return rc ? rc : nib_packing_rules_add(rules, NIB_RULE_ALL, NULL, &f, err);
}

static bool write_numbers(nib_json *j, const nib_packing *f)
{
    return nib_json_add_num(j, "bits", f->bits) &&
           nib_json_add_num(j, "group_size", f->group ? (double)f->group : -1);
}

static bool write_dynamic(nib_json *config, const nib_packing_note *note)
{
    if (!note->n_exceptions) return true;
    nib_json *dynamic = nib_json_add_object(config, "dynamic");
    bool ok = dynamic != NULL;
    for (size_t i = 0; i < note->n_exceptions && ok; i++) {
        const nib_packing_exception *e = &note->exception[i];
        char key[NIB_LAYER_REGEX_MAX];
        nib_config_regex(key, sizeof key, e->format ? "+:" : "-:", e);
        nib_json *rule = nib_json_add_object(dynamic, key);
        ok = rule && (!e->format || write_numbers(rule, e->format));
    }
    return ok;
}

static bool config_write(nib_json *config, const nib_packing *f, const nib_packing_note *note)
{
    const char *layout = f->v2 ? "gptq_v2" : "gptq";
    bool ok = write_numbers(config, f) && nib_json_add_bool(config, "desc_act", f->desc_act) &&
              nib_json_add_bool(config, "sym", f->sym) &&
              nib_json_add_bool(config, "lm_head", false) &&
              nib_json_add_str(config, "checkpoint_format", layout) &&
              nib_json_add_str(config, "format", layout) &&
              nib_json_add_str(config, "pack_dtype", "int32") &&
              nib_json_add_bool(config, "true_sequential", note->true_sequential) &&
              nib_json_add_bool(config, "static_groups", !f->desc_act) &&
              nib_json_add_num(config, "damp_percent", note->damp) && write_dynamic(config, note);
    nib_json *meta = ok ? nib_json_add_object(config, "meta") : NULL;
    nib_json *list = meta ? nib_json_add_array(meta, "quantizer") : NULL;
    return list && nib_json_add_str(list, NULL, "nibble:" NIB_VERSION);
}

const nib_packing_ops nib_packing_gptq = {
    .method = "gptq",
    .config_file = "quantize_config.json",
    .config_twice = true,
    .suffix = suffix,
    .bits = widths,
    .scale_type = scale_type,
    .make = make,
    .measure = measure,
    .grid = NIB_GRID_GPTQ,
    .pack = pack,
    .read = read,
    .settle = settle,
    .config_read = config_read,
    .config_write = config_write,
};
