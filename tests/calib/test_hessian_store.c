/* SPDX-License-Identifier: MIT */
/* Statistics on disk: what a folder holds, and folders that are damaged, of another model, or not
 * whole. */
#include "base/file.h"
#include "base/mem.h"
#include "calib/hessian_store.h"
#include "tests/calib/tmp.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { WIDE = 512, NARROW = 256, N_INPUTS = 4 }; /* of the demonstration model */

static const nib_role QKV[] = {NIB_ROLE_ATTN_Q, NIB_ROLE_ATTN_K, NIB_ROLE_ATTN_V},
                      OUT[] = {NIB_ROLE_ATTN_OUTPUT}, UP[] = {NIB_ROLE_FFN_GATE, NIB_ROLE_FFN_UP},
                      DOWN[] = {NIB_ROLE_FFN_DOWN};

static nib_source *src;
static nib_model model;
static nib_hessian_store_input input[N_INPUTS];
static float *h[N_INPUTS];
static int32_t ids[64];
static const nib_windows windows = {.id = ids, .n = 4, .n_ctx = 16};

static int open_all(void **state)
{
    nib_err err;
    if (tmp_make(state)) return -1;
    if (nib_source_open(&src, getenv("NIB_TINY"), &err) || nib_model_open(&model, src, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return -1;
    }
    static const size_t cols[N_INPUTS] = {NARROW, NARROW, NARROW, WIDE};
    static const nib_role *const roles[N_INPUTS] = {QKV, OUT, UP, DOWN};
    static const size_t n_roles[N_INPUTS] = {3, 1, 2, 1};
    for (size_t k = 0; k < N_INPUTS; k++) {
        h[k] = nib_alloc(cols[k] * cols[k], sizeof(float));
        for (size_t i = 0; i < cols[k] * cols[k]; i++) h[k][i] = (float)(i + k) + 0.5f;
        input[k] = (nib_hessian_store_input){roles[k], n_roles[k], cols[k], h[k]};
    }
    return 0;
}

static int close_all(void **state)
{
    for (size_t k = 0; k < N_INPUTS; k++) nib_free(h[k]);
    nib_model_close(&model);
    nib_source_close(src);
    return tmp_remove(state);
}

/* A whole folder, made anew; its path. */
static const char *write_all(void)
{
    static char dir[200];
    char cmd[500];
    nib_err err;
    nib_hessian_store_head head;
    snprintf(dir, sizeof dir, "%s", tmp_path("stats"));
    snprintf(cmd, sizeof cmd, "rm -rf '%s' && mkdir '%s'", dir, dir);
    assert_int_equal(system(cmd), 0);
    for (uint32_t l = 0; l < model.hp.n_layer; l++)
        if (nib_hessian_store_write_block(dir, l, input, N_INPUTS, &err)) fail_msg("%s", err.msg);
    if (nib_hessian_store_head_make(&head, &model, &windows, &err) ||
        nib_hessian_store_write_head(dir, &head, &err))
        fail_msg("%s", err.msg);
    return dir;
}

static char *file_in(const char *dir, const char *name)
{
    char *path = nib_path_join(dir, name);
    assert_non_null(path);
    return path;
}

static void refused(const char *dir, nib_code code, const char *part)
{
    nib_hessian_store s;
    nib_err err = {0};
    nib_code rc = nib_hessian_store_open(&s, dir, &model, &err);
    if (!rc) fail_msg("should be refused with '%s'", part);
    tmp_expect(err.msg, part);
    assert_int_equal(rc, code);
    assert_null(s.dir);
}

/* ---- what is written ---- */

/* u64 length, header, then the triangle of each input row by row, inputs by name. */
static void bytes_of_a_block(void **state)
{
    (void)state;
    static const struct {
        size_t input;
        const char *name;
    } order[N_INPUTS] = {
        {1, "attn_output"}, {0, "attn_q+attn_k+attn_v"}, {3, "ffn_down"}, {2, "ffn_gate+ffn_up"}};
    char *path = file_in(write_all(), "block-00001.safetensors"), *data;
    size_t n, at = 0;
    uint64_t length;
    nib_err err;
    assert_int_equal(nib_file_slurp(&data, &n, path, 1 << 24, &err), NIB_OK);
    memcpy(&length, data, 8);
    at = 8 + (size_t)length;
    for (size_t k = 0; k < N_INPUTS; k++) {
        const nib_hessian_store_input *in = &input[order[k].input];
        char entry[100];
        snprintf(entry, sizeof entry, "\"%s\":{\"dtype\":\"F32\",\"shape\":[%zu]", order[k].name,
                 in->cols * (in->cols + 1) / 2);
        char *header = nib_strndup(data + 8, (size_t)length);
        tmp_expect(header, entry);
        nib_free(header);
        for (size_t i = 0; i < in->cols; i++)
            for (size_t j = i; j < in->cols; j++, at += 4)
                if (memcmp(data + at, &in->h[i * in->cols + j], 4))
                    fail_msg("%s: [%zu][%zu] differs", order[k].name, i, j);
    }
    assert_int_equal(at, n);
    assert_int_equal(nib_hessian_store_bytes(input, N_INPUTS), n - 8 - length);
    nib_free(data), nib_free(path);
}

static void read_back(void **state)
{
    (void)state;
    nib_hessian_store s;
    nib_hessian_store_block b;
    nib_err err;
    if (nib_hessian_store_open(&s, write_all(), &model, &err)) fail_msg("%s", err.msg);
    assert_int_equal(s.head.windows, 4);
    assert_int_equal(s.head.n_ctx, 16);
    assert_int_equal(s.head.n_layer, model.hp.n_layer);
    if (nib_hessian_store_block_open(&b, &s, 3, &err)) fail_msg("%s", err.msg);
    assert_int_equal(b.n, N_INPUTS);
    for (size_t k = 0; k < b.n; k++) {
        size_t w = 0;
        while (input[w].role[0] != b.input[k].role[0]) w++;
        const size_t cols = input[w].cols;
        assert_int_equal(b.input[k].n_roles, input[w].n_roles);
        assert_memory_equal(b.input[k].role, input[w].role, input[w].n_roles * sizeof(nib_role));
        assert_int_equal(b.input[k].cols, cols);
        float *back = nib_calloc(cols * cols, sizeof *back);
        if (nib_hessian_store_block_read(&b, k, back, &err)) fail_msg("%s", err.msg);
        for (size_t i = 0; i < cols; i++)
            for (size_t j = 0; j < cols; j++)
                assert_true(back[i * cols + j] == (j < i ? 0 : input[w].h[i * cols + j]));
        nib_free(back);
    }
    nib_hessian_store_block_close(&b);
    nib_hessian_store_close(&s);
}

static void not_finite_is_not_written(void **state)
{
    (void)state;
    nib_err err;
    const float good = h[3][5 * WIDE + 9];
    h[3][5 * WIDE + 9] = INFINITY;
    const char *dir = tmp_path("nan");
    mkdir(dir, 0777);
    assert_int_equal(nib_hessian_store_write_block(dir, 2, input, N_INPUTS, &err), NIB_ENUMERIC);
    tmp_expect(err.msg, "block 2: input of 'ffn_down': second moments are not finite in channel 9");
    h[3][5 * WIDE + 9] = good;
    char *path = file_in(dir, "block-00002.safetensors");
    assert_false(nib_file_exists(path));
    nib_free(path);
}

/* ---- folders that are not right ---- */

static void heads(void **state)
{
    (void)state;
    static const char good[] =
        "{\"format\":\"nibble statistics\",\"version\":1,\"model\":\"0123456789abcdef\","
        "\"text\":\"0123456789abcdef\",\"blocks\":4,\"windows\":4,\"context\":16}";
    static const struct {
        const char *from, *to, *message;
        nib_code code;
    } wrong[] = {
        {"", "", "holds the statistics of another model; 'nibble calibrate --hessians'",
         NIB_EINVAL},
        {"statistics", "statistic", "'format' is not 'nibble statistics'", NIB_EFORMAT},
        {"\"version\":1", "\"version\":2", "'version' is not 1", NIB_EFORMAT},
        {"0123", "012", "is no fingerprint of 16 hex digits", NIB_EFORMAT},
        {"0123", "0x23", "is no fingerprint of 16 hex digits", NIB_EFORMAT},
        {"\"blocks\":4", "\"blocks\":0", "'blocks' is missing or no number from 1 to", NIB_EFORMAT},
        {"\"windows\":4", "\"windows\":-4", "'windows' is missing or no number from 1 to",
         NIB_EFORMAT},
        {"\"context\":16", "\"contexts\":16", "'context' is missing or no number from 1 to",
         NIB_EFORMAT},
        {"}", "", "statistics.json: ", NIB_EFORMAT},
    };
    const char *dir = write_all();
    char *path = file_in(dir, NIB_STATS_HEAD_FILE);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *at = strstr(good, wrong[i].from);
        FILE *f = fopen(path, "w");
        assert_true(f && at);
        fprintf(f, "%.*s%s%s", (int)(at - good), good, wrong[i].to, at + strlen(wrong[i].from));
        fclose(f);
        refused(dir, wrong[i].code, wrong[i].message);
    }
    assert_int_equal(remove(path), 0);
    refused(dir, NIB_EIO, "is no folder of statistics; 'nibble calibrate --hessians' makes one");
    refused(path, NIB_EIO, "is no folder of statistics; 'nibble calibrate --hessians' makes one");
    nib_free(path);
}

