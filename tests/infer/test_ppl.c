/* SPDX-License-Identifier: MIT */
/* Protocols on the demonstration model: which tokens are scored after which context, and the
 * figures, recomputed here chunk by chunk from logits with the C library's exp and log. */
#include "base/file.h"
#include "infer/ppl.h"
#include "tests/infer/tiny.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { CTX = 48, CHUNKS = 3 };

static struct {
    nib_source *src;
    nib_model model;
    nib_tokenizer *tok;
    char *text;
    size_t n_text, n_whole; /* used, and of the file */
} demo;

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

static int open_demo(void **state)
{
    (void)state;
    nib_err err;
    const char *dir = getenv("NIB_TINY");
    char path[512];
    assert_non_null(dir);
    snprintf(path, sizeof path, "%s/../eval.txt", dir);
    must(nib_source_open(&demo.src, dir, &err), &err);
    must(nib_model_open(&demo.model, demo.src, &err), &err);
    must(nib_tokenizer_open(&demo.tok, demo.src, &err), &err);
    must(nib_file_slurp(&demo.text, &demo.n_whole, path, 1 << 24, &err), &err);
    demo.n_text = 1200;
    return 0;
}

static int close_demo(void **state)
{
    (void)state;
    nib_tokenizer_close(demo.tok);
    nib_model_close(&demo.model);
    nib_source_close(demo.src);
    nib_free(demo.text);
    return 0;
}

static void copy_row(void *arg, size_t row, const float *logits, size_t n_vocab)
{
    memcpy((float *)arg + row * n_vocab, logits, n_vocab * sizeof *logits);
}

/* Losses of positions first .. CTX-2 of one chunk; in[] is what the model reads, ids[] the text. */
static void chunk_losses(const int32_t *in, const int32_t *ids, size_t first, double *out)
{
    nib_err err;
    nib_graph *g;
    const nib_ctx ctx = tiny_ctx(1);
    const nib_hparams *hp = &demo.model.hp;
    float *x = malloc(CTX * hp->n_embd * sizeof *x), *logits = malloc(hp->n_vocab * sizeof *logits);
    must(nib_graph_new(&g, &demo.model, &ctx, 1, CTX, false, &err), &err);
    must(nib_graph_embed(g, in, CTX, x, &err), &err);
    for (uint32_t l = 0; l < hp->n_layer; l++)
        must(nib_graph_block(g, l, x, 1, CTX, 0, NULL, &err), &err);
    for (size_t p = first; p + 1 < CTX; p++) {
        double total = 0;
        must(nib_graph_logits(g, x, &p, 1, copy_row, logits, NULL, &err), &err);
        for (uint32_t i = 0; i < hp->n_vocab; i++) total += exp((double)logits[i]);
        out[p - first] = log(total) - (double)logits[ids[p + 1]];
    }
    nib_graph_free(g);
    free(x);
    free(logits);
}

static void check(nib_ppl_protocol protocol, const int32_t *ids, bool bos, size_t first)
{
    nib_err err;
    nib_ppl_result r;
    const nib_ctx ctx = tiny_ctx(2);
    const nib_ppl_opts opts = {.protocol = protocol, .n_ctx = CTX, .max_chunks = CHUNKS};
    const size_t each = CTX - 1 - first, n = CHUNKS * each;
    double loss[CHUNKS * CTX], sum = 0, spread = 0;
    for (size_t c = 0; c < CHUNKS; c++) {
        int32_t in[CTX];
        memcpy(in, ids + c * CTX, sizeof in);
        if (bos) in[0] = nib_tokenizer_bos(demo.tok);
        chunk_losses(in, ids + c * CTX, first, loss + c * each);
    }
    for (size_t i = 0; i < n; i++) sum += loss[i];
    const double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) spread += (loss[i] - mean) * (loss[i] - mean);
    const double error = exp(mean) * sqrt(spread / (double)n / (double)(n - 1));
    must(nib_ppl_run(&r, &demo.model, demo.tok, demo.text, demo.n_text, &opts, NULL, &ctx, &err),
         &err);
    assert_int_equal(r.n_scored, n);
    assert_int_equal(r.n_chunks, CHUNKS);
    assert_true(fabs(r.nll - mean) < 1e-5);
    assert_true(fabs(r.ppl / exp(mean) - 1) < 1e-5);
    assert_true(fabs(r.error / error - 1) < 1e-4);
    assert_true(r.ppl > 5 && r.ppl < 300); /* the model knows English */
}

