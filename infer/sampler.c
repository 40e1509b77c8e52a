/* SPDX-License-Identifier: MIT */
/* infer/sampler.c - see sampler.h. */
#include "infer/sampler.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

struct nib_sampler {
    nib_sampling how;
    size_t n_vocab;
    uint64_t state[4];
    uint8_t *in_prompt;  /* [n_vocab]                      */
    uint32_t *in_output; /* [n_vocab] how often            */
    nib_candidate *cand; /* [n_vocab]                      */
};

/* ---- random numbers ---- */

static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = *x += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static uint64_t rotl(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

static uint64_t xoshiro(uint64_t s[4])
{
    const uint64_t result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

double nib_sampler_uniform(nib_sampler *s)
{
    return (double)(xoshiro(s->state) >> 11) * 0x1p-53;
}

/* ---- made and changed ---- */

static nib_code check(const nib_sampling *o, nib_err *err)
{
    if (!(o->temperature >= 0 && o->temperature <= 1e6))
        return nib_fail(err, NIB_EINVAL, "temperature %g; from 0 on", o->temperature);
    if (!(o->top_p > 0 && o->top_p <= 1))
        return nib_fail(err, NIB_EINVAL, "top-p %g; above 0, at most 1", o->top_p);
    if (!(o->min_p >= 0 && o->min_p <= 1))
        return nib_fail(err, NIB_EINVAL, "min-p %g; from 0 to 1", o->min_p);
    if (!(o->repetition_penalty > 0 && o->repetition_penalty <= 1e6))
        return nib_fail(err, NIB_EINVAL, "repetition penalty %g; above 0", o->repetition_penalty);
    if (!(fabs(o->presence_penalty) <= 1e6))
        return nib_fail(err, NIB_EINVAL, "presence penalty %g is no number", o->presence_penalty);
    return NIB_OK;
}

nib_code nib_sampler_new(nib_sampler **out, const nib_sampling *how, size_t n_vocab, nib_err *err)
{
    uint64_t seed = how->seed;
    *out = NULL;
    nib_code rc = check(how, err);
    if (rc) return rc;
    nib_sampler *s = nib_calloc(1, sizeof *s);
    if (!s) return nib_fail_nomem(err, "a sampler");
    s->how = *how;
    s->n_vocab = n_vocab;
    for (int i = 0; i < 4; i++) s->state[i] = splitmix(&seed);
    s->in_prompt = nib_calloc(n_vocab, sizeof *s->in_prompt);
    s->in_output = nib_calloc(n_vocab, sizeof *s->in_output);
    s->cand = nib_alloc(n_vocab, sizeof *s->cand);
    if (!s->in_prompt || !s->in_output || !s->cand) {
        nib_sampler_free(s);
        return nib_fail_nomem(err, "a sampler");
    }
    *out = s;
    return NIB_OK;
}

void nib_sampler_free(nib_sampler *s)
{
    if (!s) return;
    nib_free(s->in_prompt);
    nib_free(s->in_output);
    nib_free(s->cand);
    nib_free(s);
}

static bool is_known(const nib_sampler *s, int32_t id)
{
    return id >= 0 && (size_t)id < s->n_vocab;
}

void nib_sampler_saw_prompt(nib_sampler *s, const int32_t *id, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (is_known(s, id[i])) s->in_prompt[id[i]] = 1;
}

void nib_sampler_saw(nib_sampler *s, int32_t id)
{
    if (is_known(s, id)) s->in_output[id]++;
}

void nib_sampler_forget(nib_sampler *s, int32_t id)
{
    if (is_known(s, id) && s->in_output[id]) s->in_output[id]--;
}

/* ---- one step ---- */

static float penalized(const nib_sampler *s, size_t id, float logit)
{
    const double r = s->how.repetition_penalty;
    if (!s->in_prompt[id] && !s->in_output[id]) return logit;
    if (r != 1) logit = (float)(logit > 0 ? (double)logit / r : (double)logit * r);
    return s->in_output[id] ? (float)((double)logit - s->how.presence_penalty) : logit;
}

/* Does a come before b? */
static bool is_likelier(const nib_candidate *a, const nib_candidate *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

/* A heap in c[n], the likeliest on top: put what is at i in its place. */
static void sift(nib_candidate *c, size_t n, size_t i)
{
    const nib_candidate moved = c[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && is_likelier(&c[child + 1], &c[child])) child++;
        if (!is_likelier(&c[child], &moved)) break;
        c[i] = c[child];
    }
    c[i] = moved;
}

/* The likeliest come off the heap one by one, until there are k or they have that mass: each goes
 * behind the shrinking heap, so they end up at the end of c[n] in reverse. */
static size_t take_likeliest(nib_candidate *c, size_t n, size_t k, double mass)
{
    size_t taken = 0;
    double sum = 0;
    while (taken < n && taken < k && !(sum >= mass)) {
        const nib_candidate top = c[0];
        const size_t left = n - taken - 1;
        c[0] = c[left];
        c[left] = top;
        if (left) sift(c, left, 0);
        sum += top.p;
        taken++;
    }
    return taken;
}

static void reverse(nib_candidate *c, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        const nib_candidate t = c[i];
        c[i] = c[n - 1 - i];
        c[n - 1 - i] = t;
    }
}

/* Keep the `k` likeliest, or the fewest with that mass, sorted. */
static size_t keep_likeliest(nib_candidate *c, size_t n, size_t k, double mass)
{
    for (size_t i = n / 2; i-- > 0;) sift(c, n, i);
    const size_t taken = take_likeliest(c, n, k, mass);
    reverse(c, n);
    return taken;
}

/* Probabilities of c[n] at the temperature. */
static void softmax(nib_candidate *c, size_t n, float most, double temperature)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += c[i].p = exp(((double)c[i].logit - (double)most) / temperature);
    for (size_t i = 0; i < n; i++) c[i].p /= sum;
}

