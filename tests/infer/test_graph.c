/* SPDX-License-Identifier: MIT */
/* The forward pass against a second one (naive.h); and its laws: batches, cache, threads and
 * containers do not change the result. */
#include "infer/graph.h"
#include "tests/infer/naive.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

static void keep(void *arg, size_t row, const float *logits, size_t n_vocab)
{
    memcpy((float *)arg + row * n_vocab, logits, n_vocab * sizeof *logits);
}

static void step(nib_graph *g, const nib_model *m, const int32_t *ids, size_t n_seq, size_t n_tok,
                 size_t pos, const nib_observer *obs, float *logits)
{
    nib_err err;
    const size_t rows = n_seq * n_tok;
    float *x = malloc(rows * m->hp.n_embd * sizeof *x);
    size_t *list = malloc(rows * sizeof *list);
    assert_true(x && list);
    for (size_t i = 0; i < rows; i++) list[i] = i;
    must(nib_graph_embed(g, ids, rows, x, &err), &err);
    for (uint32_t l = 0; l < m->hp.n_layer; l++)
        must(nib_graph_block(g, l, x, n_seq, n_tok, pos, obs, &err), &err);
    must(nib_graph_logits(g, x, list, rows, keep, logits, obs, &err), &err);
    free(x);
    free(list);
}

static float *forward(const nib_model *m, const int32_t *ids, size_t n_seq, size_t n_tok,
                      int threads, const nib_observer *obs)
{
    nib_err err;
    nib_graph *g;
    nib_ctx ctx = tiny_ctx(threads);
    float *logits = malloc(n_seq * n_tok * m->hp.n_vocab * sizeof *logits);
    assert_non_null(logits);
    must(nib_graph_new(&g, m, &ctx, n_seq, n_tok, false, &err), &err);
    step(g, m, ids, n_seq, n_tok, 0, obs, logits);
    nib_graph_free(g);
    return logits;
}

static int32_t *random_ids(size_t n, uint32_t vocab)
{
    int32_t *ids = malloc(n * sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)((i * i * 31 + i * 7 + 3) % vocab);
    return ids;
}

static void close_to(const float *a, const double *b, size_t n, double bound)
{
    size_t at = 0;
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        if (!(d <= worst)) worst = d, at = i;
    }
    if (!(worst <= bound)) fail_msg("value %zu is %.8g, expected %.8g", at, (double)a[at], b[at]);
}

static void close_f32(const float *a, const float *b, size_t n, double bound)
{
    double *wide = malloc(n * sizeof *wide);
    assert_non_null(wide);
    for (size_t i = 0; i < n; i++) wide[i] = (double)b[i];
    close_to(a, wide, n, bound);
    free(wide);
}

/* f32 sums of some hundred terms around 1, through two blocks. */
static const double ROUNDING = 3e-5;

/* The second block's window; 0: none. */
static void check_window(const char *family, size_t n, uint32_t window)
{
    tiny t;
    tiny_make(&t, family);
    tiny_open(&t);
    t.model.hp.window = window;
    t.model.hp.sliding[0] = 2;
    int32_t *ids = random_ids(n, t.model.hp.n_vocab);
    double *expected = naive_forward(&t, ids, n);
    float *got = forward(&t.model, ids, 1, n, 2, NULL);
    close_to(got, expected, n * t.model.hp.n_vocab, ROUNDING);
    free(ids);
    free(expected);
    free(got);
    tiny_drop(&t);
}

static void check_family(const char *family, size_t n)
{
    check_window(family, n, 0);
}

static void llama_equals_the_naive_pass(void **state)
{
    (void)state;
    check_family("llama", 70);
}

static void llama3_rope_equals_the_naive_pass(void **state)
{
    (void)state;
    check_family("llama3", 70);
}

static void mistral_equals_the_naive_pass(void **state)
{
    (void)state;
    check_family("mistral", 1);
}

