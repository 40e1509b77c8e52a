/* SPDX-License-Identifier: MIT */
/* run/verify.c - see verify.h. */
#include "run/verify.h"

#include "base/file.h"
#include "base/par.h"
#include "infer/tokenizer.h"
#include "run/write/manifest.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { PIECE = 1 << 20, PIECE_WEIGHTS = 1 << 18, TEXT_MAX = 600 };

/* ---- what is wrong ---- */

static NIB_PRINTF(3, 4) nib_code fault(nib_verify_report *r, nib_err *err, const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (r->n_faults == r->cap) {
        const size_t cap = r->cap ? 2 * r->cap : 16;
        char **grown = nib_grow(r->fault, r->cap, cap, sizeof *grown);
        if (!grown) return nib_fail_nomem(err, "a report");
        r->fault = grown;
        r->cap = cap;
    }
    if (!(r->fault[r->n_faults] = nib_strdup(text))) return nib_fail_nomem(err, "a report");
    r->n_faults++;
    return NIB_OK;
}

/* An error of a reader is a fault of what is read; others stay errors. */
static nib_code take(nib_verify_report *r, nib_code rc, nib_err *err)
{
    if (!rc || rc == NIB_ENOMEM) return rc;
    char text[sizeof err->msg];
    memcpy(text, err->msg, sizeof text);
    return fault(r, err, "%s", text);
}

void nib_verify_report_free(nib_verify_report *r)
{
    for (size_t i = 0; i < r->n_faults; i++) nib_free(r->fault[i]);
    nib_free(r->fault);
    nib_free(r->line);
    *r = (nib_verify_report){0};
}

/* ---- numbers ---- */

typedef struct {
    const nib_source *s;
    const nib_tensor *t;
    size_t at_once; /* rows */
    unsigned cpu;
    nib_buf *memory; /* [threads][2] */
} finite_job;

static nib_code check_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const finite_job *j = arg;
    nib_buf *m = j->memory + 2 * thread;
    const size_t cols = (size_t)nib_tensor_cols(j->t), n = (end - begin) * cols;
    float *w = nib_buf_reserve(&m[0], n, sizeof *w);
    if (!w) return nib_fail_nomem(err, "weights");
    nib_code rc = nib_source_read_rows(j->s, j->t, begin, end - begin, w, &m[1], j->cpu, err);
    if (rc) return rc;
    const size_t at = nib_find_nonfinite(w, n, j->cpu);
    if (at == n) return NIB_OK;
    return nib_fail(err, NIB_ENUMERIC, "tensor '%.200s': row %zu, column %zu is not finite",
                    j->t->name, begin + at / cols, at % cols);
}

static nib_code check_numbers(nib_verify_report *r, const nib_source *s, const nib_ctx *ctx,
                              nib_err *err)
{
    const size_t n_memory = 2 * (size_t)ctx->threads;
    nib_buf *memory = nib_calloc(n_memory, sizeof *memory);
    nib_code rc = memory ? NIB_OK : nib_fail_nomem(err, "work memory");
    for (size_t i = 0; i < nib_source_count(s) && !rc; i++) {
        const nib_tensor *t = nib_source_at(s, i);
        const uint64_t cols = nib_tensor_cols(t);
        if (!nib_tensor_readable(t) || !nib_tensor_elems(t)) continue;
        finite_job j = {s, t, cols < PIECE_WEIGHTS ? (size_t)(PIECE_WEIGHTS / cols) : 1, ctx->cpu,
                        memory};
        rc = take(
            r,
            nib_par_for(ctx->threads, (size_t)nib_tensor_rows(t), j.at_once, check_rows, &j, err),
            err);
    }
    for (size_t i = 0; i < n_memory && memory; i++) nib_buf_free(&memory[i]);
    nib_free(memory);
    return rc;
}

/* ---- GGUF: what is between and behind tensors ---- */

