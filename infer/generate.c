/* SPDX-License-Identifier: MIT */
/* infer/generate.c - see generate.h. Without a draft it is the same loop, with nothing proposed. */
#include "infer/generate.h"

#include "base/log.h"
#include "infer/loss.h"
#include "infer/stop_ids.h"

#include <assert.h>
#include <string.h>

typedef struct {
    nib_generated *out;
    nib_decoder *d;
    const nib_generation *how;
    const nib_token_sink *sink;
    const nib_ops *ops;
    nib_sampler *sampler, *draft_sampler;
    int32_t *text; /* [n_text] prompt and output, with room for all of it */
    size_t n_text;
    size_t n_vocab;
    size_t n_wide; /* of the two vocabularies the larger                  */
    int32_t proposed[NIB_DRAFT_MAX];
    double *q;    /* [n_draft][n_wide] what they were drawn from         */
    double *rest; /* [n_vocab] of a distribution, what q leaves of it    */
    bool done;
} run;

nib_code nib_generated_new(nib_generated *g, size_t most, nib_err *err)
{
    *g = (nib_generated){.ended_by = -1};
    g->id = nib_alloc(most, sizeof *g->id);
    g->logprob = nib_alloc(most, sizeof *g->logprob);
    return g->id && g->logprob ? NIB_OK : nib_fail_nomem(err, "generated tokens");
}

void nib_generated_free(nib_generated *g)
{
    nib_free(g->id);
    nib_free(g->logprob);
    *g = (nib_generated){0};
}

/* ---- the draft ---- */

static void remember(run *r, size_t i, const nib_distribution *d)
{
    double *q = r->q + i * r->n_wide;
    memset(q, 0, r->n_wide * sizeof *q);
    for (size_t k = 0; k < d->n; k++) q[d->of[k].id] = d->of[k].p;
}

/* What the draft says comes next, n tokens of it. */
static nib_code propose(run *r, size_t n, nib_err *err)
{
    nib_decoder *draft = r->how->draft;
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < n && !rc; i++) {
        const float *logits;
        nib_distribution d;
        rc = i ? nib_decoder_feed(draft, &r->proposed[i - 1], 1, 1, 1, &logits, err)
               : nib_decoder_prompt(draft, r->text, r->n_text, &logits, err);
        if (!rc) rc = nib_sampler_distribution(r->draft_sampler, logits, &d, err);
        if (rc) return nib_wrap(err, "the draft");
        remember(r, i, &d);
        r->proposed[i] = nib_sampler_draw(r->draft_sampler, &d);
        nib_sampler_saw(r->draft_sampler, r->proposed[i]);
    }
    for (size_t i = 0; i < n; i++) nib_sampler_forget(r->draft_sampler, r->proposed[i]);
    return rc;
}

static double probability(const nib_distribution *d, int32_t id)
{
    for (size_t i = 0; i < d->n; i++)
        if (d->of[i].id == id) return d->of[i].p;
    return 0;
}

/* A draw from what q leaves of the distribution. */
static int32_t draw_rest(run *r, const nib_distribution *d, const double *q)
{
    double sum = 0, at = 0;
    for (size_t i = 0; i < d->n; i++) {
        const double left = d->of[i].p - q[d->of[i].id];
        sum += r->rest[i] = left > 0 ? left : 0;
    }
    if (!(sum > 0)) return nib_sampler_draw(r->sampler, d); /* equal but for rounding */
    if (d->n == 1) return d->of[0].id;
    const double u = nib_sampler_uniform(r->sampler) * sum;
    size_t last = 0;
    for (size_t i = 0; i < d->n; i++) {
        if (r->rest[i] > 0) last = i;
        at += r->rest[i];
        if (u < at) break;
    }
    return d->of[last].id;
}

/* The token at a place that the draft had an opinion on; *kept: it is the draft's. */
static int32_t judge(run *r, const nib_distribution *d, size_t i, bool *kept)
{
    const int32_t id = r->proposed[i];
    const double *q = r->q + i * r->n_wide, p = probability(d, id);
    *kept = p >= q[id] || (p > 0 && nib_sampler_uniform(r->sampler) * q[id] < p);
    return *kept ? id : draw_rest(r, d, q);
}

/* ---- the loop ---- */

/* A token was chosen by these logits. */
static nib_code take(run *r, int32_t id, const float *logits, nib_err *err)
{
    nib_generated *out = r->out;
    const double logprob = -nib_loss_token(r->ops, logits, r->n_vocab, id);
    if (nib_ids_hold(r->how->stop, id)) {
        out->ended_by = id;
        out->logprob_end = logprob;
        r->done = true;
        return NIB_OK;
    }
    out->id[out->n] = id;
    out->logprob[out->n++] = logprob;
    r->text[r->n_text++] = id;
    nib_sampler_saw(r->sampler, id);
    if (r->draft_sampler) nib_sampler_saw(r->draft_sampler, id);
    r->done = out->n == r->how->most;
    return r->sink ? r->sink->token(r->sink->arg, id, err) : NIB_OK;
}

