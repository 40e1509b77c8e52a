/* SPDX-License-Identifier: MIT */
/* The calibration run on the demonstration model: sums against a plain loop, threads, resuming. */
#include "base/cpu.h"
#include "base/file.h"
#include "base/linalg.h"
#include "base/mem.h"
#include "calib/collect_importance.h"
#include "calib/checkpoint.h"
#include "infer/graph.h"
#include "tests/calib/tmp.h"
#include "tests/support/gen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define OK(call)                                                                                   \
    do {                                                                                           \
        if (call) fail_msg("%s", err.msg);                                                         \
    } while (0)

static nib_source *src;
static nib_model model;
static nib_ctx ctx = {.threads = 2};
static nib_err err;

/* Windows of 512 are run four at a time (2,048 rows): these are three batches, the last one short.
 */
enum { CTX = 512, BATCH = 4, WINDOWS = 9 };
static int32_t ids[WINDOWS * CTX];
static const nib_windows windows = {.id = ids, .n = WINDOWS, .n_ctx = CTX};

static int open_all(void **state)
{
    uint32_t r = 1;
    nib_linalg_init();
    ctx.cpu = nib_cpu_detect();
    if (tmp_make(state)) return -1;
    if (nib_source_open(&src, getenv("NIB_TINY"), &err) || nib_model_open(&model, src, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return -1;
    }
    for (size_t i = 0; i < WINDOWS * CTX; i++) {
        r = r * 1664525u + 1013904223u;
        ids[i] = (int32_t)((r >> 8) % model.hp.n_vocab);
    }
    return 0;
}

static int close_all(void **state)
{
    nib_model_close(&model);
    nib_source_close(src);
    return tmp_remove(state);
}

/* ---- a plain loop ---- */

typedef struct {
    const nib_model *m;
    double *sum; /* [n_layer][NIB_ROLE_COUNT][n_ff], most of it unused */
} plain;

static double *plain_sum(const plain *p, uint32_t layer, nib_role role)
{
    return p->sum + ((size_t)layer * NIB_ROLE_COUNT + role) * p->m->hp.n_ff;
}

static nib_code add_plainly(void *arg, const nib_linear_input *in, nib_err *e)
{
    const float *x = in->x;
    const size_t rows = in->rows, cols = in->cols;
    plain *p = arg;
    (void)e;
    assert_true(cols <= p->m->hp.n_ff);
    for (size_t k = 0; k < in->n_roles; k++) {
        double *sum = plain_sum(p, in->layer, in->role[k]);
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < cols; j++)
                sum[j] += (double)x[i * cols + j] * (double)x[i * cols + j];
    }
    return NIB_OK;
}

static void no_logits(void *arg, size_t row, const float *logits, size_t n)
{
    (void)arg, (void)row, (void)logits, (void)n;
}

/* The steps spelled out, in the same batches. */
static plain run_plainly(const nib_model *of, size_t n)
{
    size_t n_sums = (size_t)of->hp.n_layer * NIB_ROLE_COUNT * of->hp.n_ff, all[BATCH * CTX];
    plain p = {of, nib_calloc(n_sums, sizeof(double))};
    float *x = nib_alloc((size_t)BATCH * CTX * of->hp.n_embd, sizeof *x);
    nib_graph *g;
    nib_observer obs = {.linear_input = add_plainly, .arg = &p};
    for (size_t i = 0; i < BATCH * CTX; i++) all[i] = i;
    OK(nib_graph_new(&g, of, &ctx, BATCH, CTX, false, &err));
    for (size_t i = 0; i < n; i += BATCH) {
        size_t n_seq = n - i < BATCH ? n - i : BATCH;
        OK(nib_graph_embed(g, ids + i * CTX, n_seq * CTX, x, &err));
        for (uint32_t layer = 0; layer < of->hp.n_layer; layer++)
            OK(nib_graph_block(g, layer, x, n_seq, CTX, 0, &obs, &err));
        OK(nib_graph_logits(g, x, all, n_seq * CTX, no_logits, NULL, &obs, &err));
    }
    nib_graph_free(g);
    nib_free(x);
    return p;
}

static const nib_role LINEAR[] = {NIB_ROLE_ATTN_Q,      NIB_ROLE_ATTN_K,   NIB_ROLE_ATTN_V,
                                  NIB_ROLE_ATTN_OUTPUT, NIB_ROLE_FFN_GATE, NIB_ROLE_FFN_UP,
                                  NIB_ROLE_FFN_DOWN};