/* Bytes [from, to) of a file are zeros. */
static nib_code check_zeros(nib_verify_report *r, const nib_file *f, uint64_t from, uint64_t to,
                            const char *where, nib_err *err)
{
    uint8_t piece[4096];
    nib_code rc = NIB_OK;
    for (uint64_t at = from; at < to && !rc; at += sizeof piece) {
        const size_t n = to - at < sizeof piece ? (size_t)(to - at) : sizeof piece;
        if ((rc = nib_file_read(f, at, piece, n, err))) break;
        for (size_t i = 0; i < n; i++)
            if (piece[i])
                return fault(r, err, "%s: padding after %s is not zero, at %llu", f->path, where,
                             (unsigned long long)(at + i));
    }
    return rc;
}

/* Tensors of file `no` are those from *i on. */
static nib_code check_padding(nib_verify_report *r, const nib_source *s, uint32_t no, size_t *i,
                              nib_err *err)
{
    nib_file f = {.fd = -1};
    uint64_t end = 0, align = NIB_GGUF_ALIGN;
    const char *last = "the head";
    nib_gguf_get_u64(nib_source_kvs(s), "general.alignment", &align);
    nib_code rc = nib_file_open(&f, nib_source_file(s, no), err);
    for (; !rc && *i < nib_source_count(s) && nib_source_at(s, *i)->file == no; ++*i) {
        const nib_tensor *t = nib_source_at(s, *i);
        if (end) rc = check_zeros(r, &f, end, t->offset, last, err);
        end = t->offset + t->bytes;
        last = t->name;
    }
    if (!rc && end) rc = check_zeros(r, &f, end, f.size, last, err);
    if (!rc && end && f.size - end >= align)
        rc = fault(r, err, "%s: %llu bytes behind the last tensor", f.path,
                   (unsigned long long)(f.size - end));
    nib_file_close(&f);
    return rc;
}

/* ---- GGUF: checksums ---- */

static nib_code hash_tensor(uint8_t *digest, const nib_source *s, const nib_tensor *t,
                            uint8_t *piece, nib_err *err)
{
    nib_sha256 h;
    nib_code rc = NIB_OK;
    nib_sha256_begin(&h);
    for (uint64_t at = 0; at < t->bytes && !rc; at += PIECE) {
        const size_t n = t->bytes - at < PIECE ? (size_t)(t->bytes - at) : PIECE;
        if (!(rc = nib_source_read(s, t, at, piece, n, err))) nib_sha256_add(&h, piece, n);
    }
    nib_sha256_end(&h, digest);
    return rc;
}

typedef struct {
    const nib_source *s;
    const uint8_t *want; /* [n][NIB_SHA256_BYTES] */
    uint8_t *piece;      /* [threads][PIECE]      */
    bool *differs;       /* [n] */
} hash_job;

static nib_code hash_tensors(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    hash_job *j = arg;
    nib_code rc = NIB_OK;
    for (size_t i = begin; i < end && !rc; i++) {
        uint8_t digest[NIB_SHA256_BYTES];
        rc = hash_tensor(digest, j->s, nib_source_at(j->s, i), j->piece + (size_t)thread * PIECE,
                         err);
        j->differs[i] = memcmp(digest, j->want + i * sizeof digest, sizeof digest) != 0;
    }
    return rc;
}

static nib_code check_tensors(nib_verify_report *r, const nib_source *s, const uint8_t *want,
                              const nib_ctx *ctx, nib_err *err)
{
    const size_t n = nib_source_count(s);
    hash_job j = {s, want, nib_alloc((size_t)ctx->threads, PIECE), nib_calloc(n, sizeof(bool))};
    nib_code rc = j.piece && j.differs
                      ? take(r, nib_par_for(ctx->threads, n, 1, hash_tensors, &j, err), err)
                      : nib_fail_nomem(err, "work memory");
    for (size_t i = 0; i < n && !rc && j.differs; i++)
        if (j.differs[i])
            rc = fault(r, err, "tensor '%.200s' has changed: its checksum is another",
                       nib_source_at(s, i)->name);
    nib_free(j.piece);
    nib_free(j.differs);
    return rc;
}

