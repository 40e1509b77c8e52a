/* SPDX-License-Identifier: MIT */
/* quant/codec.h - number formats: a block of weights <-> bytes.
 *
 * A codec is one row of a table. Its interface is what lets every method write every format:
 *
 *   fit     parameters (scales, minimums) for one block, given importances
 *   finish  what blocks have in common, of several rows or a whole matrix, where they do
 *   round   values under fitted parameters: a code, and the value that the code stands for
 *   pack    codes and parameters into bytes; unpack, the other way; decode, bytes into values
 *   encode  whole rows as the format's reference encoder writes them (round-to-nearest); the
 *           bytes equal the reference's, which for some formats is not exactly fit + round + pack
 *
 * Laws, tested for every row of the table: decode(pack(param, codes)) gives exactly the values
 * that round reported; rounding is deterministic and needs nothing but the parameters.
 *
 * A block is `block` weights of a row that share parameters. Rows are whole numbers of blocks.
 *
 * In most formats a weight takes any code. Where codes come from a codebook of vectors (`points`),
 * those of `vec` neighbours must be one of its points: such weights are rounded together, in a
 * metric that the solver has of them. Codes stay one for each weight, so that what only looks at
 * values needs not know.
 *
 * Sources: ggml's block formats (GGUF), binary16/bfloat16/OCP FP8 for the float types. */
#ifndef NIB_QUANT_CODEC_H
#define NIB_QUANT_CODEC_H

#include "base/ctx.h"
#include "quant/points.h"
#include "quant/small_float.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Number formats, ours: file formats map their own ids to these. */
typedef enum {
    NIB_F32,
    NIB_F16,
    NIB_BF16,
    NIB_F64,
    NIB_F8_E4M3,
    NIB_F8_E5M2,
    /* held and carried along, never decoded to weights */
    NIB_BOOL,
    NIB_U8,
    NIB_I8,
    NIB_U16,
    NIB_I16,
    NIB_U32,
    NIB_I32,
    NIB_U64,
    NIB_I64,
    NIB_C64,
    NIB_F4,
    NIB_F6_E2M3,
    NIB_F6_E3M2,
    NIB_F8_E8M0,
    NIB_F8_E4M3FNUZ,
    NIB_F8_E5M2FNUZ,
    /* quantized, as in GGUF */
    NIB_Q8_0,
    NIB_Q4_0,
    NIB_Q4_1,
    NIB_Q5_0,
    NIB_Q5_1,
    NIB_Q2_K,
    NIB_Q3_K,
    NIB_Q4_K,
    NIB_Q5_K,
    NIB_Q6_K,
    NIB_IQ4_NL,
    NIB_IQ4_XS,
    NIB_IQ3_S,
    NIB_IQ3_XXS,
    NIB_IQ2_S,
    NIB_IQ2_XS,
    NIB_IQ2_XXS,
    NIB_IQ1_M,
    NIB_IQ1_S,
    NIB_TQ2_0,
    NIB_TQ1_0,
    NIB_MXFP4,
    NIB_NVFP4,
    NIB_Q2_0,
    NIB_Q1_0,
    /* integer groups (codec_int.h); here only to be named and counted */
    NIB_INT2,
    NIB_INT3,
    NIB_INT4,
    NIB_INT8,
    NIB_NF4,
    NIB_FP4,
    NIB_TYPE_COUNT
} nib_type;

enum {
    NIB_BLOCK_MAX = 256, /* weights in a block, of any codec     */
    NIB_SUB_MAX = 16,    /* sub-blocks in a block, of any codec  */
    NIB_VEC_MAX = 8,     /* weights rounded together             */
};

/* Fitted parameters of one block; one shape serves all formats, so that a method that changes
 * parameters (a least-squares refit, say) works for every one of them. In sub-block s
 *
 *     value = (D * (level - zero)) - B,   D = d * sc[s],   B = dmin * mn[s]
 *
 * every operation rounded to f32, level = level0 + code or codebook[code] (see nib_codec). Formats
 * with sc_level have that of sc[s] in place of sc[s], and where d divides D = sc_level[sc[s]] / d.
 * d and dmin are as they are stored (rounded to f16, in most of GGUF's). Formats without sub-scales
 * have sc = 1; without minimum dmin = 0 and mn = 0; q4_1 and q5_1 have dmin = -m, mn = 1. zero is 0
 * in GGUF's formats, a whole number in most others.
 */
