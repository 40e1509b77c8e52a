/* SPDX-License-Identifier: MIT */
/* infer/prompt_cache.c - see prompt_cache.h. */
#include "infer/prompt_cache.h"

#include "base/file.h"
#include "infer/graph_state.h"

#include <assert.h>
#include <string.h>

static const char MAGIC[8] = "nibbleKV";
enum { VERSION = 1, HEAD = 56 };

typedef struct {
    uint64_t n_layer, whose, bytes[2], n;
} head;

/* ---- numbers ---- */

static void put(uint8_t *p, uint64_t v, int n)
{
    for (int i = 0; i < n; i++) p[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t get(const uint8_t *p, int n)
{
    uint64_t v = 0;
    for (int i = 0; i < n; i++) v |= (uint64_t)p[i] << 8 * i;
    return v;
}

/* Go on from h with n more bytes, eight at a time. Who writes and who reads cut the file alike. */
static uint64_t mix(uint64_t h, const void *data, size_t n)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i += 8) {
        h = (h ^ get(p + i, n - i < 8 ? (int)(n - i) : 8)) * 0x9E3779B97F4A7C15u;
        h ^= h >> 29;
    }
    return h;
}

/* Of everything that rows depend on, but for the tokens. The angles of one position say all. */
static uint64_t whose(const nib_graph *g, uint64_t model)
{
    const size_t positions = g->max_ctx < 2 ? 1 : 2;
    const size_t angles = positions * (g->m->hp.rope_dim / 2) * sizeof(float);
    const nib_kv_side *how = g->cache.how;
    const bool alike = how[0].format == how[1].format && how[0].rotate == how[1].rotate;
    uint64_t h = model;
    for (int of = 0; of < (alike ? 1 : 2); of++) {
        const char *format = how[of].format ? how[of].format->name : "f32";
        h = mix(mix(h, format, strlen(format)), how[of].rotate ? "rotated" : "plain", 5);
    }
    for (int i = 0; i < 2; i++)
        if (g->turn[i].cosine) h = mix(mix(h, g->turn[i].cosine, angles), g->turn[i].sine, angles);
    return h;
}

static void put_head(uint8_t to[HEAD], const head *h)
{
    memcpy(to, MAGIC, sizeof MAGIC);
    put(to + 8, VERSION, 4);
    put(to + 12, h->n_layer, 4);
    put(to + 16, h->whose, 8);
    put(to + 24, h->bytes[0], 8);
    put(to + 32, h->bytes[1], 8);
    put(to + 40, h->n, 8);
    put(to + 48, 0, 8);
}

/* Bytes of a file of n tokens; false: more than can be counted. */
static bool file_bytes(const nib_kv_cache *c, size_t n, size_t *bytes)
{
    size_t layer = 0, part, rest;
    bool ok = true;
    for (int of = 0; of < 2 && ok; of++)
        ok = nib_mul(nib_kv_n_kept(c, of, n), c->bytes[of], &part) &&
             nib_add(layer, part, &layer) &&
             nib_add(layer, nib_kv_n_recent(c, of, n) * c->width[of] * sizeof(float), &layer);
    return ok && nib_mul(layer, c->n_layer, &part) && nib_mul(n, sizeof(int32_t), &rest) &&
           nib_add(part, rest, &part) && nib_add(part, HEAD + 8, bytes);
}

/* ---- reading ---- */

typedef struct {
    const nib_file *f;
    uint64_t at, sum;
} reader;

static nib_code take(reader *r, void *to, size_t n, nib_err *err)
{
    nib_code rc = nib_file_read(r->f, r->at, to, n, err);
    if (rc) return rc;
    r->at += n;
    r->sum = mix(r->sum, to, n);
    return NIB_OK;
}