/* The first file's head holds the digests of all, taken while they were zeros. */
static void clear_digests(uint8_t *head, size_t n, const uint8_t *digests, size_t bytes)
{
    for (size_t at = 0; at + bytes <= n; at++)
        if (!memcmp(head + at, digests, bytes)) {
            memset(head + at, 0, bytes);
            return;
        }
}

/* Of a file that has tensors, all in front of them. */
static nib_code check_head(nib_verify_report *r, const nib_source *s, uint32_t no,
                           const uint8_t *digests, size_t bytes, nib_err *err)
{
    nib_file f = {.fd = -1};
    uint8_t digest[NIB_SHA256_BYTES];
    uint64_t n = UINT64_MAX;
    for (size_t i = 0; i < nib_source_count(s); i++)
        if (nib_source_at(s, i)->file == no && nib_source_at(s, i)->offset < n)
            n = nib_source_at(s, i)->offset;
    nib_code rc = nib_file_open(&f, nib_source_file(s, no), err);
    if (n == UINT64_MAX) n = f.size;
    uint8_t *head = rc ? NULL : nib_alloc((size_t)n, 1);
    if (!rc && !head) rc = nib_fail_nomem(err, "a file's head");
    if (!rc) rc = nib_file_read(&f, 0, head, (size_t)n, err);
    if (!rc) {
        if (!no) clear_digests(head, (size_t)n, digests, bytes);
        nib_sha256_of(digest, head, (size_t)n);
        if (memcmp(digest, digests + no * sizeof digest, sizeof digest))
            rc = fault(r, err, "%s: what is in front of the tensors has changed", f.path);
    }
    nib_free(head);
    nib_file_close(&f);
    return rc;
}

static nib_code check_gguf_manifest(nib_verify_report *r, const nib_source *s, const nib_ctx *ctx,
                                    nib_err *err)
{
    const nib_gguf_kvs *k = nib_source_kvs(s);
    const void *heads, *tensors;
    size_t n_heads = 0, n_tensors = 0;
    nib_str version = {"", 0};
    const bool has_heads = nib_gguf_get_arr(k, NIB_GGUF_HEADS, NIB_GGUF_U8, &heads, &n_heads);
    const bool has_tensors =
        nib_gguf_get_arr(k, NIB_KEY_TENSORS, NIB_GGUF_U8, &tensors, &n_tensors);
    const bool has_version = nib_gguf_get_str(k, NIB_KEY_VERSION, &version);
    if (!has_heads && !has_tensors && !has_version) return NIB_OK;
    snprintf(r->version, sizeof r->version, "%.*s", (int)version.n, version.p);
    if (!has_heads || !has_tensors || !has_version ||
        n_heads != nib_source_n_files(s) * NIB_SHA256_BYTES ||
        n_tensors != nib_source_count(s) * NIB_SHA256_BYTES)
        return fault(r, err, "%s: its checksums are not whole", nib_source_path(s));
    nib_code rc = NIB_OK;
    for (uint32_t f = 0; f < nib_source_n_files(s) && !rc; f++)
        rc = check_head(r, s, f, heads, n_heads, err);
    return rc ? rc : check_tensors(r, s, tensors, ctx, err);
}

static nib_code check_gguf(nib_verify_report *r, const nib_source *s, const nib_ctx *ctx,
                           nib_err *err)
{
    nib_code rc = NIB_OK;
    size_t i = 0;
    for (uint32_t f = 0; f < nib_source_n_files(s) && !rc; f++)
        rc = check_padding(r, s, f, &i, err);
    return rc ? rc : check_gguf_manifest(r, s, ctx, err);
}

/* ---- folders ---- */

