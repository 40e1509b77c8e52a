/* SPDX-License-Identifier: MIT */
/* Ranges of keys and values: measured, written and read; as scales in a folder, and a cache that is
 * kept by them. */
#include "base/cpu.h"
#include "base/file.h"
#include "base/linalg.h"
#include "calib/kv_ranges.h"
#include "calib/pass.h"
#include "infer/kv_scales.h"
#include "run/job.h"
#include "tests/run/folders.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { CTX = 48, WINDOWS = 3, ROWS = CTX * WINDOWS };

static opened tiny;
static int32_t ids[ROWS];
static const nib_windows windows = {.id = ids, .n = WINDOWS, .n_ctx = CTX};
static const nib_ctx two = {.threads = 2};

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

static int open_all(void **state)
{
    uint32_t r = 1;
    nib_linalg_init();
    if (scratch_make(state)) return -1;
    open_model(&tiny, tiny_llama());
    for (size_t i = 0; i < ROWS; i++) {
        r = r * 1664525u + 1013904223u;
        ids[i] = (int32_t)((r >> 8) % tiny.model.hp.n_vocab);
    }
    return 0;
}

static int close_all(void **state)
{
    close_model(&tiny);
    return scratch_remove(state);
}

static void measure(nib_kv_ranges *r, bool per_head)
{
    nib_err err = {0};
    must(nib_kv_ranges_measure(r, &tiny.model, &windows, per_head, &two, &err), &err);
}

/* Values are what their linear makes of its input: computed here once more, one by one. */
static nib_code on_input(void *arg, const nib_linear_input *in, nib_err *err)
{
    float(*most)[16] = arg;
    (void)err;
    for (size_t k = 0; k < in->n_roles; k++) {
        if (in->role[k] != NIB_ROLE_ATTN_V) continue;
        const nib_place at = {.layer = in->layer, .role = NIB_ROLE_ATTN_V};
        const nib_tensor *t = nib_model_tensor(&tiny.model, at);
        float *w = tensor_values(tiny.src, t);
        const size_t out = (size_t)nib_tensor_rows(t), dim = tiny.model.hp.head_dim;
        for (size_t r = 0; r < in->rows; r++)
            for (size_t o = 0; o < out; o++) {
                double sum = 0;
                for (size_t c = 0; c < in->cols; c++)
                    sum += (double)w[o * in->cols + c] * in->x[r * in->cols + c];
                most[in->layer][o / dim] = fmaxf(most[in->layer][o / dim], (float)fabs(sum));
            }
        nib_free(w);
    }
    return NIB_OK;
}

static void largest_of_each_head(void **state)
{
    (void)state;
    static float most[64][16];
    nib_err err = {0};
    nib_kv_ranges head, tensor;
    const nib_pass pass = {.observer = {.linear_input = on_input, .arg = most}};
    must(nib_pass_run(&pass, &tiny.model, &windows, 0, &two, &err), &err);
    measure(&head, true), measure(&tensor, false);
    assert_int_equal(head.n, tiny.model.hp.n_head_kv);
    assert_int_equal(tensor.n, 1);
    for (size_t l = 0; l < head.n_layer; l++) {
        float all[2] = {0, 0};
        for (size_t h = 0; h < head.n; h++) {
            const float v = head.of[1][l * head.n + h];
            if (!(fabsf(v - most[l][h]) <= 1e-4f * v))
                fail_msg("layer %zu, head %zu: values up to %g, not %g", l, h, (double)v,
                         (double)most[l][h]);
            for (int of = 0; of < 2; of++) all[of] = fmaxf(all[of], head.of[of][l * head.n + h]);
        }
        for (int of = 0; of < 2; of++) assert_true(tensor.of[of][l] == all[of]);
    }
    nib_kv_ranges_free(&head), nib_kv_ranges_free(&tensor);
}

