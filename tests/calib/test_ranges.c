/* SPDX-License-Identifier: MIT */
/* Ranges of activations: measured on the demonstration model, written, read back, and what a reader
 * refuses. */
#include "base/cpu.h"
#include "base/file.h"
#include "base/linalg.h"
#include "calib/input_ranges.h"
#include "calib/pass.h"
#include "tests/calib/tmp.h"

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

/* Windows of 256 run eight at a time: two batches, the last one short. */
enum { CTX = 256, WINDOWS = 11, INPUTS = 4 };

static nib_source *src;
static nib_model model;
static nib_ctx ctx = {.threads = 2};
static nib_err err;
static int32_t ids[WINDOWS * CTX];
static const nib_windows windows = {.id = ids, .n = WINDOWS, .n_ctx = CTX};
static const nib_windows one_window = {.id = ids, .n = 1, .n_ctx = CTX};

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

/* ---- measuring ---- */

typedef struct {
    float min, max;
    uint64_t values;
} plain;

static nib_code look_plainly(void *arg, const nib_linear_input *in, nib_err *e)
{
    const float *x = in->x;
    const size_t rows = in->rows, cols = in->cols;
    plain(*seen)[NIB_ROLE_COUNT] = arg;
    (void)e;
    for (size_t k = 0; k < in->n_roles; k++) {
        plain *p = &seen[in->layer][in->role[k]];
        for (size_t i = 0; i < rows * cols; i++) {
            if (x[i] < p->min) p->min = x[i];
            if (x[i] > p->max) p->max = x[i];
        }
        p->values += rows * cols;
    }
    return NIB_OK;
}

static void every_weight_has_what_a_plain_loop_sees(void **state)
{
    (void)state;
    static plain seen[16][NIB_ROLE_COUNT];
    static const nib_role linear[] = {NIB_ROLE_ATTN_Q,      NIB_ROLE_ATTN_K,   NIB_ROLE_ATTN_V,
                                      NIB_ROLE_ATTN_OUTPUT, NIB_ROLE_FFN_GATE, NIB_ROLE_FFN_UP,
                                      NIB_ROLE_FFN_DOWN};
    nib_ranges r;
    assert_true(model.hp.n_layer <= 16);
    OK(nib_pass_run(&(nib_pass){.observer = {.linear_input = look_plainly, .arg = seen}}, &model,
                    &windows, 0, &ctx, &err));
    OK(nib_measure_ranges(&r, &model, &windows, NIB_RANGE_MINMAX, 0, &ctx, &err));
    assert_int_equal(r.n, INPUTS * model.hp.n_layer);
    for (size_t i = 0; i < r.n; i++) {
        const nib_input_range *in = &r.input[i];
        const plain *p = &seen[in->layer][in->role[0]];
        assert_int_equal(in->layer, i / INPUTS);
        assert_int_equal(in->values, p->values);
        assert_int_equal(in->batches, WINDOWS);
        assert_true(in->min == p->min && in->max == p->max);
    }
    for (uint32_t layer = 0; layer < model.hp.n_layer; layer++) {
        for (size_t i = 0; i < sizeof linear / sizeof *linear; i++) {
            const plain *p = &seen[layer][linear[i]];
            const nib_range *range = nib_ranges_find(&r, layer, linear[i]);
            assert_non_null(range);
            assert_true(range->lo == p->min && range->hi == p->max);
        }
        assert_null(nib_ranges_find(&r, layer, NIB_ROLE_ATTN_NORM));
    }
    assert_null(nib_ranges_find(&r, model.hp.n_layer, NIB_ROLE_ATTN_Q));
    nib_ranges_free(&r);
}

/* The file that a measurement writes. */
static char *measured_text(const nib_windows *w, nib_range_method m, int threads, size_t *n)
{
    const nib_ctx how = {.threads = threads, .cpu = ctx.cpu};
    const char *path = tmp_path("ranges.json");
    nib_ranges r;
    char *text;
    OK(nib_measure_ranges(&r, &model, w, m, 99.9, &how, &err));
    OK(nib_ranges_save(&r, path, true, &err));
    nib_ranges_free(&r);
    OK(nib_file_slurp(&text, n, path, 1 << 24, &err));
    return text;
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    size_t n_one, n_seven;
    char *one = measured_text(&windows, NIB_RANGE_KL, 1, &n_one);
    char *seven = measured_text(&windows, NIB_RANGE_KL, 7, &n_seven);
    assert_int_equal(n_one, n_seven);
    assert_memory_equal(one, seven, n_one);
    nib_free(one);
    nib_free(seven);
}