/* Does the text hold its own digest? */
static bool is_own(char *text, size_t n)
{
    static const char mark[] = NIB_MANIFEST_DIGEST;
    const size_t m = sizeof mark - 1;
    char hex[NIB_SHA256_DIGITS + 1], *at = NULL;
    uint8_t digest[NIB_SHA256_BYTES];
    for (size_t i = 0; i + m + NIB_SHA256_DIGITS <= n; i++)
        if (!memcmp(text + i, mark, m)) at = text + i + m; /* the last */
    if (!at) return false;
    char said[NIB_SHA256_DIGITS];
    memcpy(said, at, sizeof said);
    memset(at, '0', sizeof said);
    nib_sha256_of(digest, text, n);
    nib_sha256_text(hex, digest);
    memcpy(at, said, sizeof said);
    return !memcmp(hex, said, sizeof said);
}

/* Which tensors of a damaged file have changed. */
static nib_code name_tensors(nib_verify_report *r, const char *path, const nib_json *tensors,
                             nib_err *err)
{
    nib_source *s = NULL;
    uint8_t *piece = nib_alloc(PIECE, 1);
    nib_code rc =
        piece ? take(r, nib_source_open(&s, path, err), err) : nib_fail_nomem(err, "work memory");
    for (const nib_json *t = nib_json_first(tensors); s && t && !rc; t = nib_json_next(t)) {
        uint8_t digest[NIB_SHA256_BYTES];
        char hex[NIB_SHA256_DIGITS + 1];
        const char *want = "";
        const nib_tensor *there = nib_source_find(s, nib_json_key(t));
        if (!there) continue; /* in another file */
        rc = take(r, hash_tensor(digest, s, there, piece, err), err);
        nib_sha256_text(hex, digest);
        nib_json_str(t, &want);
        if (!rc && strcmp(hex, want))
            rc = fault(r, err, "tensor '%.200s' has changed: its checksum is another", there->name);
    }
    nib_source_close(s);
    nib_free(piece);
    return rc;
}

static nib_code check_file(nib_verify_report *r, const char *dir, const nib_json *f,
                           const nib_json *tensors, nib_err *err)
{
    uint8_t digest[NIB_SHA256_BYTES];
    char hex[NIB_SHA256_DIGITS + 1];
    const char *name = nib_json_key(f), *want = "";
    char *path = strchr(name, '/') ? NULL : nib_path_join(dir, name);
    nib_json_str(f, &want);
    if (!path) return fault(r, err, "%s: no name of a file", name);
    nib_code rc = nib_sha256_file(digest, path, err);
    nib_sha256_text(hex, digest);
    const bool read = !rc;
    rc = take(r, rc, err);
    if (!rc && read && strcmp(hex, want)) {
        rc = fault(r, err, "%s has changed: its checksum is another", path);
        if (!rc && strstr(name, ".safetensors") && !strstr(name, ".json"))
            rc = name_tensors(r, path, tensors, err);
    }
    r->n_files++;
    nib_free(path);
    return rc;
}

static nib_code check_folder(nib_verify_report *r, const char *dir, nib_err *err)
{
    char *path = nib_path_join(dir, NIB_MANIFEST_FILE), *text = NULL;
    nib_json *j = NULL;
    size_t n;
    const char *version;
    if (!path) return nib_fail_nomem(err, "a path");
    nib_code rc = NIB_OK;
    if (!nib_file_exists(path)) goto done;
    snprintf(r->version, sizeof r->version, "unknown");
    rc = take(r, nib_file_slurp(&text, &n, path, NIB_MANIFEST_MAX, err), err);
    if (rc || !text) goto done;
    if (!is_own(text, n))
        rc = fault(r, err, "%s has changed: its checksum of itself is another", path);
    if (!rc && nib_json_parse(&j, text, n, err)) rc = take(r, nib_wrap(err, "%s", path), err);
    if (nib_json_str(nib_json_get(j, "nibble"), &version))
        snprintf(r->version, sizeof r->version, "%.31s", version);
    const nib_json *files = nib_json_get(j, "files");
    for (const nib_json *f = nib_json_first(files); f && !rc; f = nib_json_next(f))
        rc = check_file(r, dir, f, nib_json_get(j, "tensors"), err);
done:
    nib_json_free(j);
    nib_free(text);
    nib_free(path);
    return rc;
}

