/* SPDX-License-Identifier: MIT */
/* infer/kv_format.c - see kv_format.h. */
#include "infer/kv_format.h"

#include "base/half.h"
#include "base/name.h"
#include "infer/kv_kivi.h"

#include <math.h>
#include <string.h>

/* ---- the table ---- */

static const nib_kv_format formats[] = {
    {.name = "f32", .type = NIB_F32},
    {.name = "f16", .type = NIB_F16},
    {.name = "bf16", .type = NIB_BF16},
    {.name = "q8_0", .type = NIB_Q8_0, .rotated = true},
    {.name = "q5_1", .type = NIB_Q5_1, .rotated = true},
    {.name = "q5_0", .type = NIB_Q5_0, .rotated = true},
    {.name = "q4_1", .type = NIB_Q4_1, .rotated = true},
    {.name = "q4_0", .type = NIB_Q4_0, .rotated = true},
    {.name = "iq4_nl", .type = NIB_IQ4_NL, .rotated = true},
    {.name = "int8", .type = NIB_INT8, .per_head = true},
    {.name = "fp8", .type = NIB_F8_E4M3, .per_head = true},
    {.name = "fp8-static", .type = NIB_F8_E4M3, .scaled = true},
    {.name = "int4", .type = NIB_INT4, .per_head = true, .rotated = true},
    {.name = "kivi8", .type = NIB_INT8, .kivi = 8},
    {.name = "kivi4", .type = NIB_INT4, .kivi = 4},
    {.name = "kivi2", .type = NIB_INT2, .kivi = 2},
};
enum { N_FORMATS = sizeof formats / sizeof *formats };

const char *const nib_kv_names[N_FORMATS + 1] = {
    "f32",  "f16", "bf16",       "q8_0", "q5_1",  "q5_0",  "q4_1",  "q4_0", "iq4_nl",
    "int8", "fp8", "fp8-static", "int4", "kivi8", "kivi4", "kivi2", NULL};

const nib_kv_format *nib_kv_find(const char *name)
{
    for (size_t i = 0; i < N_FORMATS; i++)
        if (nib_name_same(name, formats[i].name)) return &formats[i];
    return NULL;
}

size_t nib_kv_head_bytes(const nib_kv_format *f, size_t dim)
{
    size_t bytes;
    if (f->kivi) return dim % NIB_KIVI_GROUP ? 0 : nib_kivi_head_bytes(f->kivi, dim);
    if (f->per_head && f->type == NIB_INT4) return dim % 2 ? 0 : sizeof(float) + dim / 2;
    if (f->per_head) return sizeof(float) + dim;
    return nib_codec_row_bytes(nib_codec_get(f->type), dim, &bytes) ? bytes : 0;
}

/* ---- llama.cpp's ---- */