/* Block 1 with other inputs; the reason it is refused for. */
static void block_refused(const nib_hessian_store_input *in, size_t n, const char *message)
{
    nib_err err;
    const char *dir = write_all();
    char *path = file_in(dir, "block-00001.safetensors");
    assert_int_equal(remove(path), 0);
    nib_free(path);
    if (nib_hessian_store_write_block(dir, 1, in, n, &err)) fail_msg("%s", err.msg);
    refused(dir, NIB_EFORMAT, message);
}

static void blocks(void **state)
{
    (void)state;
    static const nib_role norm[] = {NIB_ROLE_ATTN_NORM}, outside[] = {NIB_ROLE_OUTPUT},
                          q_only[] = {NIB_ROLE_ATTN_Q},
                          mixed[] = {NIB_ROLE_ATTN_OUTPUT, NIB_ROLE_FFN_DOWN};
    nib_hessian_store_input in[N_INPUTS + 1];
    memcpy(in, input, sizeof input);
    block_refused(in, 3, "block-00001.safetensors: the input of 'ffn_down' is missing");
    in[4] = (nib_hessian_store_input){norm, 1, NARROW, h[0]};
    block_refused(in, 5, "tensor 'attn_norm': 'attn_norm' names no matrix of the block");
    in[4].role = outside;
    block_refused(in, 5, "tensor 'output': 'output' names no matrix of the block");
    in[4].role = q_only;
    block_refused(in, 5, "the input of 'attn_q' is there twice");
    in[3].cols = NARROW;
    block_refused(in, 4,
                  "tensor 'ffn_down': should be f32 [131328], the triangle of the moments "
                  "of 512 channels");
    in[3] = (nib_hessian_store_input){mixed, 2, WIDE, h[3]};
    in[1] = in[0];
    block_refused(in + 1, 3, "tensor 'attn_output+ffn_down': should be f32 [32896]");
}

