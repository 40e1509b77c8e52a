/* SPDX-License-Identifier: MIT */
/* formats/packed_format.h - how packed folders hold a linear layer.
 *
 * The weight X.weight[out][in] becomes several tensors, its parts: codes, scales, zero points and
 * whatever else the checkpoint format has. To everybody but the format's own file (packed_gptq.c
 * ...) a layout is data: parts with a suffix, a dtype and a shape that lie one after the other.
 * What the numbers mean is the same for all:
 *
 *   value[r][c] = scale[r][g] * (code[r][c] - zero[r][g]),  g the group of column c
 *
 * Codes count from 0 here; formats that store signed ones shift both code and zero. Where codes
 * are floats, a value is the scale times the float, and what is read are the stored bits. */
#ifndef NIB_FORMATS_PACKED_FORMAT_H
#define NIB_FORMATS_PACKED_FORMAT_H

#include "base/mem.h"
#include "quant/act.h"
#include "quant/codec_int.h"
#include "quant/range.h"

typedef enum {
    NIB_PACKING_GPTQ,
    NIB_PACKING_AWQ,
    NIB_PACKING_CT_PACKED,  /* compressed-tensors: pack-quantized, integers               */
    NIB_PACKING_CT_INT,     /* compressed-tensors: int-quantized, with rounded inputs     */
    NIB_PACKING_BNB4,       /* bitsandbytes: NF4 and FP4                                     */
    NIB_PACKING_BNB8,       /* bitsandbytes: LLM.int8                                         */
    NIB_PACKING_FP8,        /* "fp8": a scale for each tile of rows and columns              */
    NIB_PACKING_MXFP4,      /* gpt-oss: 4-bit floats, a power of two for each 32 columns     */
    NIB_PACKING_HQQ,        /* HQQ: integers with zero points that are any number           */
    NIB_PACKING_FP8_TENSOR, /* "fp8": a scale for each weight                                */
    NIB_PACKING_FP8_VLLM,   /* the same in vLLM's names; read only                           */
    NIB_PACKING_FP8_STACK,  /* "fp8" with tiles, the weights of all experts; read only       */
    NIB_PACKING_FBGEMM,     /* "fbgemm_fp8": a scale for each row                            */
    NIB_PACKING_CT_FP8,     /* compressed-tensors: float-quantized                           */
    NIB_PACKING_CT_NVFP4,   /* compressed-tensors: nvfp4-pack-quantized                      */
    NIB_PACKING_CT_MXFP4,   /* compressed-tensors: mxfp4-pack-quantized                      */
    NIB_PACKING_CT_MXFP8,   /* compressed-tensors: mxfp8-quantized                           */
    NIB_PACKING_KINDS,
} nib_packing_kind;

/* What a user asks for, or a configuration says. */
typedef struct {
    nib_packing_kind kind;
    unsigned bits;
    uint64_t group;  /* columns of a group; 0: whole rows                        */
    bool per_tensor; /* one scale for all rows; of 8 bits; group is 0            */
    bool sym;
    bool desc_act;       /* groups are of columns in order of activation: g_idx      */
    bool v2;             /* GPTQ: zero points as they are, not less 1                */
    nib_type scale_type; /* F16, BF16 or F32; F8_E4M3; U8 and F8_E8M0: exponents */
    nib_type code_type;  /* of 8-bit floats: which; and ...                      */
    uint64_t rows;       /* rows of a tile of `group` columns; 0: no tiles       */
    nib_act_scheme act;  /* of CT_PACKED, CT_INT and floats */
    bool act_sym;
    bool act_float; /* of CT_PACKED and CT_INT: inputs are rounded to E4M3, not to integers */
    bool across;    /* of HQQ: a group is of weights as far apart as there are groups; read only */
    float act_most; /* of FBGEMM: the largest magnitude of a token that counts */
    bool fp4, nested; /* of BNB4: FP4's codes, not NF4's; scales are quantized too, and ...      */
    float nested_offset;  /* this is added to them  */
    uint32_t state_bytes; /* of BNB4: of the text that says so */
} nib_packing;

/* Do they say the same, but for the dtype of the scales? */
bool nib_packing_same(const nib_packing *a, const nib_packing *b);