/* ---- against another model ---- */

typedef struct {
    const nib_model *a, *b; /* the original, the candidate */
    const nib_tensor *t, *u;
    uint32_t head; /* rows of heads are in another order; 0: they are not */
    bool vector, back;
    size_t at_once;
    unsigned cpu;
    nib_buf *memory;      /* [threads][4] */
    nib_difference *part; /* [chunks] */
} pair;

static nib_code compare_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    pair *j = arg;
    nib_buf *m = j->memory + 4 * thread;
    const size_t cols = (size_t)nib_tensor_cols(j->t), n = (end - begin) * cols;
    float *w = nib_buf_reserve(&m[0], n, sizeof *w), *v = nib_buf_reserve(&m[1], n, sizeof *v);
    float *x = nib_buf_reserve(&m[2], n, sizeof *x);
    if (!w || !v || !x) return nib_fail_nomem(err, "weights");
    nib_code rc = nib_source_read_rows(j->a->src, j->t, begin, end - begin, w, &m[3], j->cpu, err);
    if (!rc) rc = nib_source_read_rows(j->b->src, j->u, begin, end - begin, v, &m[3], j->cpu, err);
    if (rc) return rc;
    const size_t width = j->vector ? 1 : cols, rows = n / width, first = j->vector ? 0 : begin;
    for (size_t r = 0; j->head && r < rows; r++) {
        const uint64_t at = first + r;
        const uint64_t from =
            (j->back ? nib_rope_paired_row(at, j->head) : nib_rope_source_row(at, j->head)) - first;
        memcpy(x + r * width, v + from * width, width * sizeof *x);
    }
    nib_difference_add(&j->part[begin / j->at_once], w, j->head ? x : v, n);
    return NIB_OK;
}

static nib_code compare_tensor(nib_verify_line *line, pair *j, const nib_ctx *ctx, nib_err *err)
{
    const size_t rows = (size_t)nib_tensor_rows(j->t), cols = (size_t)nib_tensor_cols(j->t);
    j->at_once = cols < PIECE_WEIGHTS ? PIECE_WEIGHTS / cols : 1;
    if (j->head && !j->vector) j->at_once = (j->at_once / j->head + 1) * j->head;
    const size_t chunks = (rows + j->at_once - 1) / j->at_once;
    if (!(j->part = nib_calloc(chunks, sizeof *j->part))) return nib_fail_nomem(err, "weights");
    nib_code rc = nib_par_for(ctx->threads, rows, j->at_once, compare_rows, j, err);
    for (size_t i = 0; i < chunks && !rc; i++) nib_difference_join(&line->d, &j->part[i]);
    nib_free(j->part);
    return rc;
}

/* The weight or vector of a place in both; false: the candidate lacks it. */
static bool find_pair(pair *j, nib_place at)
{
    const nib_model *a = j->a, *b = j->b;
    const bool pairs = at.role == NIB_ROLE_ATTN_Q || at.role == NIB_ROLE_ATTN_K;
    j->t = nib_model_tensor(a, at);
    j->u = nib_model_tensor(b, at);
    j->vector = nib_tensor_rows(j->t) == 1;
    j->head = pairs && a->rope_interleaved != b->rope_interleaved ? a->hp.head_dim : 0;
    j->back = b->rope_interleaved;
    return j->u && nib_tensor_rows(j->t) == nib_tensor_rows(j->u) &&
           nib_tensor_cols(j->t) == nib_tensor_cols(j->u);
}