static void files(void **state)
{
    (void)state;
    const char *dir = write_all();
    char *path = file_in(dir, "block-00003.safetensors");
    assert_int_equal(truncate(path, 100000), 0);
    refused(dir, NIB_EFORMAT, "block-00003.safetensors");
    assert_int_equal(remove(path), 0);
    refused(dir, NIB_EIO, "block-00003.safetensors: No such file");
    nib_free(path);
}

/* Values are only looked at when a block is read. */
static void values(void **state)
{
    (void)state;
    static const struct {
        float value;
        const char *message;
    } wrong[] = {
        {NAN, "tensor 'ffn_gate+ffn_up': the moment of channels 255 and 255 is not finite"},
        {-1, "tensor 'ffn_gate+ffn_up': the square of channel 255 is below 0"}};
    float *back = nib_alloc(NARROW * NARROW, sizeof *back);
    for (size_t i = 0; i < 2; i++) {
        nib_hessian_store s;
        nib_hessian_store_block b;
        nib_err err;
        const char *dir = write_all();
        char *path = file_in(dir, "block-00000.safetensors");
        FILE *f = fopen(path, "r+b");
        assert_true(f && !fseek(f, -4, SEEK_END));
        assert_int_equal(fwrite(&wrong[i].value, 4, 1, f), 1);
        fclose(f);
        nib_free(path);
        if (nib_hessian_store_open(&s, dir, &model, &err)) fail_msg("%s", err.msg);
        if (nib_hessian_store_block_open(&b, &s, 0, &err)) fail_msg("%s", err.msg);
        assert_int_equal(nib_hessian_store_block_read(&b, 3, back, &err), NIB_ENUMERIC);
        tmp_expect(err.msg, wrong[i].message);
        nib_hessian_store_block_close(&b);
        nib_hessian_store_close(&s);
    }
    nib_free(back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_of_a_block),
        cmocka_unit_test(read_back),
        cmocka_unit_test(not_finite_is_not_written),
        cmocka_unit_test(heads),
        cmocka_unit_test(blocks),
        cmocka_unit_test(files),
        cmocka_unit_test(values),
    };
    return cmocka_run_group_tests_name("stats", tests, open_all, close_all);
}