static void normalize(nib_candidate *c, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += c[i].p;
    for (size_t i = 0; i < n; i++) c[i].p /= sum;
}

static size_t keep_from(nib_candidate *c, size_t n, double least)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (c[i].p >= least) c[kept++] = c[i];
    return kept;
}

/* All tokens with their logits after penalties; *most is the likeliest. */
static nib_code gather(nib_sampler *s, const float *logits, nib_candidate *most, nib_err *err)
{
    const bool greedy = s->how.temperature == 0;
    *most = (nib_candidate){.id = -1, .logit = -INFINITY};
    for (size_t i = 0; i < s->n_vocab; i++) {
        if (isnan(logits[i]) || logits[i] == INFINITY)
            return nib_fail(err, NIB_ENUMERIC,
                            "the logit of token %zu is %g: the model's output is not finite", i,
                            (double)logits[i]);
        const nib_candidate c = {.id = (int32_t)i, .logit = penalized(s, i, logits[i])};
        if (is_likelier(&c, most)) *most = c;
        if (!greedy) s->cand[i] = c;
    }
    if (most->id >= 0) return NIB_OK;
    return nib_fail(err, NIB_ENUMERIC, "all logits are -inf: the model's output is not finite");
}

nib_code nib_sampler_distribution(nib_sampler *s, const float *logits, nib_distribution *out,
                                  nib_err *err)
{
    const nib_sampling *how = &s->how;
    nib_candidate *c = s->cand, most;
    size_t n = s->n_vocab;
    nib_code rc = gather(s, logits, &most, err);
    if (rc) return rc;
    if (how->temperature == 0) {
        most.p = 1;
        c[0] = most;
        *out = (nib_distribution){c, 1};
        return NIB_OK;
    }
    if (how->top_k && how->top_k < n) n = keep_likeliest(c, n, (size_t)how->top_k, INFINITY);
    softmax(c, n, most.logit, how->temperature);
    if (how->top_p < 1) {
        n = keep_likeliest(c, n, n, how->top_p);
        normalize(c, n);
    }
    if (how->min_p > 0) {
        double best = 0;
        for (size_t i = 0; i < n; i++) best = c[i].p > best ? c[i].p : best;
        n = keep_from(c, n, how->min_p * best);
        normalize(c, n);
    }
    *out = (nib_distribution){c, n};
    return NIB_OK;
}

int32_t nib_sampler_draw(nib_sampler *s, const nib_distribution *d)
{
    if (d->n == 1) return d->of[0].id;
    const double u = nib_sampler_uniform(s);
    double sum = 0;
    size_t last = 0;
    for (size_t i = 0; i < d->n; i++) {
        if (d->of[i].p > 0) last = i;
        sum += d->of[i].p;
        if (u < sum) return d->of[i].id;
    }
    return d->of[last].id; /* the sum rounded to less than 1 */
}