static void llamacpp_protocol(void **state)
{
    (void)state;
    nib_err err;
    nib_ids ids = {0};
    must(nib_tokenizer_encode(demo.tok, demo.text, demo.n_text, NIB_TOK_ADD_SPECIAL, &ids, &err),
         &err);
    assert_int_equal(ids.id[0], nib_tokenizer_bos(demo.tok));
    check(NIB_PPL_LLAMACPP, ids.id, true, CTX / 2);
    nib_ids_free(&ids);
}

static void window_protocol(void **state)
{
    (void)state;
    nib_err err;
    nib_ids ids = {0};
    must(nib_tokenizer_encode(demo.tok, demo.text, demo.n_text,
                              NIB_TOK_ADD_SPECIAL | NIB_TOK_PARSE_SPECIAL, &ids, &err),
         &err);
    assert_int_equal(ids.id[0], nib_tokenizer_bos(demo.tok));
    check(NIB_PPL_WINDOW, ids.id, false, 0);
    nib_ids_free(&ids);
}

/* The loop of GPTQ's scripts, run with Transformers 5 on the same folder and text in f32: windows
 * of tokenizer(text).input_ids, mean cross-entropy of the shifted logits. Both sum in f32. */
static void window_protocol_equals_transformers(void **state)
{
    (void)state;
    nib_err err;
    nib_ppl_result r;
    const nib_ctx ctx = tiny_ctx(2);
    const nib_ppl_opts opts = {.protocol = NIB_PPL_WINDOW, .n_ctx = 256, .max_chunks = 8};
    must(nib_ppl_run(&r, &demo.model, demo.tok, demo.text, demo.n_whole, &opts, NULL, &ctx, &err),
         &err);
    assert_int_equal(r.n_tokens, 33489);
    assert_int_equal(r.n_scored, 8 * 255);
    assert_true(fabs(r.ppl / 64.35731172768948 - 1) < 1e-5);
}

/* Special tokens that the text spells are tokens to the papers' scripts, text to llama.cpp. */
static void special_tokens_in_the_text(void **state)
{
    (void)state;
    static const char one[] = "A house.<|end_of_text|>";
    nib_err err;
    nib_chunks c;
    char text[40 * sizeof one] = "";
    size_t n[2];
    for (int i = 0; i < 40; i++) strcat(text, one);
    for (int i = 0; i < 2; i++) {
        const nib_ppl_opts opts = {.protocol = i ? NIB_PPL_WINDOW : NIB_PPL_LLAMACPP, .n_ctx = 16};
        must(nib_chunks_open(&c, &demo.model.hp, demo.tok, text, strlen(text), &opts, NULL, &err),
             &err);
        n[i] = 0;
        for (size_t k = 0; k < c.ids.n; k++) n[i] += c.ids.id[k] == nib_tokenizer_eos(demo.tok);
        nib_chunks_free(&c);
    }
    assert_int_equal(n[0], 0);
    assert_int_equal(n[1], 40);
}

/* Counts calls per index, from any thread. */
enum { SEEN_MAX = 4096 };
typedef struct {
    int count[SEEN_MAX];
    double nll[SEEN_MAX];
} seen;

static void see(void *arg, size_t index, int32_t target, const float *logits, size_t n_vocab,
                double nll)
{
    seen *s = arg;
    (void)logits;
    if (index >= SEEN_MAX || target < 0 || (size_t)target >= n_vocab) return;
    s->count[index]++;
    s->nll[index] = nll;
}

