/* SPDX-License-Identifier: MIT */
/* calib/windows.c - texts to windows of tokens; see text.h. */
#include "base/mem.h"
#include "base/sha256.h"
#include "calib/text.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* One text, tokenized. */
typedef struct {
    nib_ids ids;
    size_t n_windows; /* that it holds    */
    size_t n_take;    /* that are its share */
} stream;

/* ---- random numbers: splitmix64 ---- */

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* Uniform in [0, n), n > 0: values below 2^64 mod n would favour the low results. */
static uint64_t random_below(uint64_t *state, uint64_t n)
{
    uint64_t low = -n % n, r;
    do r = next_random(state);
    while (r < low);
    return r % n;
}

/* ---- tokens ---- */

static nib_code put_bos(nib_ids *ids, const nib_tokenizer *tok, nib_err *err)
{
    int32_t bos = nib_tokenizer_bos(tok);
    if (!nib_tokenizer_adds_bos(tok) || bos < 0) return NIB_OK;
    if (!(ids->id = nib_alloc(1, sizeof *ids->id))) return nib_fail_nomem(err, "tokens");
    ids->id[0] = bos;
    ids->n = ids->cap = 1;
    return NIB_OK;
}

static nib_code tokenize(stream *s, uint8_t sha256[NIB_SHA256_BYTES], const char *path,
                         const nib_tokenizer *tok, bool chat, size_t n_ctx, nib_err *err)
{
    char *text;
    size_t n;
    nib_code rc = nib_text_read(&text, &n, path, chat ? tok : NULL, err);
    if (rc) return rc;
    nib_sha256_of(sha256, text, n);
    while (n && (text[n - 1] == '\n' || text[n - 1] == '\r')) n--;
    rc = n ? put_bos(&s->ids, tok, err) : nib_fail(err, NIB_EFORMAT, "holds no text");
    if (!rc)
        rc = chat ? nib_chat_encode(tok, text, n, &s->ids, err)
                  : nib_tokenizer_encode(tok, text, n, 0, &s->ids, err);
    nib_free(text);
    s->n_windows = s->ids.n / n_ctx;
    if (!rc && !s->n_windows)
        rc = nib_fail(err, NIB_EINVAL,
                      "the text has %zu tokens, fewer than one window of %zu; give a longer text "
                      "or a smaller window",
                      s->ids.n, n_ctx);
    return rc ? nib_wrap(err, "%s", path) : NIB_OK;
}

/* ---- shares ---- */

static nib_code check_weights(const nib_text_spec *texts, size_t n, bool *by_length, nib_err *err)
{
    size_t n_weighted = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(texts[i].weight) || texts[i].weight < 0)
            return nib_fail(err, NIB_EINVAL, "%s: weight %g should be a positive number",
                            texts[i].path, texts[i].weight);
        n_weighted += texts[i].weight > 0;
    }
    if (n_weighted && n_weighted < n)
        return nib_fail(err, NIB_EINVAL,
                        "%zu of %zu texts have a weight: give all of them one, or "
                        "none",
                        n_weighted, n);
    *by_length = !n_weighted;
    return NIB_OK;
}

/* Share of text i in the whole. */
static double share_of(const stream *s, const nib_text_spec *texts, size_t n, size_t i,
                       bool by_length)
{
    double sum = 0;
    for (size_t k = 0; k < n; k++) sum += by_length ? (double)s[k].n_windows : texts[k].weight;
    return (by_length ? (double)s[i].n_windows : texts[i].weight) / sum;
}

/* Set n_take: `most` windows, or as many as the scarcest text allows, by largest remainders. A text
 * never gives more than it has. Returns their sum. */
static size_t share_out(stream *s, const nib_text_spec *texts, size_t n, bool by_length,
                        size_t most)
{
    double total = (double)most;
    for (size_t i = 0; i < n; i++)
        total = fmin(total, (double)s[i].n_windows / share_of(s, texts, n, i, by_length));
    size_t goal = (size_t)(total * (1 + 1e-12)), sum = 0; /* 1e-12: k/n*n may fall short of k */
    for (size_t i = 0; i < n; i++) {
        size_t own = (size_t)((double)goal * share_of(s, texts, n, i, by_length));
        s[i].n_take = own < s[i].n_windows ? own : s[i].n_windows;
        sum += s[i].n_take;
    }
    while (sum < goal) {
        size_t best = n;
        double most_owed = 0;
        for (size_t i = 0; i < n; i++) {
            double owed = (double)goal * share_of(s, texts, n, i, by_length) - (double)s[i].n_take;
            if (s[i].n_take < s[i].n_windows && (best == n || owed > most_owed)) {
                best = i;
                most_owed = owed;
            }
        }
        if (best == n) break;
        s[best].n_take++;
        sum++;
    }
    return sum;
}

/* Copy n_take of the text's windows to dst, each subset equally likely, in order. */
static void choose(const stream *s, size_t n_ctx, int32_t bos, uint64_t seed, int32_t *dst)
{
    size_t need = s->n_take;
    uint64_t state = seed;
    for (size_t i = 0; need; i++) {
        if (random_below(&state, s->n_windows - i) >= need) continue;
        memcpy(dst, s->ids.id + i * n_ctx, n_ctx * sizeof *dst);
        if (bos >= 0) dst[0] = bos;
        dst += n_ctx;
        need--;
    }
}

nib_code nib_windows_pick(nib_windows *w, const nib_text_spec *texts, size_t n_texts,
                          const nib_tokenizer *tok, bool chat, size_t n_ctx, size_t most,
                          uint64_t seed, nib_err *err)
{
    bool by_length = true;
    int32_t bos = nib_tokenizer_adds_bos(tok) ? nib_tokenizer_bos(tok) : -1;
    *w = (nib_windows){.n_ctx = n_ctx, .n_texts = n_texts};
    if (!n_texts || !n_ctx || !most)
        return nib_fail(err, NIB_EINVAL, "no text, or windows of no tokens");
    stream *s = nib_calloc(n_texts, sizeof *s);
    w->sha256 = nib_calloc(n_texts, NIB_SHA256_BYTES);
    if (!s || !w->sha256) {
        nib_free(s);
        nib_windows_free(w);
        return nib_fail_nomem(err, "texts");
    }
    nib_code rc = check_weights(texts, n_texts, &by_length, err);
    for (size_t i = 0; i < n_texts && !rc; i++) {
        rc =
            tokenize(&s[i], w->sha256 + i * NIB_SHA256_BYTES, texts[i].path, tok, chat, n_ctx, err);
        w->n_available += s[i].n_windows;
        w->n_tokens += s[i].ids.n;
    }
    if (rc) goto done;
    size_t n = share_out(s, texts, n_texts, by_length, most), n_ids, at = 0;
    if (!nib_mul(n, n_ctx, &n_ids) || !(w->id = nib_alloc(n_ids, sizeof *w->id))) {
        rc = nib_fail_nomem(err, "tokens");
        goto done;
    }
    for (size_t i = 0; i < n_texts; i++) {
        uint64_t own = seed + i; /* each text draws its own numbers */
        choose(&s[i], n_ctx, bos, next_random(&own), w->id + at * n_ctx);
        at += s[i].n_take;
    }
    w->n = n;
done:
    for (size_t i = 0; i < n_texts; i++) nib_ids_free(&s[i].ids);
    nib_free(s);
    if (rc) nib_windows_free(w);
    return rc;
}

void nib_windows_free(nib_windows *w)
{
    nib_free(w->id);
    nib_free(w->sha256);
    *w = (nib_windows){0};
}