typedef struct {
    float d, dmin;
    float zero;
    int16_t sc[NIB_SUB_MAX], mn[NIB_SUB_MAX];
} nib_block_param;

/* What zero points a format's blocks can have. */
typedef enum {
    NIB_ZERO_FIXED, /* one and the same                              */
    NIB_ZERO_WHOLE, /* whole numbers: of nib_int_codec (codec_int.h) */
    NIB_ZERO_REAL,  /* any number that scale_type holds              */
} nib_zero_kind;

/* What fit() is given for one block. */
typedef struct {
    const float *w;        /* [block] finite weights                                           */
    const float *imp;      /* [block] importance of each column, >= 0; NULL = no importances,   */
                           /* which is not the same as all equal: formats then weigh by value   */
    float row_mean_square; /* mean of w^2 over the whole row; used by 32-blocks when imp != NULL */
} nib_fit_in;

/* What finish() is given: all of a matrix. */
typedef struct {
    const float *w;   /* [rows][cols] finite weights                                     */
    const float *imp; /* [cols] or NULL, as in nib_fit_in                                */
    size_t rows, cols;
} nib_fit_matrix;

typedef struct nib_codec {
    nib_type type;
    const char *name;     /* lower case, as the user types it: "q4_k"                  */
    uint32_t block;       /* weights per block along the row                           */
    uint32_t bytes;       /* bytes per packed block                                    */
    bool quantized;       /* block format, as opposed to a plain number                */
    bool uses_importance; /* fit and encode look at importances                        */
    bool fixed_d;         /* d is a constant of the format, or several blocks' together: after */
                          /* fit() and finish() nobody changes that of one                     */
    bool divides;         /* D is a sub-scale's level divided by d                             */

    /* The grid of quantized formats (see nib_block_param). */
    uint32_t sub;          /* columns per sub-block; block / sub <= NIB_SUB_MAX              */
    uint16_t n_codes;      /* codes are 0 .. n_codes-1, at most 256                          */
    int16_t level0;        /* level = level0 + code, where there is no codebook              */
    const float *codebook; /* [n_codes] ascending levels; NULL: integers                     */
    const nib_small_float
        *small;             /* the codebook is all values of this float, both zeros: rounding */
                            /* goes by its bits, ties to even; NULL: it is another               */
    int16_t sc_min, sc_max; /* range of sc[]; both 1 = no sub-scales                          */
    const float *sc_level;  /* [sc_max + 1] what sc[] stand for; NULL: themselves             */
    int16_t mn_max;         /* range of mn[] is 0 .. mn_max; 0 = no minimum; 1 = own minimum  */
                            /* per block of either sign (q4_1, q5_1)                          */
    nib_zero_kind zero;
    nib_type scale_type;      /* what d and dmin are stored as: f16 in GGUF, bf16, f32, f8_e8m0 */
    uint32_t vec;             /* weights rounded together, at most NIB_VEC_MAX; 0: each alone   */
    const nib_points *points; /* vec > 0: the codes that they may have together            */
    nib_points_sign points_sign; /* and what goes with a point                                */

    /* Parameters of n blocks that share their importances, in[i].imp. Where every importance is 0
     * they count as equal. Many blocks at once are many times as fast; the parameters are the same
     * for any number of them and every mask. */
    void (*fit)(const struct nib_codec *c, nib_block_param *p, const nib_fit_in *in, size_t n,
                unsigned cpu);
    /* After fit() of all blocks of a matrix, p[rows][cols / block]: what blocks have in common, of
     * a tile of rows and columns, or of all of them. NULL: nothing. Parallel; the same for any
     * number of threads. */
    nib_code (*finish)(const struct nib_codec *c, nib_block_param *p, const nib_fit_matrix *m,
                       const nib_ctx *ctx, nib_err *err);
    /* One block: codes and parameters <-> bytes. pack(unpack(x)) = x where x came from pack. unpack
     * is there where codes may be wanted without their values: not for points and 4-bit floats. */
    void (*pack)(uint8_t *dst, const nib_block_param *p, const uint8_t *code);
    void (*unpack)(nib_block_param *p, uint8_t *code, const uint8_t *src);

    /* rows x cols weights, row-major and contiguous, to packed rows. imp[cols] or NULL is shared
     * by the rows. `cpu` (NIB_CPU_*) selects kernels; the bytes are the same for every mask.
     * Returns how many blocks had only zero importances (treated as equally important).
     * `scratch`, nib_encode_scratch() bytes, 64-aligned, is the caller's. NULL: cannot be written.
     */
    size_t (*encode)(uint8_t *dst, const float *w, const float *imp, size_t rows, size_t cols,
                     unsigned cpu, void *scratch);
    /* n_blocks consecutive packed blocks to f32; the same values for every mask.
     * NULL: not a weight format. */
    void (*decode)(float *dst, const uint8_t *src, size_t n_blocks, unsigned cpu);
    /* True when all scales in the n_blocks packed blocks (or the values, for plain floats) are
     * finite. */
    bool (*valid)(const uint8_t *src, size_t n_blocks);
} nib_codec;