static void edit(const char *from, const char *to)
{
    char *text, *at;
    size_t n;
    nib_err err = {0};
    must(nib_file_slurp(&text, &n, scratch("kv.json"), 1 << 20, &err), &err);
    assert_non_null(at = strstr(text, from));
    FILE *f = fopen(scratch("kv.json"), "w");
    fprintf(f, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    fclose(f);
    nib_free(text);
}

static void files(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *part;
    } bad[] = {{"key/value", "value/key", "'format'"},
               {"\"version\"", "\"versions\"", "'version'"},
               {"\"model\"", "\"muddle\"", "'model'"},
               {"\"windows\"", "\"panes\"", "'windows'"},
               {"\"tensor\"", "\"channel\"", "'strategy' should be tensor or head"},
               {"\"tensor\"", "\"head\"", "'keys' should be a list of"},
               {"\"values\"", "\"volumes\"", "'layers', entry 0: 'values'"},
               {"\"layers\"", "\"layer\"", "'layers' should be a list of"}};
    nib_err err = {0};
    nib_kv_ranges r, back;
    measure(&r, false);
    for (size_t i = 0; i <= sizeof bad / sizeof *bad; i++) {
        must(nib_kv_ranges_save(&r, scratch("kv.json"), true, &err), &err);
        if (!i) {
            must(nib_kv_ranges_load(&back, scratch("kv.json"), &tiny.model, &err), &err);
            for (int of = 0; of < 2; of++)
                assert_memory_equal(back.of[of], r.of[of], r.n_layer * r.n * sizeof(float));
            assert_true(back.on.model == r.on.model && back.on.text == r.on.text);
            assert_int_equal(back.on.n_windows, WINDOWS);
            nib_kv_ranges_free(&back);
            continue;
        }
        edit(bad[i - 1].from, bad[i - 1].to);
        assert_int_equal(nib_kv_ranges_load(&back, scratch("kv.json"), &tiny.model, &err),
                         NIB_EFORMAT);
        expect_text(err.msg, bad[i - 1].part);
        expect_text(err.msg, "kv.json: ");
        assert_null(back.of[0]);
    }
    r.on.model++;
    must(nib_kv_ranges_save(&r, scratch("kv.json"), true, &err), &err);
    assert_int_equal(nib_kv_ranges_load(&back, scratch("kv.json"), &tiny.model, &err), NIB_EFORMAT);
    expect_text(err.msg, "measured on another model");
    nib_kv_ranges_free(&r);
}

/* Residuals after all blocks of a model whose keys and values are kept so, of one window. */
static void run_model(const nib_model *m, const char *keys, const char *values, float *x)
{
    nib_err err = {0};
    nib_graph *g;
    const nib_kv_choice how = {{{nib_kv_find(keys), false}, {nib_kv_find(values), false}}};
    must(nib_graph_new(&g, m, &two, 1, CTX, true, &err), &err);
    must(nib_graph_keep(g, &how, &err), &err);
    must(nib_graph_embed(g, ids, CTX, x, &err), &err);
    for (uint32_t l = 0; l < m->hp.n_layer; l++)
        must(nib_graph_block(g, l, x, 1, CTX, 0, NULL, &err), &err);
    nib_graph_free(g);
}

static double distance(const float *x, const float *y, size_t n)
{
    double sum = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        sum += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
        all += (double)x[i] * x[i];
    }
    return sqrt(sum / all);
}

/* What is written is read; keys and values come out as from a cache with a scale for each head of
 * each token, whose rounding is as fine or finer. Scales that are far too small cut them off. */
