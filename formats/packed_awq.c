/* SPDX-License-Identifier: MIT */
/* formats/packed_awq.c - AWQ folders in the GEMM layout (AutoAWQ), one kind of packed_format.h.
 *
 *   X.qweight  I32 [in, out/8]      4-bit codes, along the rows of the file
 *   X.qzeros   I32 [groups, out/8]  zero points
 *   X.scales   F16 [groups, out]
 *
 * Word c of a row holds outputs 8c .. 8c+7, not in their order: output 8c + j is in the four bits
 * from 4 * place[j]. There is no symmetric form that engines agree on, so none is written; where
 * "zero_point" is false (GPTQModel), the zero points that are there, all 8, count as any others. */
#include "formats/packed_format_impl.h"

#include <strings.h>

enum { BITS = 4, PER_WORD = 8, OUT_UNIT = 32, TILE = 32 };

static const unsigned char place[PER_WORD] = {0, 4, 1, 5, 2, 6, 3, 7};

/* ---- shapes ---- */

static const char *const suffix[NIB_PART_ROLES] = {
    [NIB_PART_CODES] = ".qweight", [NIB_PART_SCALES] = ".scales", [NIB_PART_ZEROS] = ".qzeros"};

static nib_type scale_type(nib_type weight)
{
    (void)weight;
    return NIB_F16;
}

static nib_code make(nib_packed_parts *l, nib_err *err)
{
    const nib_packing *f = &l->format;
    if (f->bits != BITS) return nib_fail(err, NIB_EINVAL, "%u bits; AWQ folders hold 4", f->bits);
    if (f->sym)
        return nib_fail(err, NIB_EINVAL,
                        "AWQ folders have zero points: engines agree on no symmetric form. Write "
                        "symmetric groups as gptq or compressed-tensors");
    if (f->desc_act)
        return nib_fail(err, NIB_EINVAL, "AWQ folders cannot say that columns are reordered");
    if (l->out % OUT_UNIT || l->in % l->group)
        return nib_fail(
            err, NIB_EINVAL,
            "shape [%llu, %llu]; AWQ folders hold multiples of %d rows, of whole groups",
            (unsigned long long)l->out, (unsigned long long)l->in, OUT_UNIT);
    nib_packing_add(l, NIB_PART_CODES, NIB_I32, 2, l->in, l->out / PER_WORD);
    nib_packing_add(l, NIB_PART_SCALES, f->scale_type, 2, l->groups, l->out);
    nib_packing_add(l, NIB_PART_ZEROS, NIB_I32, 2, l->groups, l->out / PER_WORD);
    return NIB_OK;
}

static bool measure(const nib_packing *f, const uint64_t shape[2], uint64_t *out, uint64_t *in)
{
    (void)f;
    *in = shape[0];
    return !__builtin_mul_overflow(shape[1], (uint64_t)PER_WORD, out);
}

/* ---- packing ---- */

/* Output `row` of a file's row of words. */
static void put(uint8_t *words, size_t row, uint32_t v)
{
    nib_put_field(words, 1, row / PER_WORD * PER_WORD + place[row % PER_WORD], BITS, v);
}

static nib_code pack(uint8_t *dst, const nib_packed_parts *l, const nib_packing_values *v,
                     nib_err *err)
{
    const size_t out = (size_t)l->out, in = (size_t)l->in, row_bytes = out / PER_WORD * 4;
    uint8_t *codes = nib_packing_at(dst, l, NIB_PART_CODES),
            *zeros = nib_packing_at(dst, l, NIB_PART_ZEROS);
    nib_code rc = NIB_OK;
    for (size_t first = 0; first < in; first += TILE)
        for (size_t r = 0; r < out; r++)
            for (size_t k = first; k < first + TILE && k < in; k++)
                put(codes + k * row_bytes, r, v->code[r * in + k]);
    for (size_t r = 0; r < out && !rc; r++)
        for (size_t g = 0; g < l->groups && !rc; g++) {
            const nib_block_param *p = &v->param[r * l->groups + g];
            rc = nib_pack_scale(dst, l, g * out + r, p->d, r, err);
            if (!rc) rc = nib_check_zero((int32_t)p->zero, 0, (1 << BITS) - 1, r, err);
            if (!rc) put(zeros + g * row_bytes, r, (uint32_t)p->zero);
        }
    return rc;
}

