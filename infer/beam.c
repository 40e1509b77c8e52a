/* SPDX-License-Identifier: MIT */
/* infer/beam.c - see beam.h. A beam is a sequence of the decoder; who goes on in a place of its own
 * stays there, others are copied to the places of those that do not go on. */
#include "infer/beam.h"

#include "base/log.h"
#include "infer/stop_ids.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* A text that may become one of the beams. */
typedef struct {
    double sum; /* of log-probabilities */
    uint32_t parent;
    int32_t id;
    double logprob;
} step;

typedef struct {
    int32_t *id;     /* [most] */
    double *logprob; /* [most] */
    double sum;
} beam;

typedef struct {
    const nib_generation *how;
    nib_decoder *d;
    beam now[NIB_FEW_ROWS], next[NIB_FEW_ROWS]; /* [n_live] and what they become */
    size_t n_live, n;                           /* tokens of each                */
    size_t greedy;  /* which of them greedy decoding would have; n_live: it has ended */
    step likeliest; /* how that one goes on                                           */
    step *best;     /* [n_best] sorted, the best first */
    size_t n_best, room;
    nib_generated *out;         /* of the ended ones the best     */
    double ended[NIB_FEW_ROWS]; /* their scores, the best first */
    size_t n_ended;
} search;

static nib_code set_up(search *s, nib_err *err)
{
    s->room = (1 + s->how->stop->n) * s->how->beams;
    if (!(s->best = nib_alloc(s->room, sizeof *s->best))) return nib_fail_nomem(err, "beams");
    for (size_t i = 0; i < s->how->beams; i++) {
        beam *of[2] = {&s->now[i], &s->next[i]};
        for (size_t k = 0; k < 2; k++) {
            of[k]->id = nib_alloc(s->how->most, sizeof *of[k]->id);
            of[k]->logprob = nib_alloc(s->how->most, sizeof *of[k]->logprob);
            if (!of[k]->id || !of[k]->logprob) return nib_fail_nomem(err, "beams");
        }
    }
    return NIB_OK;
}

static void tear_down(search *s)
{
    for (size_t i = 0; i < NIB_FEW_ROWS; i++) {
        nib_free(s->now[i].id), nib_free(s->now[i].logprob);
        nib_free(s->next[i].id), nib_free(s->next[i].logprob);
    }
    nib_free(s->best);
}

/* ---- one step ---- */

static void offer(search *s, step new)
{
    size_t at = s->n_best;
    if (at == s->room && !(new.sum > s->best[at - 1].sum)) return;
    if (at < s->room)
        s->n_best++;
    else
        at--;
    for (; at > 0 && new.sum > s->best[at - 1].sum; at--) s->best[at] = s->best[at - 1];
    s->best[at] = new;
}

/* The best of what the beams can become. */
static nib_code look(search *s, const float *logits, nib_err *err)
{
    const size_t n_vocab = nib_decoder_model(s->d)->hp.n_vocab;
    const nib_ops *ops = nib_decoder_ops(s->d);
    s->n_best = 0;
    for (size_t b = 0; b < s->n_live; b++, logits += n_vocab) {
        const float most = ops->max(logits, n_vocab);
        const double all = (double)most + log(ops->sum_exp(logits, n_vocab, most));
        if (!isfinite(all)) return nib_fail(err, NIB_ENUMERIC, "the model's output is not finite");
        for (size_t i = 0; i < n_vocab; i++) {
            const double logprob = (double)logits[i] - all;
            const step t = {s->now[b].sum + logprob, (uint32_t)b, (int32_t)i, logprob};
            offer(s, t);
            if (b == s->greedy && (!i || t.sum > s->likeliest.sum)) s->likeliest = t;
        }
    }
    return NIB_OK;
}

/* Keep a text of n tokens, and the one that ended it (-1: none), if it is the best so far. */
static void end(search *s, const beam *b, size_t n, double sum, int32_t by, double logprob)
{
    const double score = sum / (double)(n + (by >= 0));
    size_t at = s->n_ended;
    if (at == s->how->beams && !(score > s->ended[at - 1])) return;
    if (at < s->how->beams)
        s->n_ended++;
    else
        at--;
    for (; at > 0 && score > s->ended[at - 1]; at--) s->ended[at] = s->ended[at - 1];
    s->ended[at] = score;
    if (at > 0) return;
    s->out->n = n;
    s->out->ended_by = by;
    s->out->logprob_end = logprob;
    memcpy(s->out->id, b->id, n * sizeof *b->id);
    memcpy(s->out->logprob, b->logprob, n * sizeof *b->logprob);
}

static bool is_greedy(const search *s, const step *t)
{
    return s->greedy < s->n_live && t->parent == s->greedy && t->id == s->likeliest.id;
}

/* The steps that go on, the best first; those that end among the best are kept apart. The greedy
 * text goes on, or is kept, in any case. *greedy: which of the live ones it is, or `n`. */
