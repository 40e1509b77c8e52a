/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_text.c - see tokenizer_text.h. The only file that sees utf8proc. */
#include "infer/tokenizer_text.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- UTF-8 ---- */

size_t nib_utf8_get(const char *p, size_t n, uint32_t *cp)
{
    const unsigned char *b = (const unsigned char *)p;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    *cp = b[0];
    if (b[0] < 0x80) return 1;
    size_t len = b[0] >= 0xF0 ? 4 : b[0] >= 0xE0 ? 3 : 2;
    if (b[0] < 0xC2 || b[0] > 0xF4 || len > n) return 0;
    uint32_t c = b[0] & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((b[i] & 0xC0) != 0x80) return 0;
        c = c << 6 | (b[i] & 0x3Fu);
    }
    if (c < least[len] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) return 0;
    *cp = c;
    return len;
}

/* Bytes of ASCII that p begins with, at least up to the last full eight. */
static size_t ascii_run(const char *p, size_t n)
{
    size_t i = 0;
    for (uint64_t w; n - i >= 8; i += 8) {
        memcpy(&w, p + i, 8);
        if (w & 0x8080808080808080u) break;
    }
    return i;
}

size_t nib_utf8_last(const char *p, size_t n)
{
    uint32_t cp;
    for (size_t k = 1; k <= 4 && k <= n; k++)
        if (((unsigned char)p[n - k] & 0xC0) != 0x80)
            return nib_utf8_get(p + n - k, k, &cp) == k ? k : 1;
    return 1;
}

/* ---- characters ---- */

bool nib_is_space(uint32_t cp)
{
    return (cp >= 9 && cp <= 13) || cp == ' ' || cp == 0x85 || cp == 0xA0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F ||
           cp == 0x205F || cp == 0x3000;
}

bool nib_is_word(uint32_t cp)
{
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return cp == 0x200C || cp == 0x200D;
    }
}

bool nib_is_printable(uint32_t cp)
{
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    case UTF8PROC_CATEGORY_ZS: return cp == ' ';
    default: return true;
    }
}

uint32_t nib_to_upper(uint32_t cp)
{
    return (uint32_t)utf8proc_toupper((utf8proc_int32_t)cp);
}

static utf8proc_category_t category(uint32_t cp)
{
    return utf8proc_category((utf8proc_int32_t)cp);
}

bool nib_is_nonspacing(uint32_t cp)
{
    return category(cp) == UTF8PROC_CATEGORY_MN;
}

bool nib_is_mark(uint32_t cp)
{
    const utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_MC || c == UTF8PROC_CATEGORY_ME;
}

bool nib_is_control(uint32_t cp)
{
    const utf8proc_category_t c = category(cp);
    if (cp == '\t' || cp == '\n' || cp == '\r') return false;
    return c == UTF8PROC_CATEGORY_CC || c == UTF8PROC_CATEGORY_CF || c == UTF8PROC_CATEGORY_CS ||
           c == UTF8PROC_CATEGORY_CO || c == UTF8PROC_CATEGORY_CN;
}

uint32_t nib_to_lower(uint32_t cp)
{
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}

size_t nib_utf8_put(char *p, uint32_t cp)
{
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)cp, (utf8proc_uint8_t *)p);
}

size_t nib_grapheme(const char *text, size_t n)
{
    utf8proc_int32_t state = 0;
    uint32_t cp, next;
    size_t at = nib_utf8_get(text, n, &cp);
    for (size_t k; at < n; at += k, cp = next) {
        k = nib_utf8_get(text + at, n - at, &next);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)cp, (utf8proc_int32_t)next, &state))
            break;
    }
    return at;
}

/* ---- growing text ---- */

static nib_code text_reserve(nib_text *t, size_t more, nib_err *err)
{
    size_t need, cap;
    if (!nib_add(t->n, more, &need) || !nib_add(need, need / 2, &cap))
        return nib_fail_nomem(err, "text to tokenize");
    if (need <= t->cap) return NIB_OK;
    char *p = nib_grow(t->p, t->n, cap, 1);
    if (!p) return nib_fail_nomem(err, "text to tokenize");
    t->p = p;
    t->cap = cap;
    return NIB_OK;
}

nib_code nib_text_add(nib_text *t, const char *p, size_t n, nib_err *err)
{
    nib_code rc = text_reserve(t, n, err);
    if (rc) return rc;
    if (n) memcpy(t->p + t->n, p, n);
    t->n += n;
    return NIB_OK;
}

/* ---- base64 ---- */