static float largest(const float *x, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

static void put_half(uint8_t *to, float x)
{
    const uint16_t h = nib_f32_to_f16(x);
    to[0] = (uint8_t)h, to[1] = (uint8_t)(h >> 8);
}

/* 2 bytes of scale, 32 codes. */
static void encode_q8_0(uint8_t *to, const float *x)
{
    const float most = largest(x, 32), inverse = most != 0 ? 127 / most : 0;
    put_half(to, most / 127);
    for (size_t i = 0; i < 32; i++) to[2 + i] = (uint8_t)(int8_t)rintf(x[i] * inverse);
}

static int nearest_level(const float *level, float x)
{
    int i = 0;
    if (x >= level[15]) return 15;
    while (i < 15 && x >= level[i + 1]) i++;
    if (x <= level[0]) return 0;
    return x - level[i] < level[i + 1] - x ? i : i + 1;
}

/* 2 bytes of scale, codes j and j + 16 in a byte. */
static void encode_iq4_nl(uint8_t *to, const float *x)
{
    const float *level = nib_codec_get(NIB_IQ4_NL)->codebook;
    float most = 0, with = 0, square = 0;
    int code[32];
    memset(to, 0, 18);
    for (size_t i = 0; i < 32; i++)
        if (fabsf(x[i]) > fabsf(most)) most = x[i];
    if (fabsf(most) < 1e-15f) return;
    const float inverse = 1 / (most / level[0]);
    for (size_t i = 0; i < 32; i++) {
        code[i] = nearest_level(level, inverse * x[i]);
        const float q = level[code[i]], w = x[i] * x[i];
        with += w * q * x[i];
        square += w * q * q;
    }
    put_half(to, with / square);
    for (size_t i = 0; i < 16; i++) to[2 + i] = (uint8_t)(code[i] | code[i + 16] << 4);
}

/* ---- a scale for each head ---- */

/* The code of the nearest value of E4M3, ties to the even code; |x| is at most 448. */
static uint8_t to_e4m3(float x)
{
    const float a = fabsf(x);
    uint8_t low = 0, high = 0x7E; /* the largest finite one */
    while (high - low > 1) {
        const uint8_t middle = (uint8_t)((low + high) / 2);
        if (nib_f8_e4m3_to_f32(middle) <= a)
            low = middle;
        else
            high = middle;
    }
    const float below = a - nib_f8_e4m3_to_f32(low), above = nib_f8_e4m3_to_f32(high) - a;
    const uint8_t code = below < above || (below == above && !(low & 1)) ? low : high;
    return (uint8_t)(code | (signbit(x) ? 0x80 : 0));
}

/* Halves go up. */
static uint8_t int4_code(float x)
{
    return x > 0 ? x < 15 ? (uint8_t)(x + 0.5f) : 15 : 0;
}

/* The scale, its last 4 bits the zero point; then codes in pairs, the first in the low bits. */
static void encode_int4(uint8_t *to, const float *x, size_t dim)
{
    float lo = x[0], hi = x[0];
    for (size_t i = 1; i < dim; i++) lo = fminf(lo, x[i]), hi = fmaxf(hi, x[i]);
    const float scale = fmaxf((hi - lo) / 15, 1e-6f), inverse = 1 / scale;
    const uint8_t zero = int4_code(-lo / scale);
    const float kept = nib_f32_from_bits((nib_f32_bits(scale) & ~15u) | zero);
    memcpy(to, &kept, sizeof kept);
    to += sizeof kept;
    for (size_t i = 0; i < dim; i += 2)
        to[i / 2] =
            (uint8_t)(int4_code(x[i] * inverse + zero) | int4_code(x[i + 1] * inverse + zero) << 4);
}

static void decode_int4(float *to, const uint8_t *from, size_t dim)
{
    float kept;
    memcpy(&kept, from, sizeof kept);
    from += sizeof kept;
    const uint32_t bits = nib_f32_bits(kept);
    const float scale = nib_f32_from_bits(bits & ~15u);
    const int zero = bits & 15;
    for (size_t i = 0; i < dim; i++)
        to[i] = scale * (float)((from[i / 2] >> (i % 2 ? 4 : 0) & 15) - zero);
}

static void encode_per_head(const nib_kv_format *f, uint8_t *to, const float *x, size_t dim)
{
    if (f->type == NIB_INT4) {
        encode_int4(to, x, dim);
        return;
    }
    const float top = f->type == NIB_INT8 ? 127 : 448, scale = largest(x, dim) / top;
    memcpy(to, &scale, sizeof scale);
    to += sizeof scale;
    for (size_t i = 0; i < dim; i++) {
        const float v = scale > 0 ? fminf(fmaxf(x[i] / scale, -top), top) : 0;
        to[i] = f->type == NIB_INT8 ? (uint8_t)(int8_t)rintf(v) : to_e4m3(v);
    }
}

static void decode_per_head(const nib_kv_format *f, float *to, const uint8_t *from, size_t dim)
{
    float scale;
    if (f->type == NIB_INT4) {
        decode_int4(to, from, dim);
        return;
    }
    memcpy(&scale, from, sizeof scale);
    from += sizeof scale;
    for (size_t i = 0; i < dim; i++)
        to[i] =
            scale * (f->type == NIB_INT8 ? (float)(int8_t)from[i] : nib_f8_e4m3_to_f32(from[i]));
}

/* ---- all ---- */

/* What is not finite in a head has no code: all of it becomes NaN, by its scales. */
static void spoil(const nib_kv_format *f, uint8_t *to, size_t dim)
{
    const nib_codec *c = nib_codec_get(f->type);
    const float nan = NAN;
    memset(to, f->scaled ? 0x7F : 0, nib_kv_head_bytes(f, dim)); /* E4M3 has a code for it */
    if (f->scaled) return;
    if (f->per_head) memcpy(to, &nan, sizeof nan);
    for (size_t i = 0; i < dim && !f->per_head; i += c->block, to += c->bytes) put_half(to, nan);
}

void nib_kv_encode(const nib_kv_format *f, uint8_t *to, const float *x, size_t dim)
{
    const nib_codec *c = nib_codec_get(f->type);
    const size_t each = c->block == 1 ? dim : c->block;
    _Alignas(64) uint8_t scratch[NIB_BLOCK_MAX * sizeof(float)];
    if (f->kivi) {
        nib_kivi_encode(f->kivi, to, x, dim);
        return;
    }
    const bool rounds = f->per_head || c->quantized || f->scaled;
    if (rounds && nib_find_nonfinite(x, dim, 0) < dim) {
        spoil(f, to, dim);
        return;
    }
    if (f->per_head) {
        encode_per_head(f, to, x, dim);
        return;
    }
    for (size_t i = 0; i < dim && f->scaled; i++) to[i] = to_e4m3(fminf(fmaxf(x[i], -448), 448));
    for (size_t i = 0; i < dim && !f->scaled;
         i += each, to += each / c->block * c->bytes, x += each)
        switch (f->type) {
        case NIB_Q8_0: encode_q8_0(to, x); break;
        case NIB_IQ4_NL: encode_iq4_nl(to, x); break;
        default: c->encode(to, x, NULL, 1, each, 0, scratch); break;
        }
}

void nib_kv_decode(const nib_kv_format *f, float *to, const uint8_t *from, size_t dim, unsigned cpu)
{
    const nib_codec *c = nib_codec_get(f->type);
    if (f->kivi)
        nib_kivi_decode(f->kivi, to, from, dim);
    else if (f->per_head)
        decode_per_head(f, to, from, dim);
    else
        c->decode(to, from, dim / c->block, cpu);
}

/* ---- rotation ---- */

void nib_hadamard(float *x, size_t n)
{
    const float scale = (float)(1 / sqrt((double)n));
    for (size_t step = 1; step < n; step *= 2)
        for (size_t i = 0; i < n; i += 2 * step)
            for (size_t j = i; j < i + step; j++) {
                const float a = x[j], b = x[j + step];
                x[j] = a + b;
                x[j + step] = a - b;
            }
    for (size_t i = 0; i < n; i++) x[i] *= scale;
}

size_t nib_kv_rotation(int of, size_t dim)
{
    size_t n = 64;
    if (!dim || dim % n) return 0;
    while (of == 0 && dim % (2 * n) == 0) n *= 2;
    return n;
}