/* From logits of n + 1 places, the first n of which the draft proposed tokens for. */
static nib_code choose(run *r, const float *logits, size_t n, nib_err *err)
{
    bool kept = true;
    r->out->n_proposed += n;
    for (size_t i = 0; i <= n && kept && !r->done; i++, logits += r->n_vocab) {
        nib_distribution d;
        nib_code rc = nib_sampler_distribution(r->sampler, logits, &d, err);
        if (rc) return rc;
        const int32_t id = i < n ? judge(r, &d, i, &kept) : nib_sampler_draw(r->sampler, &d);
        r->out->n_accepted += i < n && kept;
        if ((rc = take(r, id, logits, err))) return rc;
    }
    return NIB_OK;
}

/* The last token of the text and what the draft proposes to follow it. */
static nib_code go_on(run *r, nib_err *err)
{
    const size_t wanted = r->how->most - r->out->n - 1;
    const size_t n = !r->how->draft ? 0 : wanted < r->how->n_draft ? wanted : r->how->n_draft;
    int32_t id[NIB_FEW_ROWS];
    const float *logits;
    nib_code rc = propose(r, n, err);
    if (rc) return rc;
    id[0] = r->text[r->n_text - 1];
    memcpy(id + 1, r->proposed, n * sizeof *id);
    if ((rc = nib_decoder_feed(r->d, id, 1, n + 1, n + 1, &logits, err))) return rc;
    if ((rc = choose(r, logits, n, err))) return rc;
    /* What was not kept is forgotten; the last token has yet to be given to the model. */
    nib_decoder_set_length(r->d, r->n_text - 1);
    if (r->how->draft && nib_decoder_length(r->how->draft) > r->n_text - 1)
        nib_decoder_set_length(r->how->draft, r->n_text - 1);
    return NIB_OK;
}

static nib_code set_up(run *r, const int32_t *prompt, size_t n_prompt, nib_err *err)
{
    const nib_generation *how = r->how;
    size_t room;
    nib_code rc = nib_sampler_new(&r->sampler, &how->sampling, r->n_vocab, err);
    if (rc) return rc;
    if (!nib_add(n_prompt, how->most, &room) || !(r->text = nib_alloc(room, sizeof *r->text)))
        return nib_fail_nomem(err, "the text");
    memcpy(r->text, prompt, n_prompt * sizeof *prompt);
    r->n_text = n_prompt;
    nib_sampler_saw_prompt(r->sampler, prompt, n_prompt);
    if (!how->draft) return NIB_OK;
    const size_t other = nib_decoder_model(how->draft)->hp.n_vocab;
    nib_sampling draws = how->sampling;
    draws.seed = ~draws.seed; /* numbers of its own */
    r->n_wide = other > r->n_vocab ? other : r->n_vocab;
    r->q = nib_alloc(how->n_draft, r->n_wide * sizeof *r->q);
    r->rest = nib_alloc(r->n_vocab, sizeof *r->rest);
    if (!r->q || !r->rest) return nib_fail_nomem(err, "what the draft proposes");
    if ((rc = nib_sampler_new(&r->draft_sampler, &draws, other, err))) return rc;
    nib_sampler_saw_prompt(r->draft_sampler, prompt, n_prompt);
    return NIB_OK;
}

static nib_code run_all(run *r, nib_err *err)
{
    const float *logits;
    const double started = nib_now();
    nib_code rc = nib_decoder_prompt(r->d, r->text, r->n_text, &logits, err);
    if (!rc) rc = choose(r, logits, 0, err);
    const double first = nib_now();
    r->out->prompt_seconds = first - started;
    while (!rc && !r->done) rc = go_on(r, err);
    r->out->seconds = nib_now() - first;
    return rc;
}

nib_code nib_generate(nib_generated *out, nib_decoder *d, const int32_t *prompt, size_t n_prompt,
                      const nib_generation *how, const nib_token_sink *sink, nib_err *err)
{
    run r = {.out = out,
             .d = d,
             .how = how,
             .sink = sink,
             .ops = nib_decoder_ops(d),
             .n_vocab = nib_decoder_model(d)->hp.n_vocab};
    assert(n_prompt && how->most && how->n_draft <= NIB_DRAFT_MAX);
    nib_code rc = nib_generated_new(out, how->most, err);
    if (!rc) rc = set_up(&r, prompt, n_prompt, err);
    if (!rc) rc = run_all(&r, err);
    nib_sampler_free(r.sampler);
    nib_sampler_free(r.draft_sampler);
    nib_free(r.text);
    nib_free(r.q);
    nib_free(r.rest);
    return rc;
}
