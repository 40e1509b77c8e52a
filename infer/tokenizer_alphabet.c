/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_alphabet.c - see tokenizer_alphabet.h.
 *
 * Tests: tests/infer/test_tokenizer.c. */
#include "infer/tokenizer_alphabet.h"
#include "infer/tokenizer_text.h"

#include <string.h>

static bool is_printable(unsigned b)
{
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
}

/* The odd bytes in order are 0-32, 127-160, 173. */
size_t nib_alphabet_put(char *p, unsigned b)
{
    const uint32_t cp = is_printable(b) ? b
                        : b <= 32       ? 0x100 + b
                        : b == 173      ? 0x143
                                        : 0x100 + b - 94;
    return nib_utf8_put(p, cp);
}

/* The byte that a character stands for; -1: none. */
static int byte_of(uint32_t cp)
{
    if (cp < 0x100) return is_printable(cp) ? (int)cp : -1;
    uint32_t k = cp - 0x100;
    if (k <= 32) return (int)k;
    if (k <= 66) return (int)(k - 33 + 127);
    return k == 67 ? 173 : -1;
}

size_t nib_alphabet_get(const char *text, size_t n, char *out)
{
    size_t k = 0;
    for (size_t i = 0, len; i < n; i += len) {
        uint32_t cp = 0;
        len = nib_utf8_get(text + i, n - i, &cp);
        int b = len ? byte_of(cp) : -1;
        if (b < 0) {
            memcpy(out, text, n);
            return n;
        }
        out[k++] = (char)b;
    }
    return k;
}
