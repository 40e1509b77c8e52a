/* SPDX-License-Identifier: MIT */
/* The solver against other implementations of GPTQ: the same codes, the same output error.
 *
 * Files: tests/golden/gptq_quant, tests/golden/gptq_variants (see their READMEs). */
#include "base/cpu.h"
#include "base/linalg.h"
#include "base/mem.h"
#include "formats/source.h"
#include "quant/codec_int.h"
#include "quant/gptq.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static const char *golden_dir;

typedef struct {
    const char *name, *inputs;
    unsigned bits;
    size_t group; /* 0: the whole row */
    bool sym, search;
    nib_order order;
    nib_params_when when;
    double damp;
    size_t lazy;
    double same_codes, error_within; /* what is wanted */
} golden_case;

/* ---- tensors ---- */

static nib_source *open_vector(const char *name)
{
    char path[512];
    nib_source *s;
    nib_err err = {0};
    snprintf(path, sizeof path, "%s/%s.safetensors", golden_dir, name);
    if (nib_source_open(&s, path, &err)) fail_msg("%s", err.msg);
    return s;
}

static void *read_tensor(const nib_source *s, const char *name, size_t bytes)
{
    const nib_tensor *t = nib_source_find(s, name);
    nib_err err = {0};
    assert_non_null(t);
    if (bytes) assert_int_equal(t->bytes, bytes);
    void *p = nib_alloc((size_t)t->bytes, 1);
    assert_non_null(p);
    if (nib_source_read(s, t, 0, p, (size_t)t->bytes, &err)) fail_msg("%s", err.msg);
    return p;
}

/* The second moments: as stored, or of the calibration rows. */
static float *read_moments(const nib_source *s, size_t cols)
{
    if (nib_source_find(s, "H")) return read_tensor(s, "H", cols * cols * sizeof(float));
    const size_t rows = (size_t)nib_tensor_elems(nib_source_find(s, "X")) / cols;
    float *x = read_tensor(s, "X", 0), *h = nib_alloc(cols * cols, sizeof *h);
    for (size_t i = 0; i < cols; i++)
        for (size_t j = 0; j < cols; j++) {
            double sum = 0;
            for (size_t r = 0; r < rows; r++) sum += (double)x[r * cols + i] * x[r * cols + j];
            h[i * cols + j] = (float)sum;
        }
    nib_free(x);
    return h;
}

/* ---- comparison ---- */

/* Sum over the rows of (w-q)' H (w-q), plainly. */
static double output_error(const float *w, const float *q, const float *h, size_t rows, size_t cols)
{
    double error = 0;
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < cols; i++) {
            double g = 0;
            for (size_t j = 0; j < cols; j++)
                g += (double)h[i * cols + j] * ((double)w[r * cols + j] - q[r * cols + j]);
            error += g * ((double)w[r * cols + i] - q[r * cols + i]);
        }
    return error;
}

/* What the reference's file stands for. */
static float *reference_values(const nib_source *s, const uint8_t *code, size_t rows, size_t cols)
{
    if (nib_source_find(s, "Q")) return read_tensor(s, "Q", rows * cols * sizeof(float));
    const size_t groups = (size_t)nib_tensor_cols(nib_source_find(s, "scale"));
    float *q = nib_alloc(rows * cols, sizeof *q);
    float *scale = read_tensor(s, "scale", rows * groups * 4);
    float *zero = read_tensor(s, "zero", rows * groups * 4);
    int32_t *g_idx = read_tensor(s, "g_idx", cols * 4);
    for (size_t i = 0; i < rows * cols; i++) {
        size_t at = i / cols * groups + (size_t)g_idx[i % cols];
        q[i] = scale[at] * ((float)code[i] - zero[at]);
    }
    nib_free(scale), nib_free(zero), nib_free(g_idx);
    return q;
}

/* What our codes and parameters stand for; the c-th column of the blocks is column outer[c]. */
static float *our_values(const nib_codec *c, const uint8_t *code, const nib_block_param *param,
                         const uint32_t *outer, size_t rows, size_t cols)
{
    float *q = nib_alloc(rows * cols, sizeof *q);
    for (size_t r = 0; r < rows; r++)
        for (size_t k = 0; k < cols; k++) {
            const nib_block_param *p = &param[r * (cols / c->block) + k / c->block];
            size_t at = r * cols + (outer ? outer[k] : k);
            q[at] = p->d * ((float)code[at] - (float)p->zero);
        }
    return q;
}

static void check(void **state)
{
    const golden_case *g = *state;
    nib_err err = {0};
    nib_source *in = open_vector(g->inputs), *want = open_vector(g->name);
    const nib_tensor *t = nib_source_find(in, "W");
    const size_t rows = (size_t)nib_tensor_rows(t), cols = (size_t)nib_tensor_cols(t);
    const size_t group = g->group ? g->group : cols;
    nib_int_codec codec = nib_int_codec_make(g->bits, group, g->sym);
    if (g->search) codec.scales = NIB_SCALES_POWER;
    const nib_ctx ctx = {.threads = 2, .cpu = nib_cpu_detect()};
    const nib_gptq_opts opts = {
        .damp = g->damp, .order = g->order, .group = group, .when = g->when, .lazy = g->lazy};
    float *w = read_tensor(in, "W", rows * cols * 4), *h = read_moments(in, cols);
    uint8_t *theirs = read_tensor(want, "qint", rows * cols), *ours = nib_alloc(rows, cols);
    nib_block_param *param = nib_alloc(rows * (cols / group), sizeof *param);

    nib_gptq *solver;
    nib_code rc = nib_gptq_new(&solver, &opts, &ctx, &err);
    if (!rc) rc = nib_gptq_prepare(solver, h, cols, 0, 1, &err);
    if (!rc) rc = nib_gptq_solve(solver, &codec.codec, w, rows, ours, param, NULL, &err);
    if (rc) fail_msg("%s", err.msg);
    assert_true(fabs(nib_gptq_damp(solver) - g->damp) < 1e-12);

    size_t same = 0;
    for (size_t i = 0; i < rows * cols; i++) same += ours[i] == theirs[i];
    float *q = our_values(&codec.codec, ours, param, nib_gptq_outer(solver), rows, cols);
    float *r = reference_values(want, theirs, rows, cols);
    double share = (double)same / (double)(rows * cols);
    double error = output_error(w, q, h, rows, cols),
           theirs_error = output_error(w, r, h, rows, cols);
    if (share < g->same_codes) fail_msg("%.3f %% of the codes are the same", 100 * share);
    if (fabs(error / theirs_error - 1) > g->error_within)
        fail_msg("output error %g, the reference's is %g", error, theirs_error);
    nib_gptq_free(solver);
    nib_free(w), nib_free(h), nib_free(q), nib_free(r);
    nib_free(theirs), nib_free(ours), nib_free(param);
    nib_source_close(in), nib_source_close(want);
}