static const char DIGIT[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* -1: no digit. */
static int digit_of(char c)
{
    const char *p = c ? strchr(DIGIT, c) : NULL;
    return p ? (int)(p - DIGIT) : -1;
}

nib_code nib_text_add_base64(nib_text *t, const char *text, size_t n, nib_err *err)
{
    size_t digits = n;
    while (digits && n - digits < 2 && text[digits - 1] == '=') digits--;
    nib_code rc = digits % 4 == 1 || (digits < n && n % 4)
                      ? nib_fail(err, NIB_EFORMAT, "base64 of %zu characters", n)
                      : text_reserve(t, digits / 4 * 3 + 3, err);
    uint32_t bits = 0;
    for (size_t i = 0; i < digits && !rc; i++) {
        const int d = digit_of(text[i]);
        if (d < 0)
            return nib_fail(err, NIB_EFORMAT, "base64 with a character 0x%02X", text[i] & 255u);
        bits = bits << 6 | (uint32_t)d;
        if (i % 4) t->p[t->n++] = (char)(bits >> (6 - 2 * (i % 4)));
    }
    return rc;
}

nib_code nib_text_add_as_base64(nib_text *t, const void *data, size_t n, nib_err *err)
{
    const unsigned char *p = data;
    nib_code rc = text_reserve(t, n / 3 * 4 + 4, err);
    for (size_t i = 0; i < n && !rc; i += 3) {
        const size_t left = n - i;
        const uint32_t bits = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
                              (left > 2 ? p[i + 2] : 0u);
        for (size_t k = 0; k < 4; k++)
            t->p[t->n++] = k > left ? '=' : DIGIT[bits >> (18 - 6 * k) & 63];
    }
    return rc;
}

/* ---- normalization forms ---- */

/* Characters of the common scripts that form C leaves alone and that never join with what stands
 * before them. The list may be short of some; it must not hold one too many. */
static bool is_inert_nfc(uint32_t cp)
{
    static const uint32_t range[][2] = {
        {0x0000, 0x02FF}, /* Latin                                           */
        {0x0370, 0x0373},   {0x0375, 0x037D}, {0x037F, 0x0386}, /* Greek, without   */
        {0x0388, 0x0482}, /* its three characters that turn into others; Cyrillic */
        {0x048A, 0x0590}, /* Cyrillic, Armenian                              */
        {0x2010, 0x2027},   {0x2030, 0x205E},                   /* punctuation                   */
        {0x3001, 0x3029},   {0x3041, 0x3096}, {0x30A1, 0x30FA}, /* kana         */
        {0x3400, 0x9FFF},   /* Chinese                                         */
        {0xAC00, 0xD7A3},   /* Hangul syllables                                */
        {0xFF01, 0xFF60},   /* full width                                      */
        {0x1F300, 0x1FAFF}, /* emoji                                           */
    };
    for (size_t i = 0; i < sizeof range / sizeof *range; i++)
        if (cp <= range[i][1]) return cp >= range[i][0];
    return false;
}

/* Form C has the list above; ASCII and Chinese are inert in every form. */
static bool is_inert(nib_normal_form form, uint32_t cp)
{
    if (form == NIB_NFC) return is_inert_nfc(cp);
    return cp < 0x80 || (cp >= 0x3400 && cp <= 0x9FFF);
}

static nib_code add_normalized(nib_text *t, nib_normal_form form, const char *text, size_t n,
                               nib_err *err)
{
    static const int how[] = {[NIB_NFC] = UTF8PROC_COMPOSE,
                              [NIB_NFD] = UTF8PROC_DECOMPOSE,
                              [NIB_NFKC] = UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
                              [NIB_NFKD] = UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT};
    utf8proc_uint8_t *out = NULL;
    utf8proc_ssize_t k = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, &out,
                                      (utf8proc_option_t)(how[form] | UTF8PROC_STABLE));
    if (k == UTF8PROC_ERROR_NOMEM) return nib_fail_nomem(err, "text to normalize");
    if (k < 0) return nib_fail(err, NIB_EINVAL, "normalizing text: %s", utf8proc_errmsg(k));
    nib_code rc = nib_text_add(t, (const char *)out, (size_t)k, err);
    free(out);
    return rc;
}

nib_code nib_text_add_normal(nib_text *t, nib_normal_form form, const char *text, size_t n,
                             nib_err *err)
{
    nib_code rc = NIB_OK;
    size_t done = 0, base = 0; /* copied so far; start of the last inert character seen */
    uint32_t cp;
    for (size_t i = 0, len; i < n && !rc;) {
        size_t skip = ascii_run(text + i, n - i);
        if (skip) {
            base = i + skip - 1;
            i += skip;
            continue;
        }
        len = nib_utf8_get(text + i, n - i, &cp);
        if (is_inert(form, cp)) {
            base = i;
            i += len;
            continue;
        }
        /* Normalize from the base through the last character that is not inert. */
        size_t end = i + len;
        while (end < n && (len = nib_utf8_get(text + end, n - end, &cp)) && !is_inert(form, cp))
            end += len;
        if (base < done) base = done;
        rc = nib_text_add(t, text + done, base - done, err);
        if (!rc) rc = add_normalized(t, form, text + base, end - base, err);
        done = base = i = end;
    }
    return rc ? rc : nib_text_add(t, text + done, n - done, err);
}
