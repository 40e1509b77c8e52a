/* SPDX-License-Identifier: MIT */
/* quant/codec.c - the table of number formats, and the plain floats. */
#include "quant/codec.h"

#include "base/half.h"
#include "base/mem.h"

#include <math.h>
#include <string.h>
#include <strings.h>

/* ---- plain floats ---- */

static void decode_f32(float *dst, const uint8_t *src, size_t n, unsigned cpu)
{
    (void)cpu;
    memcpy(dst, src, n * 4);
}

static void decode_f64(float *dst, const uint8_t *src, size_t n, unsigned cpu)
{
    (void)cpu;
    for (size_t i = 0; i < n; i++) {
        double x;
        memcpy(&x, src + i * 8, 8);
        dst[i] = (float)x;
    }
}

static void decode_f16(float *dst, const uint8_t *src, size_t n, unsigned cpu)
{
    (void)cpu;
    for (size_t i = 0; i < n; i++)
        dst[i] = nib_f16_to_f32((uint16_t)(src[i * 2] | src[i * 2 + 1] << 8));
}

static void decode_bf16(float *dst, const uint8_t *src, size_t n, unsigned cpu)
{
    (void)cpu;
    for (size_t i = 0; i < n; i++)
        dst[i] = nib_bf16_to_f32((uint16_t)(src[i * 2] | src[i * 2 + 1] << 8));
}

static void decode_e4m3(float *dst, const uint8_t *src, size_t n, unsigned cpu)
{
    (void)cpu;
    for (size_t i = 0; i < n; i++) dst[i] = nib_f8_e4m3_to_f32(src[i]);
}

static void decode_e5m2(float *dst, const uint8_t *src, size_t n, unsigned cpu)
{
    (void)cpu;
    for (size_t i = 0; i < n; i++) dst[i] = nib_f8_e5m2_to_f32(src[i]);
}

static size_t encode_f32(uint8_t *dst, const float *w, const float *imp, size_t rows, size_t cols,
                         unsigned cpu, void *scratch)
{
    (void)imp, (void)cpu, (void)scratch;
    memcpy(dst, w, rows * cols * 4);
    return 0;
}

static size_t encode_f16(uint8_t *dst, const float *w, const float *imp, size_t rows, size_t cols,
                         unsigned cpu, void *scratch)
{
    (void)imp, (void)cpu, (void)scratch;
    for (size_t i = 0; i < rows * cols; i++) {
        uint16_t h = nib_f32_to_f16(w[i]);
        dst[i * 2] = (uint8_t)h, dst[i * 2 + 1] = (uint8_t)(h >> 8);
    }
    return 0;
}

static size_t encode_bf16(uint8_t *dst, const float *w, const float *imp, size_t rows, size_t cols,
                          unsigned cpu, void *scratch)
{
    (void)imp, (void)cpu, (void)scratch;
    for (size_t i = 0; i < rows * cols; i++) {
        uint16_t h = nib_f32_to_bf16(w[i]);
        dst[i * 2] = (uint8_t)h, dst[i * 2 + 1] = (uint8_t)(h >> 8);
    }
    return 0;
}

/* ---- the table ---- */

#define PLAIN(t, label, size)                                                                      \
    [t] = {.type = t, .name = label, .block = 1, .bytes = size, .tile_rows = 1}
#define FLOAT(t, label, size, enc, dec)                                                            \
    [t] = {.type = t,                                                                              \
           .name = label,                                                                          \
           .block = 1,                                                                             \
           .bytes = size,                                                                          \
           .tile_rows = 1,                                                                         \
           .encode = enc,                                                                          \
           .decode = dec}
#define QUANT(t, label, n, size)                                                                   \
    [t] = {.type = t, .name = label, .block = n, .bytes = size, .tile_rows = 1, .quantized = true}

static const nib_codec codecs[NIB_TYPE_COUNT] = {
    FLOAT(NIB_F32, "f32", 4, encode_f32, decode_f32),
    FLOAT(NIB_F16, "f16", 2, encode_f16, decode_f16),
    FLOAT(NIB_BF16, "bf16", 2, encode_bf16, decode_bf16),
    FLOAT(NIB_F64, "f64", 8, NULL, decode_f64),
    FLOAT(NIB_F8_E4M3, "f8_e4m3", 1, NULL, decode_e4m3),
    FLOAT(NIB_F8_E5M2, "f8_e5m2", 1, NULL, decode_e5m2),
    PLAIN(NIB_BOOL, "bool", 1),
    PLAIN(NIB_U8, "u8", 1),
    PLAIN(NIB_I8, "i8", 1),
    PLAIN(NIB_U16, "u16", 2),
    PLAIN(NIB_I16, "i16", 2),
    PLAIN(NIB_U32, "u32", 4),
    PLAIN(NIB_I32, "i32", 4),
    PLAIN(NIB_U64, "u64", 8),
    PLAIN(NIB_I64, "i64", 8),
    PLAIN(NIB_C64, "c64", 8),
    [NIB_F4] = {.type = NIB_F4, .name = "f4", .block = 2, .bytes = 1, .tile_rows = 1},
    [NIB_F6_E2M3] =
        {.type = NIB_F6_E2M3, .name = "f6_e2m3", .block = 4, .bytes = 3, .tile_rows = 1},
    [NIB_F6_E3M2] =
        {.type = NIB_F6_E3M2, .name = "f6_e3m2", .block = 4, .bytes = 3, .tile_rows = 1},
    PLAIN(NIB_F8_E8M0, "f8_e8m0", 1),
    PLAIN(NIB_F8_E4M3FNUZ, "f8_e4m3fnuz", 1),
    PLAIN(NIB_F8_E5M2FNUZ, "f8_e5m2fnuz", 1),
    QUANT(NIB_Q8_0, "q8_0", 32, 34),
    QUANT(NIB_Q4_0, "q4_0", 32, 18),
    QUANT(NIB_Q4_1, "q4_1", 32, 20),
    QUANT(NIB_Q5_0, "q5_0", 32, 22),
    QUANT(NIB_Q5_1, "q5_1", 32, 24),
    QUANT(NIB_Q2_K, "q2_k", 256, 84),
    QUANT(NIB_Q3_K, "q3_k", 256, 110),
    QUANT(NIB_Q4_K, "q4_k", 256, 144),
    QUANT(NIB_Q5_K, "q5_k", 256, 176),
    QUANT(NIB_Q6_K, "q6_k", 256, 210),
    QUANT(NIB_IQ4_NL, "iq4_nl", 32, 18),
    QUANT(NIB_IQ4_XS, "iq4_xs", 256, 136),
};

const nib_codec *nib_codec_get(nib_type type)
{
    return &codecs[type];
}

const nib_codec *nib_codec_find(const char *name)
{
    for (int t = 0; t < NIB_TYPE_COUNT; t++)
        if (!strcasecmp(codecs[t].name, name)) return &codecs[t];
    return NULL;
}

bool nib_codec_row_bytes(const nib_codec *c, size_t cols, size_t *bytes)
{
    return cols % c->block == 0 && nib_mul(cols / c->block, c->bytes, bytes);
}

size_t nib_find_nonfinite(const float *x, size_t n, unsigned cpu)
{
    (void)cpu;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return i;
    return n;
}
