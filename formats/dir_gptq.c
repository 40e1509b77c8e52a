/* SPDX-License-Identifier: MIT */
/* formats/dir_gptq.c - see dir_gptq.h. */
#include "formats/dir_gptq.h"

#include "base/half.h"
#include "base/mem.h"

#include <math.h>
#include <string.h>

enum { UNIT = 32, GROUP_MAX = 1 << 24 };

const char *nib_gptq_suffix(nib_gptq_part p)
{
    static const char *const names[] = {".qweight", ".qzeros", ".scales", ".g_idx"};
    return names[p];
}

/* ---- shapes ---- */

static bool known_bits(uint64_t bits)
{
    return bits == 2 || bits == 3 || bits == 4 || bits == 8;
}

nib_code nib_gptq_linear_make(nib_gptq_linear *l, const nib_gptq_format *f, uint64_t out,
                              uint64_t in, nib_err *err)
{
    if (!known_bits(f->bits))
        return nib_fail(err, NIB_EINVAL, "%u bits; GPTQ folders hold 2, 3, 4 or 8", f->bits);
    if (!in || !out || in % UNIT || out % UNIT || in > GROUP_MAX || out > GROUP_MAX)
        return nib_fail(err, NIB_EINVAL,
                        "shape [%llu, %llu]; GPTQ folders hold multiples of %d up to %d both ways",
                        (unsigned long long)out, (unsigned long long)in, UNIT, GROUP_MAX);
    *l = (nib_gptq_linear){.format = *f, .out = out, .in = in};
    l->group = f->group && f->group < in ? f->group : in;
    l->groups = (in + l->group - 1) / l->group;
    const uint64_t shape[NIB_GPTQ_PARTS][2] = {
        {in / UNIT * f->bits, out}, {l->groups, out / UNIT * f->bits}, {l->groups, out}, {in, 1}};
    memcpy(l->shape, shape, sizeof shape);
    for (int p = 0; p < NIB_GPTQ_PARTS; p++) {
        l->at[p] = l->bytes;
        l->part_bytes[p] = shape[p][0] * shape[p][1] * (p == NIB_GPTQ_SCALES ? 2 : 4);
        l->bytes += l->part_bytes[p];
    }
    return NIB_OK;
}

/* ---- packing ---- */

/* OR a field into a zeroed stream of little-endian words. */
static void put_field(uint8_t *words, size_t stride, size_t i, unsigned bits, uint32_t v)
{
    const size_t at = i * bits;
    v <<= at % 8;
    for (size_t byte = at / 8; v; byte++, v >>= 8)
        words[byte / 4 * stride * 4 + byte % 4] |= (uint8_t)v;
}

static nib_code put_params(uint8_t *dst, const nib_gptq_linear *l, const nib_block_param *param,
                           nib_err *err)
{
    const nib_gptq_format *f = &l->format;
    const int32_t low = f->v2 ? 0 : 1, high = (int32_t)(1u << f->bits) - 1;
    for (size_t r = 0; r < l->out; r++)
        for (size_t g = 0; g < l->groups; g++) {
            const nib_block_param *p = &param[r * l->groups + g];
            uint8_t *scale = dst + l->at[NIB_GPTQ_SCALES] + (g * l->out + r) * 2;
            uint16_t h = nib_f32_to_f16(p->d);
            if (!isfinite(nib_f16_to_f32(h)))
                return nib_fail(err, NIB_ENUMERIC,
                                "row %zu holds values too large for 16-bit scales", r);
            if (p->zero < low || p->zero > high)
                return nib_fail(err, NIB_ENUMERIC, "row %zu: zero point %d; %d to %d can be stored",
                                r, (int)p->zero, (int)low, (int)high);
            scale[0] = (uint8_t)h, scale[1] = (uint8_t)(h >> 8);
            put_field(dst + l->at[NIB_GPTQ_QZEROS] + g * l->shape[NIB_GPTQ_QZEROS][1] * 4, 1, r,
                      f->bits, (uint32_t)(p->zero - low));
        }
    return NIB_OK;
}

static void put_g_idx(uint8_t *dst, const nib_gptq_linear *l, const uint32_t *outer)
{
    for (size_t c = 0; c < l->in; c++) {
        uint8_t *to = dst + (outer ? outer[c] : c) * 4;
        uint32_t g = (uint32_t)(c / l->group);
        for (int i = 0; i < 4; i++) to[i] = (uint8_t)(g >> 8 * i);
    }
}

nib_code nib_gptq_pack(uint8_t *dst, const nib_gptq_linear *l, const uint8_t *code,
                       const nib_block_param *param, const uint32_t *outer, nib_err *err)
{
    const unsigned bits = l->format.bits;
    memset(dst, 0, (size_t)l->bytes);
    for (size_t first = 0; first < l->in; first += UNIT)
        for (size_t r = 0; r < l->out; r++)
            for (size_t k = first; k < first + UNIT; k++)
                put_field(dst + r * 4, (size_t)l->out, k, bits, code[r * l->in + k]);
    put_g_idx(dst + l->at[NIB_GPTQ_G_IDX], l, outer);
    return put_params(dst, l, param, err);
}

/* ---- unpacking ---- */

/* UNIT columns at a time, so that reads down the columns and writes along the rows both stay near.
 */
void nib_gptq_decode(float *dst, const nib_gptq_linear *l, const nib_gptq_rows *r)
{
    const unsigned bits = l->format.bits;
    const size_t in = (size_t)l->in;
    for (size_t first = 0; first < in; first += UNIT)
        for (size_t i = 0; i < r->n; i++)
            for (size_t k = first; k < first + UNIT; k++) {
                const size_t p = r->g_idx[k] * r->n + i;
                int code = (int)nib_gptq_field(r->qweight + i, r->stride, k, bits);
                dst[i * in + k] = r->scale[p] * (float)(code - (int)r->zero[p]);
            }
}