static void qwen2_equals_the_naive_pass(void **state)
{
    (void)state;
    check_family("qwen2", 65);
}

/* Long enough for several tiles of keys. */
static void qwen3_equals_the_naive_pass(void **state)
{
    (void)state;
    check_family("qwen3", 1100);
}

/* Narrower than a tile of queries, within one tile of keys, over two, and longer than the text. */
static void sliding_layers_equal_the_naive_pass(void **state)
{
    (void)state;
    check_window("llama", 70, 1);
    check_window("mistral", 300, 5);
    check_window("qwen2", 300, 100);
    check_window("qwen3", 1100, 513);
    check_window("llama", 70, 71);
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    enum { SEQ = 3, TOK = 130 };
    tiny t;
    tiny_make(&t, "qwen3");
    tiny_open(&t);
    int32_t *ids = random_ids(SEQ * TOK, t.model.hp.n_vocab);
    float *one = forward(&t.model, ids, SEQ, TOK, 1, NULL);
    for (int threads = 2; threads <= 7; threads += 5) {
        float *many = forward(&t.model, ids, SEQ, TOK, threads, NULL);
        assert_memory_equal(one, many, SEQ * TOK * t.model.hp.n_vocab * sizeof *one);
        free(many);
    }
    free(one);
    free(ids);
    tiny_drop(&t);
}

static void sequences_do_not_see_each_other(void **state)
{
    (void)state;
    enum { SEQ = 3, TOK = 40 };
    tiny t;
    tiny_make(&t, "llama");
    tiny_open(&t);
    const size_t vocab = t.model.hp.n_vocab;
    int32_t *ids = random_ids(SEQ * TOK, t.model.hp.n_vocab);
    float *together = forward(&t.model, ids, SEQ, TOK, 2, NULL);
    for (size_t s = 0; s < SEQ; s++) {
        float *alone = forward(&t.model, ids + s * TOK, 1, TOK, 2, NULL);
        close_f32(together + s * TOK * vocab, alone, TOK * vocab, ROUNDING);
        free(alone);
    }
    free(together);
    free(ids);
    tiny_drop(&t);
}

/* Two sequences in steps of 1, 1, 33 and 5 tokens, against both at once. */
static void cache_continues(uint32_t window)
{
    enum { SEQ = 2, TOK = 40, ROOM = 64 };
    static const size_t steps[] = {1, 1, 33, 5};
    tiny t;
    nib_err err;
    nib_graph *g;
    nib_ctx ctx = tiny_ctx(2);
    tiny_make(&t, "qwen2");
    tiny_open(&t);
    t.model.hp.window = window;
    t.model.hp.sliding[0] = 1;
    const size_t vocab = t.model.hp.n_vocab;
    int32_t *ids = random_ids(SEQ * TOK, t.model.hp.n_vocab), part[SEQ * TOK];
    float *whole = forward(&t.model, ids, SEQ, TOK, 2, NULL);
    float *logits = malloc(SEQ * TOK * vocab * sizeof *logits);
    must(nib_graph_new(&g, &t.model, &ctx, SEQ, ROOM, true, &err), &err);
    for (size_t i = 0, pos = 0; i < 4; pos += steps[i++]) {
        const size_t n = steps[i];
        for (size_t s = 0; s < SEQ; s++)
            memcpy(part + s * n, ids + s * TOK + pos, n * sizeof *part);
        step(g, &t.model, part, SEQ, n, pos, NULL, logits);
        for (size_t s = 0; s < SEQ; s++)
            close_f32(logits + s * n * vocab, whole + (s * TOK + pos) * vocab, n * vocab, ROUNDING);
    }
    nib_graph_free(g);
    free(logits);
    free(whole);
    free(ids);
    tiny_drop(&t);
}

static void cache_continues_a_sequence(void **state)
{
    (void)state;
    cache_continues(0);
    cache_continues(7);
}