/* ---- reading ---- */

/* The words that hold rows [row, row + n), of every row of a part. */
static nib_code read_words(const nib_packing_rows *r, const nib_packed_parts *l,
                           const nib_packing_from *from, nib_part_role role, size_t row,
                           size_t *words, nib_err *err)
{
    const size_t first = row / PER_WORD;
    *words = (row + r->n + PER_WORD - 1) / PER_WORD - first;
    return nib_packing_strip(from, l, role, first * 4, *words * 4, r->bytes, err);
}

static uint8_t get(const uint8_t *words, size_t row, size_t first_word)
{
    const size_t bit = BITS * place[row % PER_WORD];
    return (words[(row / PER_WORD - first_word) * 4 + bit / 8] >> bit % 8) & 15;
}

static nib_code read(nib_packing_rows *r, const nib_packed_parts *l, const nib_packing_from *from,
                     size_t row, nib_err *err)
{
    const size_t in = (size_t)l->in, groups = (size_t)l->groups, first_word = row / PER_WORD;
    size_t words;
    nib_code rc = read_words(r, l, from, NIB_PART_CODES, row, &words, err);
    if (rc) return rc;
    for (size_t first = 0; first < in; first += TILE)
        for (size_t i = 0; i < r->n; i++)
            for (size_t k = first; k < first + TILE && k < in; k++)
                r->code[i * in + k] = get(r->bytes + k * words * 4, row + i, first_word);
    if ((rc = read_words(r, l, from, NIB_PART_ZEROS, row, &words, err))) return rc;
    for (size_t g = 0; g < groups; g++)
        for (size_t i = 0; i < r->n; i++)
            r->zero[i * groups + g] = get(r->bytes + g * words * 4, row + i, first_word);
    return nib_read_group_scales(r, l, from, row, err);
}

/* ---- configuration ---- */

static nib_code config_read(nib_packing_rules *rules, const nib_json *config, nib_err *err)
{
    uint64_t bits = 0;
    const char *version = "gemm";
    const nib_json *v = nib_json_get(config, "version");
    nib_packing f = {.kind = NIB_PACKING_AWQ, .bits = BITS, .scale_type = NIB_F16};
    if (!nib_json_u64(nib_json_either(config, "bits", "w_bit"), &bits) || bits != BITS)
        return nib_fail(err, NIB_EFORMAT, "'bits' is missing or not 4");
    if (v && !nib_json_is_null(v) && !nib_json_str(v, &version))
        return nib_fail(err, NIB_EFORMAT, "'version' is not a string");
    if (strcasecmp(version, "gemm"))
        return nib_fail(err, NIB_EFORMAT, "'version' is '%.60s'; nibble reads gemm", version);
    nib_code rc =
        nib_config_group(&f.group, nib_json_either(config, "group_size", "q_group_size"), err);
    return rc ? rc : nib_packing_rules_add(rules, NIB_RULE_ALL, NULL, &f, err);
}

static bool config_write(nib_json *config, const nib_packing *f, const nib_packing_note *note)
{
    return nib_json_add_num(config, "bits", f->bits) &&
           nib_json_add_num(config, "group_size", f->group ? (double)f->group : -1) &&
           nib_json_add_bool(config, "zero_point", true) &&
           nib_json_add_str(config, "version", "gemm") &&
           nib_config_unpacked(config, "modules_to_not_convert", note, true);
}

const nib_packing_ops nib_packing_awq = {
    .method = "awq",
    .config_file = "quant_config.json",
    .grid = NIB_GRID_AWQ,
    .suffix = suffix,
    .bits = (const unsigned char[]){BITS, 0},
    .uniform = "AWQ folders have one number of bits and one group size for all layers",
    .scale_type = scale_type,
    .make = make,
    .measure = measure,
    .pack = pack,
    .read = read,
    .config_read = config_read,
    .config_write = config_write,
};