static nib_code read_head(head *h, reader *r, nib_err *err)
{
    uint8_t b[HEAD];
    if (r->f->size < HEAD + 8) return nib_fail(err, NIB_EFORMAT, "is no prompt cache of nibble");
    nib_code rc = take(r, b, HEAD, err);
    if (rc) return rc;
    if (memcmp(b, MAGIC, sizeof MAGIC))
        return nib_fail(err, NIB_EFORMAT, "is no prompt cache of nibble");
    if (get(b + 8, 4) != VERSION)
        return nib_fail(err, NIB_EFORMAT, "is version %u of a prompt cache; %d is known",
                        (unsigned)get(b + 8, 4), VERSION);
    *h = (head){get(b + 12, 4), get(b + 16, 8), {get(b + 24, 8), get(b + 32, 8)}, get(b + 40, 8)};
    return NIB_OK;
}

/* Is the file as long as the head says, and of this graph's kind? */
static nib_code check_head(const head *h, const nib_graph *g, uint64_t size, uint64_t model,
                           nib_err *err)
{
    const nib_kv_cache *c = &g->cache;
    if (h->n_layer != c->n_layer || h->bytes[0] != c->bytes[0] || h->bytes[1] != c->bytes[1])
        return nib_fail(err, NIB_EFORMAT,
                        "holds keys of %llu layers, rows of %llu and %llu bytes; this model has "
                        "%zu layers, rows of %zu and %zu",
                        (unsigned long long)h->n_layer, (unsigned long long)h->bytes[0],
                        (unsigned long long)h->bytes[1], c->n_layer, c->bytes[0], c->bytes[1]);
    size_t bytes;
    if (h->n > size / sizeof(int32_t) || !file_bytes(c, (size_t)h->n, &bytes) || bytes != size)
        return nib_fail(err, NIB_EFORMAT, "is %llu bytes long, which %llu tokens are not",
                        (unsigned long long)size, (unsigned long long)h->n);
    if (h->whose != whose(g, model))
        return nib_fail(err, NIB_EFORMAT,
                        "is of another model, or of another kind of key/value cache");
    return NIB_OK;
}

static size_t common(const uint8_t *stored, size_t n_stored, const int32_t *id, size_t n)
{
    size_t i = 0;
    while (i < n && i < n_stored && (int32_t)(uint32_t)get(stored + 4 * i, 4) == id[i]) i++;
    return i;
}

/* Of the `common` tokens that n of the file and a longer prompt share, those that the cache can go
 * on from: of KIVI's it must have the youngest as they were. */
static size_t usable(const nib_kv_cache *c, size_t n, size_t common)
{
    const bool kivi = c->recent[0] || c->recent[1];
    return !kivi || n <= NIB_KV_RECENT || common + NIB_KV_BACK >= n ? common : 0;
}

static nib_code read_recent(reader *r, const nib_kv_cache *c, int of, size_t layer, size_t n,
                            size_t keep, float *row, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (size_t p = n - nib_kv_n_recent(c, of, n); p < n && !rc; p++) {
        rc = take(r, row, c->width[of] * sizeof *row, err);
        if (!rc && p < keep)
            memcpy(nib_kv_recent_row(c, of, layer, 0, p), row, c->width[of] * sizeof *row);
    }
    return rc;
}

/* All rows: those of the first `keep` positions into the cache, the others past it, for the sum. */
static nib_code read_rows(reader *r, const nib_kv_cache *c, size_t n, size_t keep, nib_err *err)
{
    nib_code rc = NIB_OK;
    nib_buf rest = {0};
    for (size_t l = 0; l < c->n_layer && !rc; l++)
        for (int of = 0; of < 2 && !rc; of++) {
            const size_t row = c->bytes[of], rows = nib_kv_n_kept(c, of, n) * row;
            const size_t exact = c->width[of] * sizeof(float);
            void *all = nib_buf_reserve(&rest, rows > exact ? rows : exact, 1);
            if (!all) rc = nib_fail_nomem(err, "a prompt cache");
            if (!rc) rc = take(r, all, rows, err);
            if (rc) break;
            memcpy(nib_kv_row(c, of, l, 0, 0), all, nib_kv_n_kept(c, of, keep) * row);
            rc = read_recent(r, c, of, l, n, keep, all, err);
        }
    nib_buf_free(&rest);
    return rc;
}

