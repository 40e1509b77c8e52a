/* SPDX-License-Identifier: MIT */
/* tests/run/fixture.c - see fixture.h. */
#include "tests/run/fixture.h"
#include "base/cpu.h"
#include "base/file.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>
#include <cmocka.h>

static char dir[64];

int scratch_make(void **state)
{
    (void)state;
    /* In memory where there is room for it: flushing hundreds of small files to disk takes long. */
    snprintf(dir, sizeof dir, "%s/nib-run-XXXXXX",
             nib_disk_free("/dev/shm") > 200000000 && !access("/dev/shm", W_OK) ? "/dev/shm"
                                                                                : "/tmp");
    return mkdtemp(dir) ? 0 : -1;
}

int scratch_remove(void **state)
{
    (void)state;
    char cmd[96];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    return system(cmd);
}

const char *scratch(const char *name)
{
    static char path[4][160];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

int scratch_count(const char *part)
{
    int n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += strstr(e->d_name, part) != NULL;
    closedir(d);
    return n;
}

bool may_mount(void)
{
    char at[] = "/tmp/nib-mount-XXXXXX";
    bool may = mkdtemp(at) && !mount("tmpfs", at, "tmpfs", 0, "size=1m");
    if (may) umount(at);
    rmdir(at);
    if (!may) fputs("the test on a small disk is skipped: no right to mount one\n", stderr);
    return may;
}

const char *tiny_llama(void)
{
    const char *path = getenv("NIB_TINY");
    assert_non_null(path);
    return path;
}

const char *random_model(const char *name, const gen_family *family, uint32_t hidden,
                         uint32_t layers, nib_type dtype)
{
    nib_ctx ctx = {.threads = 2};
    nib_err err = {0};
    gen_spec spec = {.family = family,
                     .layers = layers,
                     .hidden = hidden,
                     .ff = 2 * hidden,
                     .heads = 4,
                     .kv_heads = 2,
                     .head_dim = hidden / 4,
                     .vocab = 2100,
                     .experts = 8,
                     .experts_used = 2,
                     .dtype = dtype,
                     .shards = 2,
                     .seed = 11,
                     .tokenizer = tiny_llama()};
    assert_non_null(family);
    if (gen_model(&spec, scratch(name), &ctx, &err)) fail_msg("%s", err.msg);
    return scratch(name);
}

void open_model(opened *o, const char *path)
{
    nib_err err = {0};
    *o = (opened){0};
    if (nib_source_open(&o->src, path, &err) || nib_model_open(&o->model, o->src, &err))
        fail_msg("%s", err.msg);
}

void close_model(opened *o)
{
    nib_model_close(&o->model);
    nib_source_close(o->src);
}

nib_code quantize(const char *model, const nib_recipe *r, const nib_imatrix *im, int threads,
                  nib_quantize_result *result, nib_err *err)
{
    opened o;
    nib_plan plan;
    nib_quantize_result unused;
    nib_ctx ctx = {.threads = threads, .cpu = nib_cpu_detect()};
    open_model(&o, model);
    nib_code rc = nib_plan_make(&plan, r, &o.model, im, &ctx, err);
    if (!rc) {
        rc = nib_write_gguf(result ? result : &unused, &plan, NULL, &ctx, err);
        nib_plan_free(&plan);
    }
    close_model(&o);
    return rc;
}

void quantize_ok(const char *model, const nib_recipe *r, const nib_imatrix *im)
{
    nib_err err = {0};
    if (quantize(model, r, im, 2, NULL, &err)) fail_msg("%s: %s", r->type, err.msg);
}

uint8_t *tensor_bytes(const nib_source *s, const nib_tensor *t)
{
    nib_err err = {0};
    uint8_t *p = nib_alloc((size_t)t->bytes, 1);
    assert_non_null(p);
    assert_int_equal(nib_source_read(s, t, 0, p, (size_t)t->bytes, &err), NIB_OK);
    return p;
}

float *tensor_values(const nib_source *s, const nib_tensor *t)
{
    nib_err err = {0};
    nib_buf raw = {0};
    float *x = nib_alloc((size_t)nib_tensor_elems(t), sizeof *x);
    assert_non_null(x);
    assert_int_equal(nib_source_read_rows(s, t, 0, nib_tensor_rows(t), x, &raw, 0, &err), NIB_OK);
    nib_buf_free(&raw);
    return x;
}

void fake_imatrix(nib_imatrix *im, const nib_model *m)
{
    nib_err err = {0};
    *im = (nib_imatrix){.chunk_count = 3, .chunk_size = 512, .path = nib_strdup("some/stats.gguf")};
    assert_int_equal(nib_imatrix_add_dataset(im, "text.txt", 8, &err), NIB_OK);
    for (uint32_t l = 0; l < m->hp.n_layer; l++) {
        for (nib_role r = NIB_ROLE_FIRST_BLOCK; r < NIB_ROLE_COUNT; r++) {
            const nib_tensor *t = nib_model_param(m, l, r)->weight;
            nib_imatrix_entry *e;
            char name[64];
            if (!t || t->n_dims != 2) continue;
            size_t cols = (size_t)nib_tensor_cols(t);
            nib_place_gguf_name((nib_place){.layer = l, .role = r}, name, sizeof name);
            assert_int_equal(nib_imatrix_add(im, name, strlen(name), cols, 1, &e, &err), NIB_OK);
            for (size_t c = 0; c < cols; c++) e->in_sum2[c] = (double)((c * 37 + l + r) % 101 + 1);
            e->counts[0] = 2;
        }
    }
    assert_int_equal(nib_imatrix_sort(im, &err), NIB_OK);
}

void expect_text(const char *msg, const char *part)
{
    if (!strstr(msg, part)) fail_msg("message '%s' lacks '%s'", msg, part);
}

/* Keys of the record: run/plan/provenance.h, run/write/manifest.h. */
static bool is_record(const char *key)
{
    return !strncmp(key, "nibble.", 7) || !strcmp(key, "general.quantized_by") ||
           !strncmp(key, "general.dataset.", 16);
}

static bool same_metadata(const nib_gguf_kvs *a, const nib_gguf_kvs *b)
{
    size_t k = 0;
    for (size_t i = 0; i < nib_gguf_kvs_count(a); i++) {
        const nib_gguf_kv *x = nib_gguf_kvs_at(a, i);
        if (is_record(x->key)) continue;
        while (k < nib_gguf_kvs_count(b) && is_record(nib_gguf_kvs_at(b, k)->key)) k++;
        if (k == nib_gguf_kvs_count(b)) return false;
        const nib_gguf_kv *y = nib_gguf_kvs_at(b, k++);
        if (strcmp(x->key, y->key) || x->type != y->type || x->elem != y->elem || x->n != y->n)
            return false;
    }
    while (k < nib_gguf_kvs_count(b) && is_record(nib_gguf_kvs_at(b, k)->key)) k++;
    return k == nib_gguf_kvs_count(b);
}

bool same_models(const char *a, const char *b)
{
    opened x, y;
    open_model(&x, a);
    open_model(&y, b);
    bool same = nib_source_count(x.src) == nib_source_count(y.src) &&
                same_metadata(nib_source_kvs(x.src), nib_source_kvs(y.src));
    for (size_t i = 0; i < nib_source_count(x.src) && same; i++) {
        const nib_tensor *t = nib_source_at(x.src, i), *u = nib_source_at(y.src, i);
        uint8_t *v = tensor_bytes(x.src, t), *w = tensor_bytes(y.src, u);
        same = !strcmp(t->name, u->name) && t->codec == u->codec && t->bytes == u->bytes &&
               !memcmp(v, w, (size_t)t->bytes);
        nib_free(v);
        nib_free(w);
    }
    close_model(&x);
    close_model(&y);
    return same;
}

bool same_files(const char *a, const char *b)
{
    char *p, *q;
    size_t n, m;
    nib_err err = {0};
    assert_int_equal(nib_file_slurp(&p, &n, a, 1 << 28, &err), NIB_OK);
    assert_int_equal(nib_file_slurp(&q, &m, b, 1 << 28, &err), NIB_OK);
    bool same = n == m && !memcmp(p, q, n);
    nib_free(p);
    nib_free(q);
    return same;
}