static nib_code compare_models(nib_verify_report *r, const nib_model *a, const nib_model *b,
                               const nib_ctx *ctx, nib_err *err)
{
    const size_t n_memory = 4 * (size_t)ctx->threads;
    pair j = {.a = a, .b = b, .cpu = ctx->cpu, .memory = nib_calloc(n_memory, sizeof *j.memory)};
    r->line = nib_calloc(a->n_placed, sizeof *r->line);
    nib_code rc = r->line && j.memory ? NIB_OK : nib_fail_nomem(err, "a report");
    if (!rc && a->arch != b->arch)
        rc = nib_fail(err, NIB_EINVAL, "%s is of architecture '%s', %s of '%s'",
                      nib_source_path(b->src), b->arch->name, nib_source_path(a->src),
                      a->arch->name);
    for (size_t i = 0; i < a->n_placed && !rc; i++) {
        const nib_place at = a->placed[i].place;
        if (at.role == NIB_ROLE_ROPE_FREQS || at.role == NIB_ROLE_ROPE_LONG ||
            at.role == NIB_ROLE_ROPE_SHORT)
            continue;
        if (!find_pair(&j, at)) {
            rc = fault(r, err, "tensor '%.200s' of %s is missing or has another shape",
                       a->placed[i].tensor->name, nib_source_path(a->src));
            continue;
        }
        nib_verify_line *line = &r->line[r->n_lines++];
        snprintf(line->format, sizeof line->format, "%s", j.u->codec->name);
        snprintf(line->name, sizeof line->name, "%s", j.t->name);
        rc = compare_tensor(line, &j, ctx, err);
    }
    for (size_t i = 0; i < n_memory && j.memory; i++) nib_buf_free(&j.memory[i]);
    nib_free(j.memory);
    return rc;
}

static nib_code compare_with(nib_verify_report *r, const nib_model *m, const char *against,
                             const nib_ctx *ctx, nib_err *err)
{
    nib_source *s = NULL;
    nib_model other = {0};
    nib_code rc = nib_source_open(&s, against, err);
    if (!rc) rc = nib_model_open(&other, s, err);
    if (!rc) rc = compare_models(r, &other, m, ctx, err);
    nib_model_close(&other);
    nib_source_close(s);
    return rc;
}

/* ---- the whole ---- */

/* Does it open as a model, and the tokenizer with it? */
static nib_code check_model(nib_verify_report *r, nib_model *m, const nib_source *s, nib_err *err)
{
    nib_tokenizer *tok = NULL;
    if (nib_source_get_kind(s) == NIB_SOURCE_SAFETENSORS) return NIB_OK;
    nib_code rc = take(r, nib_model_open(m, s, err), err);
    if (!rc && m->arch) rc = take(r, nib_tokenizer_open(&tok, s, err), err);
    nib_tokenizer_close(tok);
    return rc;
}

nib_code nib_verify(nib_verify_report *r, const char *path, const char *against, const nib_ctx *ctx,
                    nib_err *err)
{
    nib_source *s = NULL;
    nib_model m = {0};
    if (!nib_file_exists(path)) return nib_fail(err, NIB_EIO, "%s: No such file or folder", path);
    nib_code rc = take(r, nib_source_open(&s, path, err), err);
    if (!rc && nib_file_is_dir(path)) rc = check_folder(r, path, err);
    if (rc || !s) goto done;
    r->n_tensors = nib_source_count(s);
    if (!r->n_files) r->n_files = nib_source_n_files(s);
    if (nib_source_get_kind(s) == NIB_SOURCE_GGUF) rc = check_gguf(r, s, ctx, err);
    if (!rc) rc = check_numbers(r, s, ctx, err);
    if (!rc) rc = check_model(r, &m, s, err);
    if (!rc && against && m.arch) rc = compare_with(r, &m, against, ctx, err);
done:
    nib_model_close(&m);
    nib_source_close(s);
    return rc;
}
