/* SPDX-License-Identifier: MIT */
/* base/utf8.c - see utf8.h. */
#include "base/utf8.h"

#include "base/mem.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Bytes of the well-formed sequence at s[n], n > 0; 0 when there is none. The second byte's range
 * is what rules out overlong forms, surrogates and values above U+10FFFF. */
static size_t sequence(const unsigned char *s, size_t n)
{
    unsigned char c = s[0], low = 0x80, high = 0xBF;
    if (c < 0x80) return 1;
    size_t len = c >= 0xC2 && c <= 0xDF   ? 2
                 : (c & 0xF0) == 0xE0     ? 3
                 : c >= 0xF0 && c <= 0xF4 ? 4
                                          : 0;
    if (!len || len > n) return 0;
    if (c == 0xE0) low = 0xA0;
    if (c == 0xED) high = 0x9F;
    if (c == 0xF0) low = 0x90;
    if (c == 0xF4) high = 0x8F;
    if (s[1] < low || s[1] > high) return 0;
    for (size_t i = 2; i < len; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    return len;
}

size_t nib_utf8_bad(const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint64_t eight;
        if (n - i >= 8) { /* eight ASCII bytes at once */
            memcpy(&eight, s + i, 8);
            if (!(eight & 0x8080808080808080u)) {
                i += 8;
                continue;
            }
        }
        size_t len = sequence((const unsigned char *)s + i, n - i);
        if (!len) return i;
        i += len;
    }
    return n;
}

/* The first n bytes of a sequence, if more may follow: some end makes it well-formed. */
static bool may_go_on(const unsigned char *s, size_t n)
{
    static const unsigned char ends[] = {0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF};
    unsigned char t[4] = {0};
    if (n > 3 || s[0] < 0x80) return false;
    for (size_t e = 0; e < sizeof ends; e++) {
        memset(t, 0x80, sizeof t);
        t[1] = ends[e];
        memcpy(t, s, n);
        if (sequence(t, sizeof t) > n) return true;
    }
    return false;
}

size_t nib_utf8_whole(const char *s, size_t n)
{
    for (size_t cut = n < 3 ? n : 3; cut > 0; cut--)
        if (may_go_on((const unsigned char *)s + n - cut, cut)) return n - cut;
    return n;
}

char *nib_utf8_replace(const char *s)
{
    static const char fffd[] = "\xEF\xBF\xBD";
    size_t n = strlen(s), at = 0;
    char *text = nib_alloc(n + 1, sizeof fffd - 1); /* at most three bytes for one */
    while (text) {
        const size_t good = nib_utf8_bad(s, n);
        memcpy(text + at, s, good);
        at += good;
        if (good == n) break;
        memcpy(text + at, fffd, sizeof fffd - 1);
        at += sizeof fffd - 1;
        s += good + 1, n -= good + 1;
    }
    if (text) text[at] = 0;
    return text;
}