static void folders_have_scales(void **state)
{
    (void)state;
    const nib_packing w8 = {.kind = NIB_PACKING_CT_PACKED, .bits = 8, .sym = true};
    const size_t n = (size_t)CTX * tiny.model.hp.n_embd;
    float *x[4];
    for (int i = 0; i < 4; i++) x[i] = nib_alloc(n, sizeof(float));
    for (int per_head = 0; per_head < 3; per_head++) {
        nib_err err = {0};
        nib_log log = {0};
        const nib_ctx ctx = {.threads = 2, .log = &log};
        nib_kv_ranges r;
        nib_job job;
        nib_kv_scales s;
        opened o;
        char name[16];
        snprintf(name, sizeof name, "kv%d", per_head);
        measure(&r, per_head == 1);
        for (size_t i = 0; i < r.n_layer * r.n && per_head == 2; i++) r.of[0][i] /= 64;
        must(nib_kv_ranges_save(&r, scratch("ranges.json"), true, &err), &err);
        nib_job_opts opts = {.model = tiny_llama(),
                             .recipe = {.format = NIB_FORMAT_DIR, .layout = w8},
                             .solve = nib_solve_defaults()};
        char ranges[512], out[512];
        snprintf(ranges, sizeof ranges, "%s", scratch("ranges.json"));
        snprintf(out, sizeof out, "%s", scratch(name));
        opts.kv_ranges = ranges;
        opts.recipe.out = out;
        must(nib_job_open(&job, &opts, &ctx, &err), &err);
        must(nib_job_plan(&job, &ctx, &err), &err);
        must(nib_job_run(&job, &ctx, &err), &err);
        nib_job_close(&job);
        open_model(&o, out);
        const nib_tensor *t = nib_source_find(o.src, "model.layers.1.self_attn.v_scale");
        assert_non_null(t);
        assert_int_equal(t->codec->type, NIB_BF16); /* as the model */
        assert_int_equal(t->n_dims, per_head == 1 ? 3 : 1);
        must(nib_kv_scales_read(&s, &o.model, &err), &err);
        for (size_t i = 0; i < r.n_layer * s.n_head; i++) {
            const size_t at = per_head == 1 ? i : i / s.n_head;
            for (int of = 0; of < 2; of++)
                assert_true(s.of[of][i] == nib_scale_stored(NIB_BF16, r.of[of][at] / 448));
        }
        nib_kv_scales_free(&s);
        run_model(&o.model, "f32", "f32", x[0]);
        run_model(&o.model, "fp8", "fp8", x[1]);
        run_model(&o.model, "fp8-static", "fp8-static", x[2]);
        const double token = distance(x[0], x[1], n), fixed = distance(x[0], x[2], n);
        for (int of = 0; of < 2; of++) { /* of keys alone, of values alone */
            run_model(&o.model, of ? "f32" : "fp8-static", of ? "fp8-static" : "f32", x[3]);
            const double one = distance(x[0], x[3], n);
            if (!(one > 0 && one < 1.1 * fixed)) fail_msg("off by %g, both by %g", one, fixed);
        }
        if (per_head < 2 && !(token < 1.1 * fixed && fixed < 3 * token))
            fail_msg("off by %g with fixed scales, by %g with those of tokens", fixed, token);
        if (per_head == 2) assert_true(fixed > 5 * token);
        close_model(&o);
        nib_kv_ranges_free(&r);
    }
    char *config;
    size_t size;
    nib_err err = {0};
    must(nib_file_slurp(&config, &size, scratch("kv1/config.json"), 1 << 20, &err), &err);
    expect_text(config, "\"kv_cache_scheme\"");
    expect_text(config, "\"attn_head\"");
    nib_free(config);
    for (int i = 0; i < 4; i++) nib_free(x[i]);
}

static void without_scales(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_graph *g;
    nib_kv_choice how = nib_kv_both(nib_kv_find("fp8-static"), false);
    must(nib_graph_new(&g, &tiny.model, &two, 1, CTX, true, &err), &err);
    assert_int_equal(nib_graph_keep(g, &how, &err), NIB_EINVAL);
    expect_text(err.msg, "has no scales for keys and values");
    how.of[1].rotate = true;
    assert_int_equal(nib_graph_keep(g, &how, &err), NIB_EINVAL);
    expect_text(err.msg, "not rotated");
    nib_graph_free(g);
    patch_tensor("kv0", "model.layers.0.self_attn.k_scale", &(uint16_t){0}, 2);
    opened o;
    nib_kv_scales s;
    open_model(&o, scratch("kv0"));
    assert_int_equal(nib_kv_scales_read(&s, &o.model, &err), NIB_EFORMAT);
    expect_text(err.msg, "k_scale': the scale is 0");
    assert_null(s.of[0]);
    close_model(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(largest_of_each_head),
        cmocka_unit_test(files),
        cmocka_unit_test(folders_have_scales),
        cmocka_unit_test(without_scales),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
