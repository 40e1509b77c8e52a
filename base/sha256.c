/* SPDX-License-Identifier: MIT */
/* base/sha256.c - see sha256.h. */
#include "base/sha256.h"

#include "base/file.h"
#include "base/mem.h"

#include <string.h>

enum { PIECE = 1 << 20 };

static const uint32_t k[64] = {
    0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4, 0xAB1C5ED5,
    0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3, 0x72BE5D74, 0x80DEB1FE, 0x9BDC06A7, 0xC19BF174,
    0xE49B69C1, 0xEFBE4786, 0x0FC19DC6, 0x240CA1CC, 0x2DE92C6F, 0x4A7484AA, 0x5CB0A9DC, 0x76F988DA,
    0x983E5152, 0xA831C66D, 0xB00327C8, 0xBF597FC7, 0xC6E00BF3, 0xD5A79147, 0x06CA6351, 0x14292967,
    0x27B70A85, 0x2E1B2138, 0x4D2C6DFC, 0x53380D13, 0x650A7354, 0x766A0ABB, 0x81C2C92E, 0x92722C85,
    0xA2BFE8A1, 0xA81A664B, 0xC24B8B70, 0xC76C51A3, 0xD192E819, 0xD6990624, 0xF40E3585, 0x106AA070,
    0x19A4C116, 0x1E376C08, 0x2748774C, 0x34B0BCB5, 0x391C0CB3, 0x4ED8AA4A, 0x5B9CCA4F, 0x682E6FF3,
    0x748F82EE, 0x78A5636F, 0x84C87814, 0x8CC70208, 0x90BEFFFA, 0xA4506CEB, 0xBEF9A3F7, 0xC67178F2};

/* ---- plain C ---- */

static uint32_t turn(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static uint32_t word(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void block_plain(uint32_t h[8], const uint8_t *p)
{
    uint32_t w[64], s[8];
    for (int t = 0; t < 16; t++) w[t] = word(p + 4 * t);
    for (int t = 16; t < 64; t++) {
        const uint32_t a = w[t - 15], b = w[t - 2];
        w[t] = w[t - 16] + (turn(a, 7) ^ turn(a, 18) ^ a >> 3) + w[t - 7] +
               (turn(b, 17) ^ turn(b, 19) ^ b >> 10);
    }
    memcpy(s, h, sizeof s);
    for (int t = 0; t < 64; t++) {
        const uint32_t a = s[0], e = s[4];
        const uint32_t t1 = s[7] + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) +
                            ((e & s[5]) ^ (~e & s[6])) + k[t] + w[t];
        const uint32_t t2 =
            (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) h[i] += s[i];
}

static void blocks_plain(uint32_t h[8], const uint8_t *p, size_t blocks)
{
    for (; blocks; blocks--, p += 64) block_plain(h, p);
}

nib_sha256_blocks_fn *const nib_sha256_plain = blocks_plain;

/* ---- the processor's instructions ---- */

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

/* The state is kept as the instructions have it, ABEF and CDGH; four rounds take four words of the
 * schedule, of which sixteen are held. */
__attribute__((target("sha,sse4.1"))) static void blocks_sha(uint32_t h[8], const uint8_t *p,
                                                             size_t blocks)
{
    const __m128i swap = _mm_set_epi64x(0x0C0D0E0F08090A0B, 0x0405060700010203);
    __m128i dcba = _mm_loadu_si128((const __m128i *)(const void *)h);
    __m128i hgfe = _mm_loadu_si128((const __m128i *)(const void *)(h + 4));
    const __m128i cdab = _mm_shuffle_epi32(dcba, 0xB1), efgh = _mm_shuffle_epi32(hgfe, 0x1B);
    __m128i abef = _mm_alignr_epi8(cdab, efgh, 8), cdgh = _mm_blend_epi16(efgh, cdab, 0xF0);
    for (; blocks; blocks--, p += 64) {
        const __m128i abef0 = abef, cdgh0 = cdgh;
        __m128i w[4];
        for (int i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i)),
                                    swap);
        for (int i = 0; i < 16; i++) {
            __m128i m = _mm_add_epi32(w[i % 4],
                                      _mm_loadu_si128((const __m128i *)(const void *)(k + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, m);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(m, 0x0E));
            if (i >= 12) continue;
            const __m128i a = w[i % 4], b = w[(i + 1) % 4], c = w[(i + 2) % 4], d = w[(i + 3) % 4];
            w[i % 4] = _mm_sha256msg2_epu32(
                _mm_add_epi32(_mm_sha256msg1_epu32(a, b), _mm_alignr_epi8(d, c, 4)), d);
        }
        abef = _mm_add_epi32(abef, abef0);
        cdgh = _mm_add_epi32(cdgh, cdgh0);
    }
    const __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
    dcba = _mm_blend_epi16(feba, dchg, 0xF0);
    hgfe = _mm_alignr_epi8(dchg, feba, 8);
    _mm_storeu_si128((__m128i *)(void *)h, dcba);
    _mm_storeu_si128((__m128i *)(void *)(h + 4), hgfe);
}

nib_sha256_blocks_fn *nib_sha256_native(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b >> 29 & 1)) return NULL;
    return __builtin_cpu_supports("sse4.1") ? blocks_sha : NULL;
}
#else
nib_sha256_blocks_fn *nib_sha256_native(void)
{
    return NULL;
}
#endif