/* ---- cases ---- */

#define A "gptq_quant/inputs_a"
#define B "gptq_quant/inputs_b"
#define V "gptq_variants/inputs"
#define NATURAL NIB_ORDER_NATURAL
#define DIAGONAL NIB_ORDER_DIAGONAL
#define GROUPS NIB_ORDER_GROUPS
#define AHEAD NIB_PARAMS_AHEAD
#define REACHED NIB_PARAMS_REACHED

static const golden_case cases[] = {
    {"gptq_quant/asym3_g128_mse", A, 3, 128, 0, 1, NATURAL, REACHED, 0.01, 128, 0.995, 0.005},
    {"gptq_quant/asym3_g64", A, 3, 64, 0, 0, NATURAL, REACHED, 0.01, 128, 0.995, 0.005},
    {"gptq_quant/asym4_g128", A, 4, 128, 0, 0, NATURAL, REACHED, 0.01, 128, 0.995, 0.005},
    {"gptq_quant/asym4_g64", A, 4, 64, 0, 0, NATURAL, REACHED, 0.01, 128, 0.995, 0.005},
    {"gptq_quant/asym4_g64_act_static", A, 4, 64, 0, 0, DIAGONAL, AHEAD, 0.01, 128, 0.995, 0.005},
    {"gptq_quant/asym4_g64_bs64", A, 4, 64, 0, 0, NATURAL, REACHED, 0.01, 64, 0.995, 0.005},
    {"gptq_quant/asym4_g64_dead", B, 4, 64, 0, 0, NATURAL, REACHED, 0.01, 128, 0.995, 0.005},
    {"gptq_quant/asym4_g64_static", A, 4, 64, 0, 0, NATURAL, AHEAD, 0.01, 128, 0.995, 0.005},
    {"gptq_quant/asym4_gall", A, 4, 0, 0, 0, NATURAL, AHEAD, 0.01, 128, 0.995, 0.005},
    {"gptq_quant/asym4_gall_dead_act", B, 4, 0, 0, 0, DIAGONAL, AHEAD, 0.01, 128, 0.995, 0.005},
    {"gptq_quant/sym2_g32_damp10", A, 2, 32, 1, 0, NATURAL, REACHED, 0.1, 128, 0.995, 0.005},
    {"gptq_quant/sym4_g128", A, 4, 128, 1, 0, NATURAL, REACHED, 0.01, 128, 0.995, 0.005},
    {"gptq_quant/sym4_g128_act", A, 4, 128, 1, 0, DIAGONAL, REACHED, 0.01, 128, 0.995, 0.005},
    {"gptq_quant/sym4_g32_dead_bs128_act", B, 4, 32, 1, 0, DIAGONAL, REACHED, 0.01, 128, 0.995,
     0.005},
    {"gptq_quant/sym4_g32_mse_act", A, 4, 32, 1, 1, DIAGONAL, REACHED, 0.01, 128, 0.995, 0.005},
    {"gptq_quant/sym8_gall", A, 8, 0, 1, 0, NATURAL, AHEAD, 0.01, 128, 0.995, 0.005},
    {"gptq_variants/plain_sym_g64", V, 4, 64, 1, 0, NATURAL, REACHED, 0.05, 128, 0.97, 0.02},
    {"gptq_variants/gar_sym_g64", V, 4, 64, 1, 0, GROUPS, REACHED, 0.05, 128, 0.97, 0.02},
    {"gptq_variants/gar_asym_g32_mse24", V, 4, 32, 0, 1, GROUPS, REACHED, 0.05, 128, 0.97, 0.02},
    {"gptq_variants/static_desc_sym_g32", V, 4, 32, 1, 0, DIAGONAL, AHEAD, 0.05, 128, 0.97, 0.02},
    {"gptq_variants/desc_act_asym_g32", V, 4, 32, 0, 0, DIAGONAL, REACHED, 0.05, 128, 0.97, 0.02},
};

int main(int argc, char **argv)
{
    enum { N = sizeof cases / sizeof *cases };
    static golden_case mine[N];
    static struct CMUnitTest t[N];
    if (argc < 2) return 1;
    golden_dir = argv[1];
    nib_linalg_init();
    for (size_t i = 0; i < N; i++) {
        mine[i] = cases[i];
        t[i] = (struct CMUnitTest){mine[i].name, check, NULL, NULL, &mine[i]};
    }
    return _cmocka_run_group_tests("gptq-golden", t, N, NULL, NULL);
}