static nib_code load(nib_decoder *d, const nib_file *f, uint64_t model, const int32_t *id, size_t n,
                     size_t *held, nib_err *err)
{
    const nib_graph *g = nib_decoder_graph(d);
    reader r = {.f = f};
    head h = {0};
    uint8_t *stored = NULL, sum[8];
    nib_code rc = read_head(&h, &r, err);
    if (!rc) rc = check_head(&h, g, f->size, model, err);
    if (rc) return rc;
    if (!(stored = nib_alloc((size_t)h.n, 4))) return nib_fail_nomem(err, "a prompt cache");
    rc = take(&r, stored, (size_t)h.n * 4, err);
    if (!rc) *held = common(stored, (size_t)h.n, id, n);
    const size_t keep = usable(&g->cache, (size_t)h.n, *held < n ? *held : n - 1);
    if (!rc) rc = read_rows(&r, &g->cache, (size_t)h.n, keep, err);
    if (!rc) rc = nib_file_read(f, r.at, sum, sizeof sum, err);
    if (!rc && get(sum, 8) != r.sum) rc = nib_fail(err, NIB_EFORMAT, "is damaged: remove it");
    if (!rc) nib_decoder_set_length(d, keep);
    nib_free(stored);
    return rc;
}

nib_code nib_prompt_cache_load(nib_decoder *d, const char *path, uint64_t model, const int32_t *id,
                               size_t n, size_t *held, nib_err *err)
{
    nib_file f;
    *held = 0;
    if (!nib_file_exists(path)) return NIB_OK;
    nib_code rc = nib_file_open(&f, path, err);
    if (rc) return rc;
    rc = load(d, &f, model, id, n, held, err);
    nib_file_close(&f);
    return rc ? nib_wrap(err, "%s", path) : NIB_OK;
}

/* ---- writing ---- */

static nib_code give(nib_out *o, uint64_t *sum, const void *data, size_t n, nib_err *err)
{
    *sum = mix(*sum, data, n);
    return nib_out_write(o, data, n, err);
}

static nib_code write_all(nib_out *o, const nib_graph *g, uint64_t model, const uint8_t *stored,
                          size_t n, nib_err *err)
{
    const nib_kv_cache *c = &g->cache;
    const head h = {c->n_layer, whose(g, model), {c->bytes[0], c->bytes[1]}, n};
    uint8_t b[HEAD];
    uint64_t sum = 0;
    put_head(b, &h);
    nib_code rc = give(o, &sum, b, HEAD, err);
    if (!rc) rc = give(o, &sum, stored, 4 * n, err);
    for (size_t l = 0; l < c->n_layer && !rc; l++)
        for (int of = 0; of < 2 && !rc; of++) {
            rc = give(o, &sum, nib_kv_row(c, of, l, 0, 0), nib_kv_n_kept(c, of, n) * c->bytes[of],
                      err);
            for (size_t p = n - nib_kv_n_recent(c, of, n); p < n && !rc; p++)
                rc = give(o, &sum, nib_kv_recent_row(c, of, l, 0, p), c->width[of] * sizeof(float),
                          err);
        }
    put(b, sum, 8);
    return rc ? rc : nib_out_write(o, b, 8, err);
}

nib_code nib_prompt_cache_save(nib_decoder *d, const char *path, uint64_t model, const int32_t *id,
                               size_t n, nib_err *err)
{
    nib_out *o;
    assert(nib_decoder_length(d) == n);
    uint8_t *stored = nib_alloc(n, 4);
    if (!stored) return nib_fail_nomem(err, "a prompt cache");
    for (size_t i = 0; i < n; i++) put(stored + 4 * i, (uint32_t)id[i], 4);
    nib_code rc = nib_out_open(&o, path, true, err);
    if (!rc) {
        rc = write_all(o, nib_decoder_graph(d), model, stored, n, err);
        if (rc)
            nib_out_abort(o);
        else
            rc = nib_out_commit(o, err);
    }
    nib_free(stored);
    return rc ? nib_wrap(err, "%s", path) : NIB_OK;
}