/* Matrices above the size that is decoded at once (8 M weights), and a vocabulary that is shared
 * out in panels: 70 tokens go that way, the first 20 of them alone are too few rows for it. */
static void large_matrices_go_in_parts(void **state)
{
    (void)state;
    enum { MANY = 70, FEW = 20 };
    const gen_spec spec = {.family = gen_family_find("llama"),
                           .layers = 1,
                           .hidden = 1024,
                           .ff = 8300,
                           .heads = 8,
                           .kv_heads = 8,
                           .head_dim = 128,
                           .vocab = 16500,
                           .tied = true,
                           .dtype = NIB_BF16,
                           .shards = 1,
                           .seed = 3};
    tiny t;
    tiny_make_spec(&t, spec);
    tiny_open(&t);
    int32_t *ids = random_ids(MANY, t.model.hp.n_vocab);
    float *many = forward(&t.model, ids, 1, MANY, 2, NULL);
    float *few = forward(&t.model, ids, 1, FEW, 2, NULL);
    close_f32(many, few, (size_t)FEW * t.model.hp.n_vocab, 10 * ROUNDING); /* wider sums */
    free(many);
    free(few);
    free(ids);
    tiny_drop(&t);
}

/* GGUF's order of rows and its rope factors give what the folder gives. */
static void gguf_computes_the_same(void **state)
{
    (void)state;
    enum { TOK = 50 };
    static const char *const families[] = {"llama3", "qwen2", "qwen3"};
    for (size_t i = 0; i < 3; i++) {
        tiny t, from = {0};
        nib_err err;
        char path[96];
        tiny_make(&t, families[i]);
        tiny_open(&t);
        snprintf(path, sizeof path, "%s/model.gguf", t.dir);
        tiny_write_gguf(&t, path);
        must(nib_source_open(&from.src, path, &err), &err);
        must(nib_model_open(&from.model, from.src, &err), &err);
        int32_t *ids = random_ids(TOK, t.model.hp.n_vocab);
        float *a = forward(&t.model, ids, 1, TOK, 2, NULL);
        float *b = forward(&from.model, ids, 1, TOK, 2, NULL);
        close_f32(a, b, TOK * t.model.hp.n_vocab, ROUNDING);
        free(ids);
        free(a);
        free(b);
        nib_model_close(&from.model);
        nib_source_close(from.src);
        tiny_drop(&t);
    }
}

/* What an observer saw, in order. */
typedef struct {
    char text[2048];
    double squares_of_block_0; /* of the first input: norm of the embedding */
} seen;

static nib_code note(void *arg, const nib_linear_input *in, nib_err *err)
{
    const float *x = in->x;
    const size_t rows = in->rows, cols = in->cols;
    seen *s = arg;
    size_t at = strlen(s->text);
    (void)err;
    if (!at)
        for (size_t i = 0; i < rows * cols; i++)
            s->squares_of_block_0 += (double)x[i] * (double)x[i];
    at += (size_t)snprintf(s->text + at, sizeof s->text - at, "%u", in->layer);
    for (size_t i = 0; i < in->n_roles; i++)
        at +=
            (size_t)snprintf(s->text + at, sizeof s->text - at, " %s", nib_role_name(in->role[i]));
    snprintf(s->text + at, sizeof s->text - at, " %zux%zu\n", rows, cols);
    return NIB_OK;
}