static void consumer_sees_each_token_once(void **state)
{
    (void)state;
    nib_err err;
    nib_ppl_result r;
    static seen s;
    const nib_ctx ctx = tiny_ctx(2);
    const nib_token_consumer consumer = {see, &s};
    const nib_ppl_opts opts = {.protocol = NIB_PPL_LLAMACPP, .n_ctx = CTX};
    double sum = 0;
    must(nib_ppl_run(&r, &demo.model, demo.tok, demo.text, demo.n_text, &opts, &consumer, &ctx,
                     &err),
         &err);
    assert_int_equal(r.n_chunks, r.n_tokens / CTX);
    assert_int_equal(r.n_scored, r.n_chunks * (CTX / 2 - 1));
    for (size_t i = 0; i < SEEN_MAX; i++) {
        assert_int_equal(s.count[i], i < r.n_scored);
        sum += s.nll[i];
    }
    assert_true(fabs(sum / (double)r.n_scored - r.nll) < 1e-12);
}

/* One newline at the end does not count in llama.cpp's protocol. */
static void last_newline_is_dropped(void **state)
{
    (void)state;
    nib_err err;
    nib_ppl_result with, without;
    const nib_ctx ctx = tiny_ctx(1);
    nib_ppl_opts opts = {.protocol = NIB_PPL_LLAMACPP, .n_ctx = CTX, .max_chunks = 2};
    char text[801];
    memcpy(text, demo.text, 800);
    text[799] = 'x';
    text[800] = '\n';
    must(nib_ppl_run(&with, &demo.model, demo.tok, text, 801, &opts, NULL, &ctx, &err), &err);
    must(nib_ppl_run(&without, &demo.model, demo.tok, text, 800, &opts, NULL, &ctx, &err), &err);
    assert_int_equal(with.n_tokens, without.n_tokens);
    opts.protocol = NIB_PPL_WINDOW;
    must(nib_ppl_run(&with, &demo.model, demo.tok, text, 801, &opts, NULL, &ctx, &err), &err);
    assert_int_equal(with.n_tokens, without.n_tokens + 1); /* BOS too, and the newline */
}

static void threads_and_batches_do_not_matter(void **state)
{
    (void)state;
    nib_err err;
    nib_ppl_result r[2];
    const nib_ppl_opts opts = {.protocol = NIB_PPL_WINDOW, .n_ctx = CTX};
    for (int i = 0; i < 2; i++) {
        const nib_ctx ctx = tiny_ctx(1 + 2 * i);
        must(nib_ppl_run(&r[i], &demo.model, demo.tok, demo.text, demo.n_text, &opts, NULL, &ctx,
                         &err),
             &err);
    }
    assert_true(r[0].ppl == r[1].ppl && r[0].error == r[1].error);
}

static void short_text_says_how_short(void **state)
{
    (void)state;
    nib_err err;
    nib_ppl_result r;
    const nib_ctx ctx = tiny_ctx(1);
    nib_ppl_opts opts = {.protocol = NIB_PPL_LLAMACPP, .n_ctx = CTX};
    assert_int_equal(nib_ppl_run(&r, &demo.model, demo.tok, "A", 1, &opts, NULL, &ctx, &err),
                     NIB_EINVAL);
    assert_string_equal(err.msg,
                        "the text is 2 tokens long; protocol llama.cpp needs at least 96 (2 x 48)");
    opts.protocol = NIB_PPL_WINDOW;
    assert_int_equal(nib_ppl_run(&r, &demo.model, demo.tok, "", 0, &opts, NULL, &ctx, &err),
                     NIB_EINVAL);
    assert_string_equal(err.msg,
                        "the text is 1 tokens long; protocol window needs at least 48 (1 x 48)");
    opts.n_ctx = 2;
    assert_int_equal(nib_ppl_run(&r, &demo.model, demo.tok, "A", 1, &opts, NULL, &ctx, &err),
                     NIB_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llamacpp_protocol),
        cmocka_unit_test(window_protocol),
        cmocka_unit_test(window_protocol_equals_transformers),
        cmocka_unit_test(special_tokens_in_the_text),
        cmocka_unit_test(consumer_sees_each_token_once),
        cmocka_unit_test(last_newline_is_dropped),
        cmocka_unit_test(threads_and_batches_do_not_matter),
        cmocka_unit_test(short_text_says_how_short),
    };
    return cmocka_run_group_tests(tests, open_demo, close_demo);
}