enum { NIB_PACKING_FACTS = 16 };

/* What a part is to a reader; the rest is data. */
typedef enum {
    NIB_PART_CODES,
    NIB_PART_SCALES,
    NIB_PART_ZEROS,
    NIB_PART_G_IDX,       /* I32 [in]: the group of each column      */
    NIB_PART_SHAPE,       /* I64 [2]: out, in                        */
    NIB_PART_INPUT_SCALE, /* [1]: the range of all inputs            */
    NIB_PART_INPUT_ZERO,  /* I8 [1] */
    NIB_PART_MAP,         /* F32: what codes stand for                          */
    NIB_PART_NESTED,      /* F32: scales of the scales, and ...                 */
    NIB_PART_NESTED_MAP,  /* F32: what their codes stand for                    */
    NIB_PART_STATE_NF4,   /* U8: a text with shape and blocks; for NF4, ...     */
    NIB_PART_STATE_FP4,   /* for FP4                                            */
    NIB_PART_ORDER,       /* U8: 0 where rows lie as rows; may be missing       */
    NIB_PART_GLOBAL,      /* F32 [1]: what all scales are divided by            */
    NIB_PART_FACT,        /* this and the next: small tensors about the layer; a reader may lack
                             some */
    NIB_PART_ROLES = NIB_PART_FACT + NIB_PACKING_FACTS,
} nib_part_role;

/* What a small tensor says: up to two integers, or a text. {0} where there is none. */
typedef struct {
    bool there;
    int64_t number[2];
    char text[24];
} nib_packing_fact;

typedef struct {
    nib_part_role role;
    const char *suffix; /* ".qweight" */
    nib_type type;
    int n_dims;
    uint64_t shape[2];
    uint64_t at, bytes; /* in the packed layer */
} nib_packing_part;

/* One linear layer. */
typedef struct {
    nib_packing format;
    uint64_t out, in, group, groups; /* group: columns, at most `in` */
    size_t n_parts;
    nib_packing_part part[NIB_PART_ROLES];
    uint64_t bytes;                         /* of all parts */
    const float *map, *nested, *nested_map; /* those parts, once they were read; borrowed */
} nib_packed_parts;

/* The dtype of the scales of a weight that was stored as `weight`. */
nib_type nib_packing_scale_type(nib_packing_kind kind, nib_type weight);
/* What cannot be held is NIB_EINVAL: bits, widths. */
NIB_MUST_USE nib_code nib_packing_make(nib_packed_parts *l, const nib_packing *f, uint64_t out,
                                       uint64_t in, nib_err *err);
/* The number format whose codes and parameters nib_packing_pack() takes, scales rounded as they
 * will be stored. Its name is "int". */
nib_int_codec nib_packing_codec(const nib_packed_parts *l);

/* "int4-g128", "nf4-g64"; returns buf. */
char *nib_packing_name(char *buf, size_t n, const nib_packing *f);

/* What is packed. */
typedef struct {
    const uint8_t *code;          /* [out][in]                                                   */
    const nib_block_param *param; /* [out][in / block of the codec]: mostly a group's            */
    const uint32_t *outer;        /* [in] column outer[c] belongs to group c / group; NULL: as   */
                                  /* they lie; needs desc_act                                    */
    nib_act_range act;            /* of NIB_ACT_TENSOR                                           */
} nib_packing_values;

/* To l->bytes bytes. NIB_ENUMERIC: a scale or a zero point that the format does not hold. */
NIB_MUST_USE nib_code nib_packing_pack(uint8_t *dst, const nib_packed_parts *l,
                                       const nib_packing_values *v, nib_err *err);
/* The values of what nib_packing_pack() made, into dst[out][in]. `work` is reused. */
NIB_MUST_USE nib_code nib_packing_unpack(float *dst, const nib_packed_parts *l,
                                         const uint8_t *packed, nib_buf *work, nib_err *err);

/* A kind that says the same in other names, so that only these tell which one is there; kind itself
 * where there is none. */