/* ---- any number of bytes ---- */

void nib_sha256_begin(nib_sha256 *s)
{
    *s = (nib_sha256){.h = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C,
                            0x1F83D9AB, 0x5BE0CD19}};
}

static void hash_blocks(nib_sha256 *s, const uint8_t *p, size_t blocks)
{
    nib_sha256_blocks_fn *f = nib_sha256_native();
    (f ? f : blocks_plain)(s->h, p, blocks);
}

void nib_sha256_add(nib_sha256 *s, const void *data, size_t n)
{
    const uint8_t *p = data;
    const size_t fill = (size_t)(s->n % 64), room = 64 - fill;
    if (!n) return;
    s->n += n;
    if (fill || n < 64) {
        const size_t first = n < room ? n : room;
        memcpy(s->block + fill, p, first);
        p += first, n -= first;
        if (fill + first < 64) return;
        hash_blocks(s, s->block, 1);
    }
    hash_blocks(s, p, n / 64);
    memcpy(s->block, p + n / 64 * 64, n % 64);
}

void nib_sha256_end(nib_sha256 *s, uint8_t digest[NIB_SHA256_BYTES])
{
    const uint64_t bits = s->n * 8;
    uint8_t tail[72] = {0x80};
    const size_t zeros = (size_t)((119 - s->n % 64) % 64); /* up to 8 bytes before a block ends */
    for (int i = 0; i < 8; i++) tail[1 + zeros + (size_t)i] = (uint8_t)(bits >> (56 - 8 * i));
    nib_sha256_add(s, tail, 1 + zeros + 8);
    for (int i = 0; i < NIB_SHA256_BYTES; i++)
        digest[i] = (uint8_t)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}

void nib_sha256_of(uint8_t digest[NIB_SHA256_BYTES], const void *data, size_t n)
{
    nib_sha256 s;
    nib_sha256_begin(&s);
    nib_sha256_add(&s, data, n);
    nib_sha256_end(&s, digest);
}

nib_code nib_sha256_add_file(nib_sha256 *s, const char *path, uint64_t end, nib_err *err)
{
    nib_file f = {.fd = -1};
    uint8_t *piece = nib_alloc(PIECE, 1);
    nib_code rc = piece ? nib_file_open(&f, path, err) : nib_fail_nomem(err, "a piece of a file");
    if (!rc && end > f.size) end = f.size;
    while (!rc && s->n < end) {
        const size_t n = end - s->n < PIECE ? (size_t)(end - s->n) : PIECE;
        if (!(rc = nib_file_read(&f, s->n, piece, n, err))) nib_sha256_add(s, piece, n);
    }
    nib_file_close(&f);
    nib_free(piece);
    return rc;
}

nib_code nib_sha256_file(uint8_t digest[NIB_SHA256_BYTES], const char *path, nib_err *err)
{
    nib_sha256 s;
    nib_sha256_begin(&s);
    nib_code rc = nib_sha256_add_file(&s, path, UINT64_MAX, err);
    nib_sha256_end(&s, digest);
    return rc;
}

void nib_sha256_text(char text[NIB_SHA256_DIGITS + 1], const uint8_t digest[NIB_SHA256_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < NIB_SHA256_BYTES; i++) {
        text[2 * i] = digits[digest[i] >> 4];
        text[2 * i + 1] = digits[digest[i] & 15];
    }
    text[NIB_SHA256_DIGITS] = 0;
}
