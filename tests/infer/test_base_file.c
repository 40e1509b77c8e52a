/* SPDX-License-Identifier: MIT */
/* What a base model predicts, on disk. llama.cpp's layout is put together here byte by byte as its
 * description has it: reading gives the log-probabilities that stand there, writing the same bytes;
 * and every number in such a file may be wrong. */
#include "infer/base_file.h"

#include "base/half.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { CTX = 6, CHUNKS = 2, VOCAB = 7, PER_CHUNK = CTX - 1 - CTX / 2, N = CHUNKS * PER_CHUNK };
enum { HEAD = 20, RECORD = 2 * (VOCAB + 1 + 4), FILE_BYTES = HEAD + 4 * CHUNKS * CTX + N * RECORD };

static char path[] = "/tmp/nib-base-XXXXXX";

static const int32_t text[CHUNKS * CTX] = {1, 2, 3, 4, 5, 6, 0, 6, 5, 4, 3, 2};
/* Logits of scored position 0: 20 below the largest is further than the format reaches; of position
 * 1 all are equal, so that no step is left. */
static const float logits[N][VOCAB] = {{3, -17, 2.5f, 0, 1, -1, 2},
                                       {4, 4, 4, 4, 4, 4, 4},
                                       {0, 1, 2, 3, 4, 5, 6},
                                       {9, 8, 7, 0, 0, 1, 2}};

static uint8_t *put(uint8_t *to, const void *data, size_t n)
{
    memcpy(to, data, n); /* the machine that runs this is little-endian */
    return to + n;
}

static uint8_t *put_i32(uint8_t *to, int32_t v)
{
    return put(to, &v, 4);
}

/* scale = (max - min) / 65535, min at least max - 16; code = (l - min) / scale to even. */
static uint8_t *put_record(uint8_t *to, const float *l)
{
    float max = l[0], min = l[0];
    double sum = 0;
    for (int i = 1; i < VOCAB; i++) {
        if (l[i] > max) max = l[i];
        if (l[i] < min) min = l[i];
    }
    if (min < max - 16) min = max - 16;
    for (int i = 0; i < VOCAB; i++) sum += exp((double)(l[i] - max));
    const float scale = (max - min) / 65535, least = min - max - (float)log(sum);
    to = put(put(to, &scale, 4), &least, 4);
    for (int i = 0; i < VOCAB + 1; i++) {
        uint16_t code = 0; /* the last one fills up an odd vocabulary */
        if (i < VOCAB && l[i] > min) code = (uint16_t)rint((double)(l[i] - min) / (double)scale);
        to = put(to, &code, 2);
    }
    return to;
}

static size_t golden(uint8_t file[FILE_BYTES])
{
    uint8_t *to = put(file, "_logits_", 8);
    to = put_i32(put_i32(put_i32(to, CTX), VOCAB), CHUNKS);
    for (int i = 0; i < CHUNKS * CTX; i++) to = put_i32(to, text[i]);
    for (int i = 0; i < N; i++) to = put_record(to, logits[i]);
    return (size_t)(to - file);
}

/* The other form: the likeliest 5 of each position. */
enum { TOP = 5, TOP_RECORD = 8 + 8 * TOP, TOP_BYTES = 32 + 4 * CHUNKS * CTX + N * TOP_RECORD };

static void golden_top(uint8_t file[TOP_BYTES])
{
    uint8_t *to = put(file, "nibbleKL", 8);
    to = put_i32(put_i32(put_i32(put_i32(to, 1), 0), CTX), VOCAB);
    to = put_i32(put_i32(to, CHUNKS), TOP);
    for (int i = 0; i < CHUNKS * CTX; i++) to = put_i32(to, text[i]);
    for (int i = 0; i < N; i++) {
        const float next = -1.5f, rest = 0.1f, p[TOP] = {0.4f, 0.2f, 0.1f, 0.1f, 0.1f};
        to = put(put(to, &next, 4), &rest, 4);
        for (int k = 0; k < TOP; k++) to = put_i32(to, TOP - k);
        for (int k = 0; k < TOP; k++) {
            const float log_p = logf(p[k]);
            to = put(to, &log_p, 4);
        }
    }
}