static void observer_sees_every_input_once(void **state)
{
    (void)state;
    tiny t;
    seen s = {0};
    const nib_observer obs = {.linear_input = note, .arg = &s};
    tiny_make(&t, "mistral");
    tiny_open(&t);
    int32_t *ids = random_ids(6, t.model.hp.n_vocab);
    free(forward(&t.model, ids, 2, 3, 2, &obs));
    assert_string_equal(s.text, "0 attn_q attn_k attn_v 6x48\n0 attn_output 6x64\n"
                                "0 ffn_gate ffn_up 6x48\n0 ffn_down 6x80\n"
                                "1 attn_q attn_k attn_v 6x48\n1 attn_output 6x64\n"
                                "1 ffn_gate ffn_up 6x48\n1 ffn_down 6x80\n"
                                "0 output 6x48\n");
    double *embd = naive_tensor(&t, "model.embed_tokens.weight", 0), squares = 0;
    double *w = naive_tensor(&t, "model.layers.%u.input_layernorm.weight", 0), h[48];
    for (size_t r = 0; r < 6; r++) {
        naive_norm(h, embd + (size_t)ids[r] * 48, w, 48, t.model.hp.norm_eps);
        for (size_t i = 0; i < 48; i++) squares += h[i] * h[i];
    }
    assert_true(fabs(s.squares_of_block_0 / squares - 1) < 1e-5);
    free(embd);
    free(w);
    free(ids);
    tiny_drop(&t);
}

static void token_outside_the_vocabulary(void **state)
{
    (void)state;
    tiny t;
    nib_err err;
    nib_graph *g;
    nib_ctx ctx = tiny_ctx(1);
    float x[2 * 64];
    tiny_make(&t, "llama");
    tiny_open(&t);
    must(nib_graph_new(&g, &t.model, &ctx, 1, 2, false, &err), &err);
    assert_int_equal(nib_graph_embed(g, (int32_t[]){0, 257}, 2, x, &err), NIB_EINVAL);
    assert_string_equal(err.msg, "token 257 is outside the model's vocabulary of 257");
    assert_int_equal(nib_graph_embed(g, (int32_t[]){-1, 0}, 2, x, &err), NIB_EINVAL);
    nib_graph_free(g);
    tiny_drop(&t);
}

/* Each allocation failing once: an error, no crash, and (under the sanitizer) no leak. */
static void every_allocation_may_fail(void **state)
{
    (void)state;
    tiny t;
    nib_err err;
    nib_ctx ctx = tiny_ctx(1);
    nib_code rc = NIB_ENOMEM;
    size_t row = 69;
    int32_t *ids = random_ids(70, 257);
    float *x = malloc(70 * 64 * sizeof *x), *logits = malloc(257 * sizeof *logits);
    tiny_make(&t, "llama");
    tiny_open(&t);
    for (long n = 1; rc && n < 100; n++) {
        nib_graph *g;
        nib_mem_fail_at(n);
        rc = nib_graph_new(&g, &t.model, &ctx, 1, 70, true, &err);
        if (!rc) rc = nib_graph_embed(g, ids, 70, x, &err);
        if (!rc) rc = nib_graph_block(g, 0, x, 1, 70, 0, NULL, &err);
        if (!rc) rc = nib_graph_logits(g, x, &row, 1, keep, logits, NULL, &err);
        nib_mem_fail_at(0);
        nib_graph_free(g);
        assert_true(rc == NIB_OK || rc == NIB_ENOMEM);
        assert_true(n > 8 || rc == NIB_ENOMEM);
    }
    assert_int_equal(rc, NIB_OK);
    free(x);
    free(logits);
    free(ids);
    tiny_drop(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_equals_the_naive_pass),
        cmocka_unit_test(llama3_rope_equals_the_naive_pass),
        cmocka_unit_test(mistral_equals_the_naive_pass),
        cmocka_unit_test(qwen2_equals_the_naive_pass),
        cmocka_unit_test(qwen3_equals_the_naive_pass),
        cmocka_unit_test(sliding_layers_equal_the_naive_pass),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(sequences_do_not_see_each_other),
        cmocka_unit_test(cache_continues_a_sequence),
        cmocka_unit_test(large_matrices_go_in_parts),
        cmocka_unit_test(gguf_computes_the_same),
        cmocka_unit_test(observer_sees_every_input_once),
        cmocka_unit_test(token_outside_the_vocabulary),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