/* A model with `bytes` in the place of the second block's norm of the attention's input. */
static void refuses_broken_model(const char *name, const void *bytes, size_t n, const char *part)
{
    nib_source *bad;
    nib_model broken;
    nib_ranges r;
    const nib_tensor *t = nib_source_find(src, "model.layers.1.input_layernorm.weight");
    assert_non_null(t);
    assert_true(t->codec->type == NIB_BF16 && n <= t->bytes);
    const char *path = tmp_patched(name, getenv("NIB_TINY"), (long)t->offset, bytes, n);
    OK(nib_source_open(&bad, path, &err));
    OK(nib_model_open(&broken, bad, &err));
    assert_int_equal(nib_measure_ranges(&r, &broken, &one_window, NIB_RANGE_KL, 0, &ctx, &err),
                     NIB_ENUMERIC);
    tmp_expect(err.msg, part);
    tmp_expect(err.msg, "the input of 'blk.1.attn_q.weight'");
    assert_null(r.input);
    nib_model_close(&broken);
    nib_source_close(bad);
}

static void inputs_without_a_range_are_named(void **state)
{
    (void)state;
    static const uint8_t zeros[512];
    assert_int_equal(model.hp.n_embd * 2, sizeof zeros);
    refuses_broken_model("nan", "\0\0\xC0\x7F", 4, "NaN in row 0, channel 1");
    refuses_broken_model("zero", zeros, sizeof zeros, "only zeros were observed");
}

static void no_windows_and_no_memory(void **state)
{
    (void)state;
    nib_ranges r;
    const nib_windows none = {.id = ids, .n_ctx = CTX};
    assert_int_equal(nib_measure_ranges(&r, &model, &none, NIB_RANGE_KL, 0, &ctx, &err),
                     NIB_EINVAL);
    for (long n = 1; n <= 3; n++) {
        nib_mem_fail_at(n);
        assert_int_equal(nib_measure_ranges(&r, &model, &windows, NIB_RANGE_KL, 0, &ctx, &err),
                         NIB_ENOMEM);
        assert_null(r.input);
    }
    nib_mem_fail_at(0);
}

/* ---- reading ---- */

static void what_is_written_is_read(void **state)
{
    (void)state;
    char path[128];
    nib_ranges a, b;
    snprintf(path, sizeof path, "%s", tmp_path("same.json"));
    OK(nib_measure_ranges(&a, &model, &one_window, NIB_RANGE_PERCENTILE, 99.9, &ctx, &err));
    for (int m = 0; m < NIB_RANGE_METHODS; m++) {
        a.method = (nib_range_method)m;
        OK(nib_ranges_save(&a, path, true, &err));
        OK(nib_ranges_load(&b, path, &model, &err));
        assert_true(a.on.model == b.on.model && a.on.text == b.on.text && a.method == b.method);
        assert_true(a.n == b.n && a.on.n_windows == b.on.n_windows && a.on.n_ctx == b.on.n_ctx);
        assert_true(b.percentile == (m == NIB_RANGE_PERCENTILE ? 99.9 : 0));
        for (size_t i = 0; i < a.n; i++) {
            const nib_input_range *p = &a.input[i], *q = &b.input[i];
            assert_true(p->layer == q->layer && p->n_roles == q->n_roles);
            assert_memory_equal(p->role, q->role, p->n_roles * sizeof *p->role);
            assert_true(p->values == q->values && p->batches == q->batches);
            assert_true(p->min == q->min && p->max == q->max);
            assert_memory_equal(&p->range, &q->range, sizeof p->range);
        }
        nib_ranges_free(&b);
    }
    nib_ranges_free(&a);
}

/* `text` with the first `from` replaced. */
static char *edited(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    if (!at) fail_msg("'%s' is not in the file", from);
    size_t before = (size_t)(at - text), n = strlen(text) + strlen(to) + 1;
    char *out = nib_alloc(n, 1);
    snprintf(out, n, "%.*s%s%s", (int)before, text, to, at + strlen(from));
    return out;
}

/* A good file, without white space. */
static char *plain_text(void)
{
    size_t n;
    char *text = measured_text(&one_window, NIB_RANGE_PERCENTILE, 2, &n);
    nib_json *j;
    OK(nib_json_parse(&j, text, n, &err));
    nib_free(text);
    text = nib_json_print(j, false);
    assert_non_null(text);
    nib_json_free(j);
    return text;
}

static void refuses(const char *text, const char *part)
{
    nib_ranges r;
    const char *path = tmp_text("bad.json", text);
    if (nib_ranges_load(&r, path, &model, &err) != NIB_EFORMAT)
        fail_msg("not refused, though: %s", part);
    tmp_expect(err.msg, "bad.json: ");
    tmp_expect(err.msg, part);
    assert_null(r.input);
}

/* The value of the first `"key":`, up to the comma or bracket after it. */
static void value_of(char *out, size_t room, const char *text, const char *key)
{
    char name[64];
    snprintf(name, sizeof name, "\"%s\":", key);
    const char *at = strstr(text, name);
    assert_non_null(at);
    snprintf(out, room, "%.*s", (int)(strlen(name) + strcspn(at + strlen(name), ",}")), at);
}

