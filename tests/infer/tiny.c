/* SPDX-License-Identifier: MIT */
/* tests/infer/tiny.c - see tiny.h. */
#include "tests/infer/tiny.h"

#include "base/cpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

nib_ctx tiny_ctx(int threads)
{
    return (nib_ctx){.threads = threads, .cpu = nib_cpu_detect()};
}

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

void tiny_make_spec(tiny *t, gen_spec spec)
{
    nib_err err;
    nib_ctx ctx = tiny_ctx(2);
    *t = (tiny){.dir = "/tmp/nib-infer-XXXXXX", .spec = spec};
    assert_non_null(mkdtemp(t->dir));
    must(gen_config_write(&t->spec, t->dir, &err), &err);
    must(gen_weights_write(&t->spec, t->dir, &ctx, &err), &err);
}

static void make(tiny *t, const char *family, uint32_t head_dim)
{
    gen_spec spec = {
        .family = gen_family_find(family),
        .layers = 2,
        .hidden = 3 * head_dim,
        .ff = 80,
        .heads = 4,
        .kv_heads = 2,
        .head_dim = head_dim,
        .vocab = 257,
        .tied = !strcmp(family, "qwen2"),
        .dtype = NIB_BF16,
        .shards = 1,
        .seed = 7,
    };
    /* Families that do not state their head size have width / heads. */
    if (!spec.family->explicit_head_dim) spec.hidden = 4 * head_dim;
    tiny_make_spec(t, spec);
}

void tiny_make(tiny *t, const char *family)
{
    make(t, family, 16);
}

void tiny_make_wide(tiny *t, const char *family)
{
    make(t, family, 32);
}

void tiny_open(tiny *t)
{
    nib_err err;
    must(nib_source_open(&t->src, t->dir, &err), &err);
    must(nib_model_open(&t->model, t->src, &err), &err);
}

void tiny_config(const tiny *t, const char *text)
{
    nib_err err;
    must(gen_text_write(t->dir, "config.json", text, strlen(text), &err), &err);
}

void tiny_drop(tiny *t)
{
    char cmd[96];
    nib_model_close(&t->model);
    nib_source_close(t->src);
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", t->dir);
    assert_int_equal(system(cmd), 0);
}

/* All tensors of the model by GGUF name, and their rows in GGUF's order. */
typedef struct {
    nib_gguf_tensor t;
    const nib_tensor *from; /* NULL: the rope factors */
    bool permute;
    char name[64];
} copy;

static void add_tensor(const tiny *t, copy *c, size_t *n, nib_place p, const nib_tensor *from)
{
    copy *one = &c[(*n)++];
    *one = (copy){.from = from};
    nib_place_gguf_name(p, one->name, sizeof one->name);
    one->permute =
        t->model.arch->rope_interleaved && (p.role == NIB_ROLE_ATTN_Q || p.role == NIB_ROLE_ATTN_K);
    one->t = (nib_gguf_tensor){.name = one->name, .type = NIB_F32, .n_dims = 1};
    if (!from) {
        one->t.shape[0] = t->model.hp.head_dim / 2;
        return;
    }
    one->t.n_dims = from->n_dims;
    memcpy(one->t.shape, from->shape, sizeof one->t.shape);
}

static void write_tensor(const tiny *t, const copy *c, nib_gguf_writer *w, size_t index)
{
    nib_err err;
    nib_buf raw = {0};
    if (!c->from) {
        must(nib_gguf_write(w, index, t->model.rope_factors,
                            t->model.hp.head_dim / 2 * sizeof(float), &err),
             &err);
        return;
    }
    /* A permuted bias is permuted by its elements. */
    const size_t n = (size_t)nib_tensor_elems(c->from), rows = (size_t)c->from->shape[0];
    const size_t width = n / rows;
    float *x = nib_alloc(n, sizeof *x);
    assert_non_null(x);
    must(nib_source_read_rows(t->src, c->from, 0, nib_tensor_rows(c->from), x, &raw, 0, &err),
         &err);
    for (size_t r = 0; r < rows; r++) {
        size_t from = c->permute ? (size_t)nib_rope_source_row(r, t->model.hp.head_dim) : r;
        must(nib_gguf_write(w, index, x + from * width, width * sizeof *x, &err), &err);
    }
    nib_free(x);
    nib_buf_free(&raw);
}

void tiny_write_gguf(const tiny *t, const char *path)
{
    nib_err err;
    nib_gguf_kvs *kvs = nib_gguf_kvs_new();
    nib_gguf_writer *w;
    const size_t n_src = nib_source_count(t->src);
    copy *c = nib_calloc(n_src + 1, sizeof *c);
    nib_gguf_tensor *list = nib_calloc(n_src + 1, sizeof *list);
    size_t n = 0;
    assert_true(kvs && c && list);
    must(nib_model_to_gguf(&t->model, kvs, &err), &err);
    for (size_t i = 0; i < n_src; i++) {
        nib_place p;
        assert_true(nib_model_place(&t->model, nib_source_at(t->src, i), &p));
        add_tensor(t, c, &n, p, nib_source_at(t->src, i));
    }
    if (t->model.rope_factors) add_tensor(t, c, &n, (nib_place){.role = NIB_ROLE_ROPE_FREQS}, NULL);
    for (size_t i = 0; i < n; i++) list[i] = c[i].t;
    must(nib_gguf_begin(&w, path, kvs, list, n, 0, true, &err), &err);
    for (size_t i = 0; i < n; i++) write_tensor(t, &c[i], w, i);
    must(nib_gguf_end(w, &err), &err);
    nib_gguf_kvs_free(kvs);
    nib_free(c);
    nib_free(list);
}