static void expect_plain_sums(const nib_model *of)
{
    nib_imatrix m;
    nib_calib_opts opts = nib_calib_defaults();
    opts.process_output = true;
    plain want = run_plainly(of, WINDOWS);
    OK(nib_collect_importance(&m, of, &windows, &opts, &ctx, &err));
    bool has_output = nib_model_param(of, 0, NIB_ROLE_OUTPUT)->weight;
    assert_int_equal(m.n, 7 * of->hp.n_layer + has_output);
    assert_int_equal(m.chunk_count, WINDOWS);
    assert_int_equal(m.chunk_size, CTX);
    for (uint32_t layer = 0; layer < of->hp.n_layer; layer++)
        for (size_t i = 0; i < 7; i++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%u.%s.weight", layer, nib_role_name(LINEAR[i]));
            const nib_imatrix_entry *e = nib_imatrix_find(&m, name);
            if (!e) fail_msg("no entry %s", name);
            assert_int_equal(e->n_mat, 1);
            assert_int_equal(e->cols, LINEAR[i] == NIB_ROLE_FFN_DOWN ? of->hp.n_ff : of->hp.n_embd);
            assert_true(e->counts[0] == WINDOWS * CTX);
            assert_true(e->in_sum2[0] > 0);
            assert_memory_equal(e->in_sum2, plain_sum(&want, layer, LINEAR[i]),
                                e->cols * sizeof(double));
        }
    if (has_output) {
        const nib_imatrix_entry *e = nib_imatrix_find(&m, "output.weight");
        assert_non_null(e);
        assert_true(e->counts[0] == WINDOWS * CTX);
        assert_memory_equal(e->in_sum2, plain_sum(&want, 0, NIB_ROLE_OUTPUT),
                            e->cols * sizeof(double));
    }
    nib_free(want.sum);
    nib_imatrix_free(&m);
}

static void sums_equal_a_plain_loop(void **state)
{
    (void)state;
    expect_plain_sums(&model);
}

/* The demonstration model has no output matrix of its own; a small random one has. */
static void the_output_matrix_is_watched(void **state)
{
    (void)state;
    nib_source *s;
    nib_model untied;
    const char *dir = tmp_path("untied");
    const gen_spec spec = {.family = gen_family_find("qwen2"),
                           .layers = 1,
                           .hidden = 64,
                           .ff = 96,
                           .heads = 2,
                           .kv_heads = 1,
                           .head_dim = 32,
                           .vocab = model.hp.n_vocab,
                           .dtype = NIB_BF16,
                           .shards = 1,
                           .seed = 1,
                           .tokenizer = getenv("NIB_TINY")};
    OK(gen_model(&spec, dir, &ctx, &err));
    OK(nib_source_open(&s, dir, &err));
    OK(nib_model_open(&untied, s, &err));
    assert_non_null(nib_model_param(&untied, 0, NIB_ROLE_OUTPUT)->weight);
    expect_plain_sums(&untied);
    nib_model_close(&untied);
    nib_source_close(s);
}

/* ---- bytes ---- */

typedef struct {
    char *data;
    size_t n;
} bytes;

/* The file that a run writes; without loss, so that every bit counts. */
static bytes run_to_bytes(const nib_windows *w, const nib_calib_opts *opts, int threads)
{
    nib_imatrix m;
    bytes b;
    nib_ctx how = {.threads = threads, .cpu = ctx.cpu};
    OK(nib_collect_importance(&m, &model, w, opts, &how, &err));
    const char *path = tmp_path("result.gguf");
    OK(nib_imatrix_write(&m, NIB_F64, NULL, path, true, &err));
    OK(nib_file_slurp(&b.data, &b.n, path, (size_t)1 << 30, &err));
    nib_imatrix_free(&m);
    return b;
}

static void expect_bytes(bytes got, bytes want)
{
    assert_int_equal(got.n, want.n);
    assert_memory_equal(got.data, want.data, want.n);
    nib_free(got.data);
}

/* One thread, seven, and two with an unfinished run in between give the same file. */
static void threads_and_interruptions_do_not_matter(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s", tmp_path("same.partial"));
    nib_calib_opts opts = nib_calib_defaults(), kept = {.checkpoint = path, .save_every = 0};
    bytes want = run_to_bytes(&windows, &opts, 1);
    expect_bytes(run_to_bytes(&windows, &opts, 7), want);
    expect_bytes(run_to_bytes(&windows, &kept, 2), want);
    assert_true(nib_file_exists(path)); /* as of the last batch but one */
    expect_bytes(run_to_bytes(&windows, &kept, 2), want);
    nib_free(want.data);
}

/* ---- resuming ---- */

/* A checkpoint that says all is done but for the last batch, with empty sums: the result has only
 * what was added after it. */