static void wrong_values_are_refused_by_key(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *part;
    } cases[] = {
        {"format", "\"imatrix\"", "'format' should be"},
        {"format", "7", "'format' should be"},
        {"version", "2", "'version' should be 1"},
        {"model", "\"0123\"", "'model' is missing or not 16 hexadecimal digits"},
        {"model", "\"0123456789abcdeg\"", "'model' is missing or not 16 hexadecimal digits"},
        {"model", "\"0123456789abcdef\"", "measured on another model"},
        {"count", "0", "'windows': 'count'"},
        {"tokens", "2.5", "'windows': 'tokens'"},
        {"fingerprint", "null", "'windows': 'fingerprint'"},
        {"method", "\"median\"", "'method' should be minmax, average"},
        {"percentile", "100", "'percentile' should be"},
        {"layer", "-1", "'inputs', entry 0: 'layer' should be a number below"},
        {"layer", "400", "'inputs', entry 0: 'layer' should be a number below"},
        {"layer", "3", "'blk.0.attn_q.weight' is not of layer 3"},
        {"hf", "\"lm_head.weight\"", "'blk.0.attn_q.weight' should be"},
        {"hf", "{}", "a weight should have its names"},
        {"gguf", "\"blk.0.attn_q.bias\"", "is no weight of a block"},
        {"gguf", "\"output.weight\"", "is no weight of a block"},
        {"values", "-4", "'values'"},
        {"batches", "0", "'batches'"},
        {"min", "1e39", "'min' is missing or no number within float32"},
        {"min", "\"low\"", "'min'"},
        {"max", "-1e9", "is above 'max'"},
        {"threshold", "0", "'threshold' is 0 and should be above 0"},
        {"scale", "0", "'symmetric': 'scale' is 0 and should be above 0"},
        {"scale", "-1", "'symmetric': 'scale' is -1 and should be above 0"},
        {"scale", "1e-60", "'symmetric': 'scale' is 0 and should be above 0"},
        {"lo", "1", "'asymmetric': 'lo' 1 and 'hi'"},
        {"hi", "-1", "do not enclose 0"},
        {"zero_point", "128", "'zero_point' should be a whole number from -128 to 127"},
        {"zero_point", "0.5", "'zero_point'"},
    };
    char *good = plain_text();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char from[128], to[128];
        value_of(from, sizeof from, good, cases[i].key);
        snprintf(to, sizeof to, "\"%s\":%s", cases[i].key, cases[i].value);
        char *bad = edited(good, from, to);
        refuses(bad, cases[i].part);
        nib_free(bad);
        snprintf(to, sizeof to, "\"x-%s\":0", cases[i].key); /* and when it is not there at all */
        bad = edited(good, from, to);
        nib_ranges r;
        assert_int_equal(nib_ranges_load(&r, tmp_text("bad.json", bad), &model, &err), NIB_EFORMAT);
        nib_free(bad);
    }
    nib_free(good);
}

static void wrong_lists_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *part;
    } cases[] = {
        {"\"inputs\":[", "\"inputs\":7,\"x\":[", "'inputs' should be a list of at most"},
        {"\"inputs\":[", "\"inputs\":[7,", "'inputs', entry 0: 'layer'"},
        {"\"weights\":[", "\"weights\":[],\"x\":[", "'weights' should be a list of names"},
        {"\"weights\":[", "\"weights\":[3,", "a weight should have its names"},
        {"self_attn.k_proj.weight\",\"gguf\":\"blk.0.attn_k.weight",
         "self_attn.q_proj.weight\",\"gguf\":\"blk.0.attn_q.weight", "is listed twice"},
        {"\"weights\":[",
         "\"weights\":[{\"hf\":\"model.layers.0.self_attn.o_proj.weight\","
         "\"gguf\":\"blk.0.attn_output.weight\"},",
         "'blk.0.attn_q.weight' does not read the same as the weight before it"},
        {"\"layer\":1", "\"layer\":0", "is not of layer 0"},
        {"\"layer\":2", "\"layer\":0", "'inputs', entry 8: 'layer' should be"},
        {"\"windows\"", "\"pictures\"", "'windows': 'count'"},
        {"\"symmetric\"", "\"s\"", "'symmetric': 'scale'"},
        {"\"asymmetric\"", "\"a\"", "'asymmetric': 'lo'"},
        {"{", "[", "bad.json: JSON line 1"},
    };
    char *good = plain_text();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *bad = edited(good, cases[i].from, cases[i].to);
        refuses(bad, cases[i].part);
        nib_free(bad);
    }
    char *last = strrchr(good, '{'); /* the last entry's "asymmetric" */
    while (strncmp(last, "{\"layer\"", 8) != 0) last--;
    snprintf(last - 1, 3, "]}");
    refuses(good, "'inputs' has no entry for weight 'model.layers.3.mlp.down_proj.weight'");
    nib_free(good);
}

static void a_file_that_is_not_there(void **state)
{
    (void)state;
    nib_ranges r;
    assert_int_equal(nib_ranges_load(&r, tmp_path("none.json"), &model, &err), NIB_EIO);
    assert_null(r.input);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_weight_has_what_a_plain_loop_sees),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(inputs_without_a_range_are_named),
        cmocka_unit_test(no_windows_and_no_memory),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(wrong_values_are_refused_by_key),
        cmocka_unit_test(wrong_lists_are_refused),
        cmocka_unit_test(a_file_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
