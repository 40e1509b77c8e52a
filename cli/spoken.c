/* SPDX-License-Identifier: MIT */
/* cli/spoken.c - see spoken.h. Tests: tests/cases/commands, tests/base/test_utf8.c. */
#include "cli/spoken.h"

#include "base/mem.h"
#include "base/str.h"
#include "base/utf8.h"

#include <stdio.h>

static void print(const char *s, size_t n)
{
    for (size_t i = 0, k; i < n; i += k) {
        const size_t good = nib_utf8_bad(s + i, n - i);
        for (size_t j = i, c; j < i + good; j += c ? c : 1) {
            c = nib_control(s + j, i + good - j);
            putchar(c && s[j] != '\n' && s[j] != '\t' ? ' ' : s[j]);
        }
        k = good;
        if (i + good < n) fputs("\xEF\xBF\xBD", stdout), k++;
    }
}

static void show(nib_spoken *s, size_t end)
{
    if (s->print && end > s->shown) {
        print(s->all.p + s->shown, end - s->shown);
        fflush(stdout);
    }
    s->shown = end;
}

nib_code nib_spoken_token(void *arg, int32_t id, nib_err *err)
{
    nib_spoken *s = arg;
    char *piece;
    size_t n;
    if (!nib_tokenizer_shows(s->tok, id)) return NIB_OK;
    nib_code rc = nib_tokenizer_piece(s->tok, id, &piece, &n, err);
    if (rc) return rc;
    rc = nib_text_add(&s->all, piece, n, err);
    nib_free(piece);
    if (!rc) show(s, s->shown + nib_utf8_whole(s->all.p + s->shown, s->all.n - s->shown));
    return rc;
}

void nib_spoken_end(nib_spoken *s)
{
    show(s, s->all.n);
    if (s->print) putchar('\n');
}