static void a_resumed_run_starts_from_the_checkpoint(void **state)
{
    (void)state;
    char path[128];
    uint64_t run;
    nib_imatrix m;
    snprintf(path, sizeof path, "%s", tmp_path("start.partial"));
    nib_calib_opts opts = {.checkpoint = path, .save_every = 1000};
    nib_windows first = {.id = ids, .n = 1, .n_ctx = CTX};
    OK(nib_collect_importance(&m, &model, &first, &(nib_calib_opts){0}, &ctx, &err));
    for (size_t i = 0; i < m.n; i++) {
        memset(m.entry[i].in_sum2, 0, m.entry[i].cols * sizeof(double));
        m.entry[i].counts[0] = 0;
    }
    OK(nib_checkpoint_fingerprint(&run, &model, &windows, &opts, &err));
    OK(nib_checkpoint_save(&m, run, 2 * BATCH, path, &err));
    nib_imatrix_free(&m);
    OK(nib_collect_importance(&m, &model, &windows, &opts, &ctx, &err));
    assert_true(m.entry[0].counts[0] == (WINDOWS - 2 * BATCH) * CTX);
    nib_imatrix_free(&m);
}

static void a_checkpoint_of_another_run_is_not_used(void **state)
{
    (void)state;
    char path[128];
    nib_imatrix m;
    snprintf(path, sizeof path, "%s", tmp_path("other.partial"));
    nib_calib_opts opts = nib_calib_defaults(), kept = {.checkpoint = path, .save_every = 0};
    nib_windows other = windows;
    OK(nib_collect_importance(&m, &model, &windows, &kept, &ctx, &err));
    nib_imatrix_free(&m);
    other.id = ids + CTX;
    other.n = WINDOWS - 1;
    bytes want = run_to_bytes(&other, &opts, 2);
    expect_bytes(run_to_bytes(&other, &kept, 2), want);
    nib_free(want.data);
}

static void refuses(const nib_windows *w, const nib_calib_opts *opts, nib_code code,
                    const char *part)
{
    nib_imatrix m;
    assert_int_equal(nib_collect_importance(&m, &model, w, opts, &ctx, &err), code);
    assert_int_equal(m.n, 0);
    tmp_expect(err.msg, part);
}

static void impossible_runs_are_refused(void **state)
{
    (void)state;
    nib_imatrix m;
    uint64_t run;
    nib_calib_opts opts = nib_calib_defaults();
    refuses(&(nib_windows){.id = ids, .n = 0, .n_ctx = CTX}, &opts, NIB_EINVAL, "no windows");
    refuses(&(nib_windows){.id = ids, .n = 1, .n_ctx = model.hp.n_ctx_train + 1}, &opts, NIB_EINVAL,
            "longer than the model's context");

    opts.checkpoint = tmp_text("mine.partial", "dear diary");
    refuses(&windows, &opts, NIB_EFORMAT, "mine.partial");
    tmp_expect(err.msg, "in the place of the checkpoint");

    nib_windows short_one = {.id = ids, .n = 1, .n_ctx = CTX};
    OK(nib_collect_importance(&m, &model, &short_one, &(nib_calib_opts){0}, &ctx, &err));
    OK(nib_checkpoint_fingerprint(&run, &model, &short_one, &opts, &err));
    OK(nib_checkpoint_save(&m, run, 2, opts.checkpoint, &err));
    refuses(&short_one, &opts, NIB_EFORMAT, "2 windows done of 1");
    m.n--;
    OK(nib_checkpoint_save(&m, run, 1, opts.checkpoint, &err));
    m.n++;
    refuses(&short_one, &opts, NIB_EFORMAT, "is missing or of another size");
    nib_imatrix_free(&m);
}

/* A copy of the model with a NaN in a norm of its second block. */
static void a_model_that_computes_nan_is_named(void **state)
{
    (void)state;
    nib_source *bad;
    nib_model broken;
    nib_imatrix m;
    const nib_tensor *t = nib_source_find(src, "model.layers.1.input_layernorm.weight");
    assert_non_null(t);
    assert_int_equal(t->codec->type, NIB_BF16);
    OK(nib_source_open(
        &bad, tmp_patched("nan-model", getenv("NIB_TINY"), (long)t->offset + 2 * 17, "\xC0\x7F", 2),
        &err));
    OK(nib_model_open(&broken, bad, &err));
    nib_windows w = {.id = ids, .n = 1, .n_ctx = CTX};
    assert_int_equal(nib_collect_importance(&m, &broken, &w, &(nib_calib_opts){0}, &ctx, &err),
                     NIB_ENUMERIC);
    tmp_expect(err.msg, "'blk.1.attn_q.weight' is not finite in channel 17");
    nib_model_close(&broken);
    nib_source_close(bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_equal_a_plain_loop),
        cmocka_unit_test(the_output_matrix_is_watched),
        cmocka_unit_test(threads_and_interruptions_do_not_matter),
        cmocka_unit_test(a_resumed_run_starts_from_the_checkpoint),
        cmocka_unit_test(a_checkpoint_of_another_run_is_not_used),
        cmocka_unit_test(impossible_runs_are_refused),
        cmocka_unit_test(a_model_that_computes_nan_is_named),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
