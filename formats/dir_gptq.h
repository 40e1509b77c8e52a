/* SPDX-License-Identifier: MIT */
/* formats/dir_gptq.h - how GPTQ folders hold a linear layer, and how their configuration says so.
 *
 * The weight X.weight[out][in] becomes four tensors, all little-endian and row-major:
 *
 *   X.qweight  I32 [in*b/32, out]      codes; down each column a stream of b-bit fields, first
 *                                      field in the lowest bits, fields may cross words (b = 3)
 *   X.qzeros   I32 [groups, out*b/32]  zero points, the same stream along each row
 *   X.scales   F16 [groups, out]
 *   X.g_idx    I32 [in]                the group of each column
 *
 * value = scale * (code - zero). Checkpoint format "gptq" (v1) stores zero - 1, "gptq_v2" zero.
 * Readers differ over zero points that v1 cannot hold (0, whose field wraps), so the writer refuses
 * them; a field of all ones in v1 is read as 2^b, as readers without a mask have it. The "planar"
 * and "marlin" layouts are left out. */
#ifndef NIB_FORMATS_DIR_GPTQ_H
#define NIB_FORMATS_DIR_GPTQ_H

#include "base/json.h"
#include "base/mem.h"
#include "quant/codec.h"

typedef struct {
    unsigned bits;  /* 2, 3, 4 or 8                                       */
    uint64_t group; /* columns of a group; 0: whole rows                  */
    bool v2, sym;
    bool desc_act; /* groups are of columns in order of activation: g_idx */
} nib_gptq_format;

typedef enum {
    NIB_GPTQ_QWEIGHT,
    NIB_GPTQ_QZEROS,
    NIB_GPTQ_SCALES,
    NIB_GPTQ_G_IDX,
    NIB_GPTQ_PARTS,
} nib_gptq_part;

/* ".qweight" ... */
const char *nib_gptq_suffix(nib_gptq_part p);

/* One linear layer, and where its parts lie when they are one after the other. */
typedef struct {
    nib_gptq_format format;
    uint64_t out, in, group, groups; /* group: columns, at most `in` */
    uint64_t shape[NIB_GPTQ_PARTS][2];
    uint64_t at[NIB_GPTQ_PARTS], part_bytes[NIB_GPTQ_PARTS], bytes; /* scales as F16 */
} nib_gptq_linear;

/* What cannot be held is NIB_EINVAL: bits, widths that are no multiples of 32. */
NIB_MUST_USE nib_code nib_gptq_linear_make(nib_gptq_linear *l, const nib_gptq_format *f,
                                           uint64_t out, uint64_t in, nib_err *err);

/* Codes[out][in] and parameters [out][groups] to l->bytes bytes. outer: column outer[c] belongs to
 * group c / group; NULL: as they lie. NIB_ENUMERIC: a scale that F16 or a zero point that the
 * format does not hold. */
NIB_MUST_USE nib_code nib_gptq_pack(uint8_t *dst, const nib_gptq_linear *l, const uint8_t *code,
                                    const nib_block_param *param, const uint32_t *outer,
                                    nib_err *err);

/* Columns of the stored tensors, that is rows of the weight, [0, n) of what the pointers show. */
typedef struct {
    const uint32_t *qweight; /* [in*b/32][stride]                   */
    const float *scale;      /* [groups][n]                         */
    const uint16_t *zero;    /* [groups][n] true zero points        */
    const uint32_t *g_idx;   /* [in], each below groups             */
    size_t stride, n;
} nib_gptq_rows;

/* Exact values into dst[n][in]. */
void nib_gptq_decode(float *dst, const nib_gptq_linear *l, const nib_gptq_rows *r);

/* All rows of what nib_gptq_pack() made. `work` is reused. */
NIB_MUST_USE nib_code nib_gptq_unpack(float *dst, const nib_gptq_linear *l, const uint8_t *packed,
                                      nib_buf *work, nib_err *err);

/* One b-bit field of a stream whose words are `stride` apart. */
static inline uint32_t nib_gptq_field(const uint32_t *words, size_t stride, size_t i, unsigned bits)
{
    const size_t at = i * bits, shift = at % 32;
    const uint32_t *w = words + at / 32 * stride;
    uint32_t v = w[0] >> shift;
    if (shift + bits > 32) v |= w[stride] << (32 - shift);
    return v & ((1u << bits) - 1);
}

/* From a zero point's field to the zero point. */
static inline uint16_t nib_gptq_zero(const nib_gptq_format *f, uint32_t field)
{
    return (uint16_t)(field + !f->v2);
}

/* Read the object `quantization_config`, or that of quantize_config.json. NIB_EFORMAT names the
 * key. */
NIB_MUST_USE nib_code nib_gptq_config_read(nib_gptq_format *f, const nib_json *config,
                                           nib_err *err);
/* Write the same into an empty object; false: no memory. */
bool nib_gptq_config_write(nib_json *config, const nib_gptq_format *f, double damp,
                           bool true_sequential);

#endif