/* What the 4-bit floats E2M1 stand for (OCP Microscaling Formats, 2023). */
extern const float nib_e2m1_values[16];

/* The row of the table; never NULL for a valid type. */
const nib_codec *nib_codec_get(nib_type type);
/* By name, without regard to case ("Q4_K"); NULL when unknown. */
const nib_codec *nib_codec_find(const char *name);

/* fit() for a format with a codebook and a scale for each block, whose weights' importances are as
 * they are: without, the largest magnitude becomes the largest level; with, scales from above that
 * down are tried for the least weighted error. */
void nib_levels_fit(const nib_codec *c, nib_block_param *p, const nib_fit_in *in, size_t n,
                    unsigned cpu);

/* What sub-scale code sc stands for. */
static inline float nib_codec_sub_scale(const nib_codec *c, int sc)
{
    return c->sc_level ? c->sc_level[sc] : (float)sc;
}

/* D of a sub-block. */
static inline float nib_codec_step(const nib_codec *c, float d, int sc)
{
    return c->divides ? c->sc_level[sc] / d : d * nib_codec_sub_scale(c, sc);
}

/* Is 0 a value of the format whatever the scale is? */
bool nib_codec_has_zero(const nib_codec *c);

/* Round n weights, columns i..i+n-1 of a block, under fitted parameters: codes, and the exact f32
 * values that decode() will give for them. Nearest representable value, or point of values; one
 * function serves all formats. i and n are multiples of `vec`. */
void nib_codec_round(const nib_codec *c, const nib_block_param *p, size_t i, size_t n,
                     const float *w, uint8_t *code, float *value);

/* A scale as it will be after it was stored as f32, f16, bf16 or f8_e8m0 (the power of two that is
 * nearest by ratio, MXFP4's 2^-128 .. 2^126); it may become infinite. */
float nib_scale_stored(nib_type type, float scale);

/* compressed-tensors' epsilon: what takes the place of a scale of 0 that is stored as f32, f16 or
 * bf16. */
float nib_scale_epsilon(nib_type type);

/* The largest magnitude of what any parameters and codes of the format can stand for; INFINITY where
 * weights of any size have parameters that are finite, or packing says which have not. */
float nib_codec_most(const nib_codec *c);
/* NIB_ENUMERIC: one of the finite weights w[n] is beyond that: the format has no scale for it, and
 * the reference's searches, whose sums overflow, may find 0. */
NIB_MUST_USE nib_code nib_codec_check(const nib_codec *c, const float *w, size_t n, nib_err *err);

/* Bytes of a packed row of `cols` weights. False when cols is no multiple of the block, or on
 * overflow. */
NIB_MUST_USE bool nib_codec_row_bytes(const nib_codec *c, size_t cols, size_t *bytes);

/* Room that encode() wants as scratch for rows of `cols` weights, for any codec; 0 on overflow. */
size_t nib_encode_scratch(size_t cols);

/* Index of the first value that is NaN or infinite, or n. */
size_t nib_find_nonfinite(const float *x, size_t n, unsigned cpu);

#endif