static void store(const uint8_t *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

static nib_code read_one(const nib_base_file *f, size_t at, float *logit, int32_t *id,
                         nib_prediction *p, nib_err *err)
{
    nib_buf raw = {0};
    const int32_t target = 0;
    nib_code rc = nib_base_file_read(f, at, 1, &target, logit, id, p, &raw, err);
    nib_buf_free(&raw);
    return rc;
}

static void reads_llama_cpps(void **state)
{
    (void)state;
    uint8_t file[FILE_BYTES];
    nib_err err = {0};
    nib_base_file f;
    nib_prediction p;
    float l[VOCAB];
    assert_int_equal(golden(file), FILE_BYTES);
    store(file, FILE_BYTES);
    assert_true(nib_base_file_is(path));
    must(nib_base_file_open(&f, path, &err), &err);
    assert_int_equal(f.n_ctx, CTX);
    assert_int_equal(f.n_vocab, VOCAB);
    assert_int_equal(f.n_chunks, CHUNKS);
    assert_int_equal(f.per_chunk, PER_CHUNK);
    assert_memory_equal(f.id, text, sizeof text);
    for (int i = 0; i < N; i++) {
        double sum = 0;
        must(read_one(&f, (size_t)i, l, NULL, &p, &err), &err);
        for (int k = 0; k < VOCAB; k++) sum += exp((double)logits[i][k]);
        for (int k = 0; k < VOCAB; k++) {
            const double want =
                fmax((double)logits[i][k] - log(sum), (i ? -99 : 3 - 16 - log(sum)));
            /* half a step of 16 / 65535, and f32 */
            assert_true(fabs((double)p.logit[k] - p.log_sum - want) < 1.3e-4);
        }
        assert_true(p.nll == -(double)p.logit[0] && p.least == -16 && !p.id);
    }
    nib_base_file_close(&f);
}

/* Chunks as nib_chunks_take() would make them. */
static nib_chunks chunks(nib_ppl_protocol protocol)
{
    return (nib_chunks){.protocol = protocol,
                        .n_ctx = CTX,
                        .n_chunks = CHUNKS,
                        .ids = {.id = (int32_t *)text, .n = CHUNKS * CTX}};
}

static void save(size_t top, nib_ppl_protocol protocol)
{
    nib_err err = {0};
    nib_base_writer w;
    const nib_chunks c = chunks(protocol);
    must(nib_base_writer_open(&w, path, true, top, &err), &err);
    must(nib_base_writer_begin(&w, &c, VOCAB, &err), &err);
    for (int i = 0; i < N; i++)
        must(nib_base_writer_add(&w, nib_ops_get(0), logits[i], 3, &err), &err);
    must(nib_base_writer_commit(&w, &err), &err);
}

static void writes_llama_cpps(void **state)
{
    (void)state;
    uint8_t file[FILE_BYTES];
    nib_err err = {0};
    char *got;
    size_t n;
    golden(file);
    save(0, NIB_PPL_LLAMACPP);
    must(nib_file_slurp(&got, &n, path, 1 << 20, &err), &err);
    assert_int_equal(n, FILE_BYTES);
    assert_memory_equal(got, file, HEAD + sizeof text);
    for (int i = 0; i < N; i++) {
        const size_t at = HEAD + sizeof text + (size_t)i * RECORD;
        float scale[2], least[2];
        memcpy(&scale[0], got + at, 4), memcpy(&scale[1], file + at, 4);
        memcpy(&least[0], got + at + 4, 4), memcpy(&least[1], file + at + 4, 4);
        assert_true(scale[0] == scale[1] && fabsf(least[0] - least[1]) < 1e-5f);
        for (int k = 0; k < VOCAB + 1; k++) {
            uint16_t a, b;
            memcpy(&a, got + at + 8 + 2 * k, 2), memcpy(&b, file + at + 8 + 2 * k, 2);
            assert_true(abs((int)a - (int)b) <= 1); /* times 1 / scale in f32, not divided */
        }
    }
    nib_free(got);
}

static void likeliest_and_rest(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_base_file f;
    nib_prediction p;
    float l[VOCAB];
    int32_t id[VOCAB];
    save(TOP, NIB_PPL_LLAMACPP);
    must(nib_base_file_open(&f, path, &err), &err);
    assert_memory_equal(f.id, text, sizeof text);
    for (int i = 0; i < N; i++) {
        double sum = 0, rest = 1;
        must(read_one(&f, (size_t)i, l, id, &p, &err), &err);
        for (int k = 0; k < VOCAB; k++) sum += exp((double)logits[i][k]);
        for (int k = 0; k < TOP; k++) {
            const double want = (double)logits[i][p.id[k]] - log(sum);
            assert_true(fabs((double)p.logit[k] - want) < 1e-5);
            if (k) assert_true(p.logit[k] <= p.logit[k - 1]);
            for (int m = 0; m < k; m++) assert_int_not_equal(p.id[m], p.id[k]);
            rest -= exp(want);
        }
        assert_true(fabs(p.rest - rest) < 1e-6);
        assert_true(fabs(p.nll - (log(sum) - (double)logits[i][3])) < 1e-5);
    }
    assert_int_equal(id[0], 0); /* of the last position {9, 8, 7, 0, 0, 1, 2} */
    assert_int_equal(id[3], 6);
    nib_base_file_close(&f);
}

static void what_a_form_does_not_hold(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_base_writer w;
    const nib_chunks c = chunks(NIB_PPL_WINDOW);
    must(nib_base_writer_open(&w, path, true, 0, &err), &err);
    assert_int_equal(nib_base_writer_begin(&w, &c, VOCAB, &err), NIB_EINVAL);
    assert_non_null(strstr(err.msg, "protocol llama.cpp, not of window"));
    nib_base_writer_abort(&w);
    must(nib_base_writer_open(&w, path, true, VOCAB + 1, &err), &err);
    assert_int_equal(nib_base_writer_begin(&w, &c, VOCAB, &err), NIB_EINVAL);
    nib_base_writer_abort(&w);
}

/* With 4 bytes at `at` changed to v, opening fails, or reading the first record; it says `says`. */
static void refuses(const uint8_t *good, size_t n, size_t at, const void *v, const char *says)
{
    uint8_t bad[1024];
    nib_err err = {0};
    nib_base_file f;
    nib_prediction p;
    float l[VOCAB];
    int32_t id[VOCAB];
    assert_true(n <= sizeof bad);
    memcpy(bad, good, n);
    if (v) memcpy(bad + at, v, 4);
    store(bad, v ? n : at);
    nib_code rc = nib_base_file_open(&f, path, &err);
    if (!rc) {
        rc = read_one(&f, 0, l, id, &p, &err);
        nib_base_file_close(&f);
    }
    if (rc != NIB_EFORMAT || !strstr(err.msg, says))
        fail_msg("at %zu: code %d, %s", at, rc, rc ? err.msg : "accepted");
}

static void refuses_number(const uint8_t *good, size_t n, size_t at, int32_t v, const char *says)
{
    refuses(good, n, at, &v, says);
}

static void refuses_float(const uint8_t *good, size_t n, size_t at, float v, const char *says)
{
    refuses(good, n, at, &v, says);
}

static void hostile(void **state)
{
    (void)state;
    uint8_t a[FILE_BYTES], b[TOP_BYTES];
    nib_err err = {0};
    nib_base_file f;
    golden(a);
    golden_top(b);
    store(b, sizeof b);
    must(nib_base_file_open(&f, path, &err), &err);
    nib_base_file_close(&f);
    for (size_t n = 0; n < sizeof a; n += 3) refuses(a, sizeof a, n, NULL, path);
    for (size_t n = 0; n < sizeof b; n += 3) refuses(b, sizeof b, n, NULL, path);
    refuses_number(a, sizeof a, 0, 0, "neither");
    refuses_number(a, sizeof a, 8, 3, "context of 3");
    refuses_number(a, sizeof a, 8, -1, "context");
    refuses_number(a, sizeof a, 8, 1 << 20, "bytes, which is not");
    refuses_number(a, sizeof a, 12, 1, "vocabulary of 1");
    refuses_number(a, sizeof a, 12, 1 << 24, "bytes, which is not");
    refuses_number(a, sizeof a, 16, 0, "0 chunks");
    refuses_number(a, sizeof a, 16, INT32_MAX, "bytes, which is not");
    refuses_number(a, sizeof a, HEAD, VOCAB, "token 0 is 7");
    refuses_number(a, sizeof a, HEAD + 4, -1, "token 1 is -1");
    const size_t record = HEAD + sizeof text;
    refuses_float(a, sizeof a, record, NAN, "record 0: log-probabilities");
    refuses_float(a, sizeof a, record, -1, "record 0: log-probabilities");
    refuses_float(a, sizeof a, record, 1, "record 0: log-probabilities");
    refuses_float(a, sizeof a, record + 4, -INFINITY, "record 0: log-probabilities");
    refuses_float(a, sizeof a, record + 4, 1, "record 0: log-probabilities");

    refuses_number(b, sizeof b, 8, 2, "version 2");
    refuses_number(b, sizeof b, 12, 2, "protocol 2");
    refuses_number(b, sizeof b, 28, 4, "4 tokens for each position");
    refuses_number(b, sizeof b, 28, 8, "8 tokens for each position");
    const size_t top = 32 + sizeof text;
    refuses_float(b, sizeof b, top, 0.5f, "add up");
    refuses_float(b, sizeof b, top, NAN, "add up");
    refuses_float(b, sizeof b, top + 4, -0.1f, "add up");
    refuses_float(b, sizeof b, top + 4, 0.3f, "add up");
    refuses_number(b, sizeof b, top + 8, VOCAB, "token 7");
    refuses_number(b, sizeof b, top + 8, -1, "token -1");
    refuses_float(b, sizeof b, top + 8 + 4 * TOP + 4, -0.1f, "at place 1");
    refuses_float(b, sizeof b, top + 8 + 4 * TOP, NAN, "at place 0");
    refuses_float(b, sizeof b, top + 8 + 4 * TOP, 0.5f, "at place 0");
}

static int set_up(void **state)
{
    (void)state;
    const int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state)
{
    (void)state;
    return remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_llama_cpps),
        cmocka_unit_test(writes_llama_cpps),
        cmocka_unit_test(likeliest_and_rest),
        cmocka_unit_test(what_a_form_does_not_hold),
        cmocka_unit_test(hostile),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
