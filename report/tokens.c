/* SPDX-License-Identifier: MIT */
/* report/tokens.c - the tokens with the largest divergence, in their context; see sections.h.
 * Tests: tests/cli/report.sh. */
#include "report/sections.h"

#include "report/html.h"

#include <math.h>

enum { WORST = 4, BEFORE = 40, AFTER = 8 }; /* tokens of a model, and of their context */

/* The positions with the largest divergence, from the largest on; how many. */
static size_t find_worst(size_t at[WORST], const nib_report_text *t, size_t m)
{
    const nib_compare_token *token = t->r.token[m];
    size_t n = 0;
    for (size_t i = 0; i < t->r.n_scored; i++) {
        size_t k = n < WORST ? n++ : WORST;
        if (k == WORST && !(token[i].kl > token[at[WORST - 1]].kl)) continue;
        if (k == WORST) k = WORST - 1;
        for (; k > 0 && token[i].kl > token[at[k - 1]].kl; k--) at[k] = at[k - 1];
        at[k] = i;
    }
    return n;
}

/* Vocabularies are padded: a model may have more tokens than its tokenizer. Files have none. */
static bool no_text(const nib_tokenizer *tok, int32_t id)
{
    return !tok || id < 0 || (size_t)id >= nib_tokenizer_n_vocab(tok);
}

static nib_code put_ids(FILE *f, const nib_tokenizer *tok, const int32_t *id, size_t n,
                        nib_err *err)
{
    char *text;
    size_t n_text;
    if (!n) return NIB_OK;
    for (size_t i = 0; i < n; i++)
        if (no_text(tok, id[i])) {
            fputs("(tokens without a text)", f);
            return NIB_OK;
        }
    nib_code rc = nib_tokenizer_decode(tok, id, n, false, &text, &n_text, err);
    if (rc) return rc;
    nib_html_token(f, text, n_text);
    nib_free(text);
    return NIB_OK;
}

static nib_code put_piece(FILE *f, const nib_tokenizer *tok, int32_t id, nib_err *err)
{
    char *text;
    size_t n;
    if (no_text(tok, id)) {
        fprintf(f, "(token %d)", id);
        return NIB_OK;
    }
    nib_code rc = nib_tokenizer_piece(tok, id, &text, &n, err);
    if (rc) return rc;
    fputs("<q>", f);
    nib_html_token(f, text, n);
    fputs("</q>", f);
    nib_free(text);
    return NIB_OK;
}

static nib_code put_token(FILE *f, const nib_tokenizer *tok, const nib_report_text *t, size_t m,
                          size_t s, nib_err *err)
{
    const nib_compare_result *r = &t->r;
    const nib_compare_token *base = &r->token[0][s], *other = &r->token[m][s];
    const int32_t *chunk = r->id + s / r->per_chunk * r->n_ctx;
    const size_t at = r->first + s % r->per_chunk + 1; /* of the token that came */
    const size_t from = at > BEFORE ? at - BEFORE : 0;
    const size_t rest = r->n_ctx - at - 1;
    fprintf(f, "<div class=\"token mark\"><b>%.4f</b> nats at token %zu of chunk %zu: <span>",
            other->kl, at, s / r->per_chunk);
    if (from) fputs("… ", f);
    nib_code rc = put_ids(f, tok, chunk + from, at - from, err);
    fputs("<mark>", f);
    if (!rc) rc = put_piece(f, tok, chunk[at], err);
    fputs("</mark><span class=\"soft\">", f);
    if (!rc) rc = put_ids(f, tok, chunk + at + 1, rest < AFTER ? rest : AFTER, err);
    fprintf(
        f,
        "</span></span><br/>\nThe text's own token: base %.2f %%, here %.2f %%. Likeliest: base ",
        100 * exp(-base->nll), 100 * exp(-other->nll));
    if (!rc) rc = put_piece(f, tok, base->top, err);
    fprintf(f, " %.2f %%, here ", 100 * (double)base->p_top);
    if (!rc) rc = put_piece(f, tok, other->top, err);
    fprintf(f, " %.2f %%.</div>\n", 100 * (double)other->p_top);
    return rc;
}

/* The model's own tokenizer, or that of any other: all have the same tokens. NULL: there is none.
 */
static const nib_tokenizer *tokenizer_of(const nib_comparison *c, size_t m)
{
    for (size_t i = 0; i < c->n_models && !c->model[m].tok; i++)
        if (c->model[i].tok) return c->model[i].tok;
    return c->model[m].tok;
}

static nib_code put_model(FILE *f, const nib_comparison *c, const nib_report_text *t, size_t m,
                          nib_err *err)
{
    size_t at[WORST];
    const size_t n = find_worst(at, t, m);
    nib_code rc = NIB_OK;
    fputs("<h3>", f);
    nib_report_name(f, c, m);
    if (c->n_texts > 1) {
        fputs(" on ", f);
        nib_html_text(f, t->name);
    }
    fputs("</h3>\n", f);
    if (!n || !(t->r.token[m][at[0]].kl > 0)) {
        fputs("<p>No token differs.</p>\n", f);
        return NIB_OK;
    }
    fputs("<div class=\"tokens\">\n", f);
    for (size_t i = 0; i < n && !rc; i++)
        if (t->r.token[m][at[i]].kl > 0) rc = put_token(f, tokenizer_of(c, m), t, m, at[i], err);
    fputs("</div>\n", f);
    return rc;
}

nib_code nib_report_tokens(FILE *f, const nib_comparison *c, nib_err *err)
{
    nib_code rc = NIB_OK;
    if (c->n_models < 2) return NIB_OK;
    fputs("<h2>Tokens with the largest divergence</h2>\n<p>The marked token is the one that came; "
          "the "
          "models were asked for it after what stands before.</p>\n",
          f);
    for (size_t m = 1; m < c->n_models && !rc; m++)
        for (size_t i = 0; i < c->n_texts && !rc; i++) rc = put_model(f, c, &c->text[i], m, err);
    return rc;
}
