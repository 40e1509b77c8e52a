/* SPDX-License-Identifier: MIT */
/* Any bytes as a chat template, up to the first zero byte, and a document of a data set after it.
 * Refused with a message, or the text that comes of them is UTF-8 without a NUL; twice the same. */
#include "base/mem.h"
#include "base/utf8.h"
#include "calib/conversation.h"

#include <stdlib.h>
#include <string.h>

static void check(nib_code rc, const nib_err *err)
{
    if (rc && (!err->msg[0] || err->code != rc)) abort();
}

static nib_code render(const nib_jinja *t, const nib_conversation *c, nib_text *out)
{
    nib_err err = {0};
    const nib_jinja_var vars[] = {
        {"messages", c->input.messages}, {"tools", c->input.tools}, {"more", c->input.more}};
    nib_code rc = nib_jinja_render(t, vars, sizeof vars / sizeof *vars, out, &err);
    check(rc, &err);
    if (rc && out->n) abort();
    if (out->n && (memchr(out->p, 0, out->n) || nib_utf8_bad(out->p, out->n) < out->n)) abort();
    return rc;
}

static void render_twice(const nib_jinja *t, const nib_conversation *c)
{
    nib_text a = {0}, b = {0};
    const nib_code first = render(t, c, &a), again = render(t, c, &b);
    if (first != again || a.n != b.n || (a.n && memcmp(a.p, b.p, a.n) != 0)) abort();
    nib_free(a.p);
    nib_free(b.p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    nib_jinja *t;
    nib_json *doc = NULL;
    nib_conversation c = {0};
    nib_err err = {0};
    const uint8_t *zero = n ? memchr(data, 0, n) : NULL;
    const size_t source = zero ? (size_t)(zero - data) : n;
    nib_code rc = nib_jinja_parse(&t, (const char *)data, source, &err);
    check(rc, &err);
    if (rc ? t != NULL : !t) abort();
    if (zero) {
        rc = nib_json_parse(&doc, (const char *)zero + 1, n - source - 1, &err);
        if (!rc) rc = nib_conversation_read(&c, doc, &err);
        check(rc, &err);
    }
    if (t) render_twice(t, &c);
    nib_conversation_free(&c);
    nib_json_free(doc);
    nib_jinja_free(t);
    return 0;
}