static size_t sort_out(search *s, step live[NIB_FEW_ROWS], size_t *greedy)
{
    size_t n = 0, at = SIZE_MAX;
    const bool ends = nib_ids_hold(s->how->stop, s->likeliest.id);
    for (size_t i = 0; i < s->n_best && n < s->how->beams; i++) {
        const step *t = &s->best[i];
        const bool is_it = is_greedy(s, t);
        if (is_it) at = n;
        if (!nib_ids_hold(s->how->stop, t->id))
            live[n++] = *t;
        else if (i < s->how->beams || is_it)
            end(s, &s->now[t->parent], s->n, t->sum, t->id, t->logprob);
    }
    if (s->greedy < s->n_live && at == SIZE_MAX) {
        const step *t = &s->likeliest;
        if (ends)
            end(s, &s->now[t->parent], s->n, t->sum, t->id, t->logprob);
        else
            live[at = n < s->how->beams ? n++ : n - 1] = *t;
    }
    *greedy = s->greedy < s->n_live && !ends ? at : n;
    return n;
}

/* Which place each of the n goes to: the first of a parent stays in its place. */
static void give_places(const step *live, size_t n, size_t place[NIB_FEW_ROWS])
{
    bool used[NIB_FEW_ROWS] = {false}, placed[NIB_FEW_ROWS] = {false};
    for (size_t i = 0; i < n; i++)
        if (live[i].parent < n && !used[live[i].parent]) {
            place[i] = live[i].parent;
            used[place[i]] = placed[i] = true;
        }
    for (size_t i = 0, free = 0; i < n; i++) {
        while (!placed[i] && used[free]) free++;
        if (placed[i]) continue;
        place[i] = free;
        used[free] = true;
    }
}

static void go_on(search *s, const step *live, size_t n, size_t greedy)
{
    size_t place[NIB_FEW_ROWS];
    give_places(live, n, place);
    for (size_t i = 0; i < n; i++) {
        const beam *from = &s->now[live[i].parent];
        beam *to = &s->next[place[i]];
        memcpy(to->id, from->id, s->n * sizeof *to->id);
        memcpy(to->logprob, from->logprob, s->n * sizeof *to->logprob);
        to->id[s->n] = live[i].id;
        to->logprob[s->n] = live[i].logprob;
        to->sum = live[i].sum;
        if (place[i] != live[i].parent)
            nib_graph_copy_sequence(nib_decoder_graph(s->d), live[i].parent, place[i],
                                    nib_decoder_length(s->d));
    }
    for (size_t i = 0; i < n; i++) {
        const beam t = s->now[i];
        s->now[i] = s->next[i];
        s->next[i] = t;
    }
    s->greedy = greedy < n ? place[greedy] : n;
    s->n_live = n;
    s->n++;
}

/* Can none that goes on become better than the ended ones? */
static bool is_over(const search *s)
{
    double best = -INFINITY;
    for (size_t i = 0; i < s->n_live; i++) best = fmax(best, s->now[i].sum);
    if (s->n == s->how->most || !s->n_live) return true;
    return s->greedy == s->n_live && s->n_ended == s->how->beams &&
           s->ended[s->n_ended - 1] >= best / (double)s->n;
}

static nib_code run_all(search *s, const int32_t *prompt, size_t n_prompt, nib_err *err)
{
    const float *logits;
    step live[NIB_FEW_ROWS];
    int32_t id[NIB_FEW_ROWS];
    const double started = nib_now();
    nib_code rc = nib_decoder_prompt(s->d, prompt, n_prompt, &logits, err);
    const double first = nib_now();
    s->out->prompt_seconds = first - started;
    s->n_live = 1;
    while (!rc) {
        size_t greedy;
        if ((rc = look(s, logits, err))) break;
        const size_t n = sort_out(s, live, &greedy);
        go_on(s, live, n, greedy);
        if (is_over(s)) break;
        for (size_t i = 0; i < s->n_live; i++) id[i] = s->now[i].id[s->n - 1];
        rc = nib_decoder_feed(s->d, id, s->n_live, 1, 1, &logits, err);
    }
    for (size_t i = 0; i < s->n_live && !rc && s->n; i++)
        if (s->n == s->how->most) end(s, &s->now[i], s->n, s->now[i].sum, -1, 0);
    s->out->seconds = nib_now() - first;
    return rc;
}

nib_code nib_beam_search(nib_generated *out, nib_decoder *d, const int32_t *prompt, size_t n_prompt,
                         const nib_generation *how, nib_err *err)
{
    search s = {.how = how, .d = d, .out = out};
    const size_t n_vocab = nib_decoder_model(d)->hp.n_vocab;
    assert(n_prompt && how->most && how->beams && how->beams <= NIB_FEW_ROWS);
    nib_code rc = nib_generated_new(out, how->most, err);
    if (!rc && how->beams + how->stop->n > n_vocab)
        rc = nib_fail(err, NIB_EINVAL, "%zu beams of a vocabulary of %zu tokens", how->beams,
                      n_vocab);
    if (!rc) rc = set_up(&s, err);
    if (!rc) rc = run_all(&s, prompt, n_prompt, err);
    tear_down(&s);
    return rc;
}