nib_packing_kind nib_packing_renamed(nib_packing_kind kind);
/* How engines round the input of layers in this format, a range apart. */
nib_act_quant nib_packing_act_quant(const nib_packing *f);
/* Do engines run layers of this format as one only if what a whole weight has is the same in each,
 * the scale of all of it? */
bool nib_packing_common(const nib_packing *f);
/* How engines round the input of what nib_packing_pack() made. */
nib_act_quant nib_packing_act(const nib_packed_parts *l, const uint8_t *packed);

/* ---- reading by rows ---- */

/* Where the parts are: read() puts bytes [offset, offset + n) of a part into dst. */
typedef struct {
    nib_code (*read)(const void *arg, size_t part, uint64_t offset, void *dst, size_t n,
                     nib_err *err);
    const void *arg;
} nib_packing_from;

/* Rows of a weight as the formula at the top has them. */
typedef struct {
    size_t n;
    uint8_t *code;  /* [n][in]     */
    float *scale;   /* [n][groups] */
    int32_t *zero;  /* [n][groups] */
    uint8_t *bytes; /* work memory */
} nib_packing_rows;

/* Rows [row, row + n), within the weight's; *r points into `work`. */
NIB_MUST_USE nib_code nib_packing_read(nib_packing_rows *r, const nib_packed_parts *l,
                                       const nib_packing_from *from, uint64_t row, uint64_t n,
                                       nib_buf *work, nib_err *err);
/* Where the stored numbers themselves say that the layer has another version of the format than
 * l->format, take that; *changed says so. */
NIB_MUST_USE nib_code nib_packing_settle(nib_packed_parts *l, bool *changed,
                                         const nib_packing_from *from, nib_err *err);
/* Work memory of nib_packing_read() for n rows, in bytes; false: no size_t. */
NIB_MUST_USE bool nib_packing_read_bytes(const nib_packed_parts *l, uint64_t n, size_t *bytes);
/* Is it what nib_packing_read() says, integers with zero points? Otherwise only values are there.
 */
bool nib_packing_is_integers(nib_packing_kind kind);
/* What codes stand for where they are no integers, into level[1 << bits]: a value is its group's
 * scale times level[code], up to the last bit, and groups are of neighbours from the first column
 * on. false: it is not so. */
bool nib_packing_levels(float *level, const nib_packed_parts *l);
/* Are codes floats of 4 or 8 bits? */
bool nib_packing_is_floats(nib_packing_kind kind);
/* Their exact values into dst[n][in]. g_idx[in], each below l->groups, or NULL: groups are of
 * neighbouring columns. */
void nib_packing_decode(float *dst, const nib_packed_parts *l, const nib_packing_rows *r,
                        const uint32_t *g_idx);

/* ---- the parts of a folder ---- */

/* What the text in part STATE_NF4 or STATE_FP4 of a layer says, into *f and the size of the weight;
 * f->fp4 is set. */
NIB_MUST_USE nib_code nib_packing_state(nib_packing *f, uint64_t *out, uint64_t *in,
                                        const char *text, size_t n, nib_err *err);

/* The same of small tensors, v[NIB_PACKING_FACTS]. */
NIB_MUST_USE nib_code nib_packing_facts(nib_packing *f, uint64_t *out, uint64_t *in,
                                        const nib_packing_fact *v, nib_err *err);

/* Can codes of layers of this kind have that dtype? */
bool nib_packing_holds(nib_packing_kind kind, nib_type codes);
/* What follows a layer's name in that of its weight: ".weight" of most. */
const char *nib_packing_weight_suffix(nib_packing_kind kind);
/* So many of the last dimensions of a part are one row of it, and any others its rows; 0: parts
 * have the dimensions that they are said to have. */
unsigned nib_packing_tail(nib_packing_kind kind, nib_part_role role);
/* Suffix of that part in layers of this kind; NULL: they never have it. */
const char *nib_packing_suffix(nib_packing_kind kind, nib_part_role role);
/* The size of the weight whose codes have this shape; false: none has. Where there is a part
 * NIB_PART_SHAPE it says the true `in`, which may be up to a word's codes less. */
NIB_MUST_USE bool nib_packing_measure(const nib_packing *f, const uint64_t shape[2], uint64_t *out,
                                      uint64_t *in);

#endif