static uint32_t word_at(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

nib_code nib_gptq_unpack(float *dst, const nib_gptq_linear *l, const uint8_t *packed, nib_buf *work,
                         nib_err *err)
{
    const size_t words = (size_t)l->part_bytes[NIB_GPTQ_QWEIGHT] / 4, in = (size_t)l->in,
                 zero_words = (size_t)l->shape[NIB_GPTQ_QZEROS][1],
                 params = (size_t)(l->groups * l->out);
    uint32_t *qweight = nib_buf_reserve(work, words + in + 2 * params + zero_words, 4);
    if (!qweight) return nib_fail_nomem(err, "unpacked weights");
    uint32_t *g_idx = qweight + words, *row = g_idx + in;
    float *scale = (float *)(row + zero_words);
    uint16_t *zero = (uint16_t *)(scale + params);
    for (size_t i = 0; i < words; i++) qweight[i] = word_at(packed + i * 4);
    for (size_t i = 0; i < in; i++) g_idx[i] = word_at(packed + l->at[NIB_GPTQ_G_IDX] + i * 4);
    for (size_t i = 0; i < params; i++) {
        const uint8_t *h = packed + l->at[NIB_GPTQ_SCALES] + i * 2;
        scale[i] = nib_f16_to_f32((uint16_t)(h[0] | h[1] << 8));
    }
    for (size_t g = 0; g < l->groups; g++) {
        const uint8_t *from = packed + l->at[NIB_GPTQ_QZEROS] + g * zero_words * 4;
        for (size_t i = 0; i < zero_words; i++) row[i] = word_at(from + i * 4);
        for (size_t r = 0; r < l->out; r++)
            zero[g * l->out + r] =
                nib_gptq_zero(&l->format, nib_gptq_field(row, 1, r, l->format.bits));
    }
    nib_gptq_decode(dst, l,
                    &(nib_gptq_rows){qweight, scale, zero, g_idx, (size_t)l->out, (size_t)l->out});
    return NIB_OK;
}

/* ---- configuration ---- */

static const nib_json *either(const nib_json *j, const char *key, const char *other)
{
    const nib_json *v = nib_json_get(j, key);
    return v ? v : nib_json_get(j, other);
}

/* A flag that may be missing. */
static nib_code read_flag(bool *out, const nib_json *config, const char *key, nib_err *err)
{
    const nib_json *v = nib_json_get(config, key);
    if (!v || nib_json_is_null(v) || nib_json_bool(v, out)) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT, "'%s' is neither true nor false", key);
}

static nib_code read_layout(nib_gptq_format *f, const nib_json *config, nib_err *err)
{
    const nib_json *v = either(config, "checkpoint_format", "format");
    const char *name = "gptq";
    bool marlin = false;
    nib_code rc = read_flag(&marlin, config, "is_marlin_format", err);
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

nib_code nib_gptq_config_read(nib_gptq_format *f, const nib_json *config, nib_err *err)
{
    uint64_t bits = 0;
    double group = 0;
    nib_code rc;
    *f = (nib_gptq_format){.sym = true};
    if (!nib_json_u64(either(config, "bits", "w_bit"), &bits) || !known_bits(bits))
        return nib_fail(err, NIB_EFORMAT, "'bits' is missing or not 2, 3, 4 or 8");
    if (!nib_json_num(either(config, "group_size", "q_group_size"), &group) ||
        (group != -1 && !(group >= 1 && group <= GROUP_MAX && group == floor(group))))
        return nib_fail(err, NIB_EFORMAT,
                        "'group_size' is missing or neither -1 nor an integer from 1 to %d",
                        GROUP_MAX);
    if (nib_json_count(nib_json_get(config, "dynamic")))
        return nib_fail(err, NIB_EFORMAT,
                        "'dynamic' gives modules settings of their own, which nibble cannot read "
                        "yet");
    f->bits = (unsigned)bits;
    f->group = group < 0 ? 0 : (uint64_t)group;
    if ((rc = read_flag(&f->sym, config, "sym", err))) return rc;
    if ((rc = read_flag(&f->desc_act, config, "desc_act", err))) return rc;
    return read_layout(f, config, err);
}

bool nib_gptq_config_write(nib_json *config, const nib_gptq_format *f, double damp,
                           bool true_sequential)
{
    const char *layout = f->v2 ? "gptq_v2" : "gptq";
    bool ok = nib_json_add_str(config, "quant_method", "gptq") &&
              nib_json_add_num(config, "bits", f->bits) &&
              nib_json_add_num(config, "group_size", f->group ? (double)f->group : -1) &&
              nib_json_add_bool(config, "desc_act", f->desc_act) &&
              nib_json_add_bool(config, "sym", f->sym) &&
              nib_json_add_bool(config, "lm_head", false) &&
              nib_json_add_str(config, "checkpoint_format", layout) &&
              nib_json_add_str(config, "format", layout) &&
              nib_json_add_str(config, "pack_dtype", "int32") &&
              nib_json_add_bool(config, "true_sequential", true_sequential) &&
              nib_json_add_bool(config, "static_groups", !f->desc_act) &&
              nib_json_add_num(config, "damp_percent", damp);
    nib_json *meta = ok ? nib_json_add_object(config, "meta") : NULL;
    nib_json *list = meta ? nib_json_add_array(meta, "quantizer") : NULL;
    return list && nib_json_add_str(list, NULL, "nibble:" NIB_VERSION);
}
