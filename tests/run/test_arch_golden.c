/* SPDX-License-Identifier: MIT */
/* Models of tests/golden/arch (NIB_GOLDEN) that Transformers computed: from the folder, and from
 * the F32 GGUF file made of it, and from the folder that this becomes again, the forward pass has
 * the reference's logits. With --solve as the
 * first argument: rescaled and solved, as a GGUF file and as a GPTQ folder, they are about what
 * they were. The arguments are the names of the folders; their README says what is in them. */
#include "base/cpu.h"
#include "infer/graph.h"
#include "infer/loss.h"
#include "formats/solved_file.h"
#include "run/write/write_carried.h"
#include "run/write/write_folder.h"
#include "run/write/write_plain.h"
#include "run/write/write_rounded.h"
#include "tests/run/solving.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { SEQS = 2, TOKENS = 48, ROWS = SEQS * TOKENS };

/* Both compute in f32 from the same weights; logits are up to some tens. */
static const double LOGITS_BOUND = 2e-3, LOSS_BOUND = 3e-4;

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

static const char *golden(const char *folder, const char *file)
{
    static char path[2][256];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/arch/%s/%s", getenv("NIB_GOLDEN"), folder, file);
    return path[turn];
}

/* What Transformers computed. */
typedef struct {
    nib_source *src;
    int32_t *ids;  /* [ROWS]          */
    float *logits; /* [ROWS][n_vocab] */
    double loss;   /* mean over both sequences */
} reference;

static void open_reference(reference *r, const char *folder)
{
    nib_err err = {0};
    nib_json *j;
    const char *same; /* another form of a checkpoint has another folder's values */
    must(nib_json_load(&j, golden(folder, "golden.json"), 1 << 20, &err), &err);
    if (nib_json_str(nib_json_get(j, "same_values_as"), &same)) {
        open_reference(r, same);
        nib_json_free(j);
        return;
    }
    nib_json_free(j);
    must(nib_source_open(&r->src, golden(folder, "golden.safetensors"), &err), &err);
    const nib_tensor *ids = nib_source_find(r->src, "input_ids");
    const nib_tensor *logits = nib_source_find(r->src, "logits");
    assert_true(ids && logits);
    assert_int_equal(nib_tensor_elems(ids), ROWS);
    assert_int_equal(ids->bytes, ROWS * sizeof *r->ids);
    r->ids = (int32_t *)(void *)tensor_bytes(r->src, ids);
    r->logits = tensor_values(r->src, logits);
    must(nib_json_load(&j, golden(folder, "golden.json"), 1 << 20, &err), &err);
    assert_true(nib_json_num(nib_json_get(j, "mean_nll"), &r->loss));
    nib_json_free(j);
}

static void close_reference(reference *r)
{
    nib_free(r->ids);
    nib_free(r->logits);
    nib_source_close(r->src);
}

static void keep(void *arg, size_t row, const float *logits, size_t n_vocab)
{
    memcpy((float *)arg + row * n_vocab, logits, n_vocab * sizeof *logits);
}

static void forward(const nib_model *m, const int32_t *ids, float *logits)
{
    nib_err err = {0};
    nib_graph *g;
    const nib_ctx ctx = {.threads = 2, .cpu = nib_cpu_detect()};
    size_t list[ROWS];
    float *x = nib_alloc(ROWS, m->hp.n_embd * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < ROWS; i++) list[i] = i;
    must(nib_graph_new(&g, m, &ctx, SEQS, TOKENS, false, &err), &err);
    must(nib_graph_embed(g, ids, ROWS, x, &err), &err);
    for (uint32_t l = 0; l < m->hp.n_layer; l++)
        must(nib_graph_block(g, l, x, SEQS, TOKENS, 0, NULL, &err), &err);
    must(nib_graph_logits(g, x, list, ROWS, keep, logits, NULL, &err), &err);
    nib_graph_free(g);
    nib_free(x);
}

static double mean_loss(const float *logits, size_t n_vocab, const int32_t *ids)
{
    double sum = 0;
    for (size_t i = 0; i < ROWS; i++)
        if ((i + 1) % TOKENS)
            sum += nib_loss_token(nib_ops_get(0), logits + i * n_vocab, n_vocab, ids[i + 1]);
    return sum / (ROWS - SEQS);
}

/* By how much of their size the logits are off. */
static double distance(const char *path, const reference *r)
{
    opened o;
    open_model(&o, path);
    const size_t n = ROWS * (size_t)o.model.hp.n_vocab;
    double off = 0, size = 0;
    float *logits = nib_alloc(n, sizeof *logits);
    assert_non_null(logits);
    forward(&o.model, r->ids, logits);
    for (size_t i = 0; i < n; i++) {
        const double expected = (double)r->logits[i], d = (double)logits[i] - expected;
        off += d * d;
        size += expected * expected;
    }
    nib_free(logits);
    close_model(&o);
    return sqrt(off / size);
}

static void compare(const char *path, const reference *r)
{
    opened o;
    open_model(&o, path);
    const size_t n_vocab = o.model.hp.n_vocab;
    double worst = 0;
    size_t at = 0;
    float *logits = nib_alloc(ROWS, n_vocab * sizeof *logits);
    assert_non_null(logits);
    assert_int_equal(nib_tensor_elems(nib_source_find(r->src, "logits")), ROWS * n_vocab);
    forward(&o.model, r->ids, logits);
    for (size_t i = 0; i < ROWS * n_vocab; i++) {
        double d = fabs((double)logits[i] - (double)r->logits[i]);
        if (!(d <= worst)) worst = d, at = i;
    }
    if (!(worst <= LOGITS_BOUND))
        fail_msg("%s: sequence %zu, position %zu, token %zu: logit %.6g, expected %.6g", path,
                 at / n_vocab / TOKENS, at / n_vocab % TOKENS, at % n_vocab, (double)logits[at],
                 (double)r->logits[at]);
    double loss = mean_loss(logits, n_vocab, r->ids);
    if (!(fabs(loss - r->loss) <= LOSS_BOUND))
        fail_msg("%s: mean loss %.6f, expected %.6f", path, loss, r->loss);
    nib_free(logits);
    close_model(&o);
}

static void from_the_folder(void **state)
{
    const char *folder = *state;
    reference r;
    open_reference(&r, folder);
    compare(golden(folder, ""), &r);
    close_reference(&r);
}

static void link_to(const char *dir, const char *folder, const char *file)
{
    char at[256];
    snprintf(at, sizeof at, "%s/%s", dir, file);
    if (symlink(golden(folder, file), at)) fail_msg("%s", at);
}

/* Of models whose architecture it knows with other settings too. */
static bool is_known_to_llamacpp(const char *dir)
{
    static const char *const unknown[] = {"gemma3_scaled", "gpt2_scaled", "llama_quick_gelu"};
    opened o;
    open_model(&o, dir);
    bool known = !o.model.arch->no_gguf;
    close_model(&o);
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        known = known && strcmp(strrchr(dir, '/') + 1, unknown[i]);
    return known;
}

/* The folder with a tokenizer beside the weights; NAME in the scratch folder. */
static const char *with_tokenizer(const char *folder)
{
    const char *dir = scratch(folder);
    assert_int_equal(mkdir(dir, 0777), 0);
    link_to(dir, folder, "config.json");
    link_to(dir, folder, "model.safetensors");
    link_to(dir, "tokenizer-256", "tokenizer.json");
    link_to(dir, "tokenizer-256", "tokenizer_config.json");
    return dir;
}

static void from_a_gguf(void **state)
{
    const char *folder = *state;
    const char *dir = with_tokenizer(folder), *gguf = scratch("out.gguf");
    const nib_recipe f32 = {.out = gguf, .type = "f32", .force = true};
    reference r;
    if (!is_known_to_llamacpp(dir)) {
        nib_err err = {0};
        assert_int_equal(quantize(dir, &f32, NULL, 2, NULL, &err), NIB_EINVAL);
        assert_non_null(strstr(err.msg, "llama.cpp"));
        assert_non_null(strstr(err.msg, "GGUF has no"));
        return;
    }
    quantize_ok(dir, &f32, NULL);
    open_reference(&r, folder);
    compare(gguf, &r);
    close_reference(&r);
}

static nib_code write_packed(nib_quantize_result *r, const nib_plan *p, const nib_ctx *ctx,
                             nib_err *err)
{
    nib_solved_file side;
    nib_packing_note note = {0};
    nib_code rc = nib_solved_file_open(&side, p->recipe.out, 0, false, err);
    if (!rc) rc = nib_write_rounded(&side, p, ctx, err);
    if (!rc) rc = nib_write_carried(&side, p, ctx, err);
    if (!rc) rc = nib_write_folder(r, p, &side, &note, ctx, err);
    nib_solved_file_close(&side, true);
    return rc;
}

/* False: of an architecture whose configuration no folder gets. */
static bool write_back(const char *gguf, const nib_recipe *recipe)
{
    nib_err err = {0};
    nib_quantize_result result;
    nib_plan p = {0};
    opened o;
    nib_log log = {0};
    const nib_ctx ctx = {.threads = 2, .log = &log};
    open_model(&o, gguf);
    nib_code rc = nib_plan_make(&p, recipe, &o.model, NULL, &ctx, &err);
    if (!rc)
        rc = recipe->format == NIB_FORMAT_PLAIN ? nib_write_plain(&result, &p, &ctx, &err)
                                                : write_packed(&result, &p, &ctx, &err);
    nib_plan_free(&p);
    close_model(&o);
    if (rc == NIB_EFORMAT && strstr(err.msg, "is read, but not written yet")) return false;
    must(rc, &err);
    return true;
}

/* Tensors have the shapes that Transformers saved, as far as it did so under these names. */
static void same_shapes(const char *back, const char *folder)
{
    opened a, b;
    open_model(&a, golden(folder, ""));
    open_model(&b, back);
    for (size_t i = 0; i < nib_source_count(b.src); i++) {
        const nib_tensor *t = nib_source_at(b.src, i), *u = nib_source_find(a.src, t->name);
        char own[80], saved[80];
        if (!u) continue;
        nib_tensor_shape_str(t, own, sizeof own);
        nib_tensor_shape_str(u, saved, sizeof saved);
        if (strcmp(own, saved)) fail_msg("%s is %s, was saved as %s", t->name, own, saved);
    }
    close_model(&a);
    close_model(&b);
}

/* Random weights of 8 bits move these logits by less than a twentieth of their size. */
static const double EIGHT_BITS = 0.1;

/* The GGUF file of floats as a folder again, plain and packed. */
static void from_the_folder_of_a_gguf(void **state)
{
    const char *folder = *state, *gguf = scratch("out.gguf"), *back = scratch("back");
    const nib_recipe plain = {
        .out = back, .format = NIB_FORMAT_PLAIN, .type = "f32", .force = true};
    const nib_recipe packed = {
        .out = back,
        .format = NIB_FORMAT_DIR,
        .force = true,
        .layout = {.kind = NIB_PACKING_CT_PACKED, .bits = 8, .sym = true, .scale_type = NIB_BF16}};
    reference r;
    if (!is_known_to_llamacpp(scratch(folder)) || !write_back(gguf, &plain)) return;
    open_reference(&r, folder);
    compare(back, &r);
    same_shapes(back, folder);
    assert_true(write_back(gguf, &packed));
    const double off = distance(back, &r);
    if (!(off < EIGHT_BITS)) fail_msg("%s: logits are off by %.3f of their size", folder, off);
    close_reference(&r);
}

/* ---- solved ---- */

/* How far the logits of these models, whose weights are random, may go: five bits change them by
 * less than a third of their size, four by up to 0.8. Those of another model are off by the root
 * of 2. */
static const double FIVE_BITS = 0.5, FOUR_BITS = 1;

/* Errors go on through the states of linear attention: with 8 bits the divergence is 14 times that
 * of a model without. */
static bool is_linear(const char *path)
{
    opened o;
    open_model(&o, path);
    const bool linear = o.model.arch->linear_block.n;
    close_model(&o);
    return linear;
}

static void solved(const char *model, const char *out, const char *folder,
                   const nib_packing *packing)
{
    nib_err err = {0};
    nib_solve_report report = {0};
    reference r;
    const variation v = {.model = model,
                         .type = "q4_k_m", /* rows are short: q5_0 stands in */
                         .windows = 8,
                         .folder = packing,
                         .transform = NIB_TRANSFORM_AWQ};
    must(solve(out, &v, &report, &err), &err);
    nib_solve_report_free(&report);
    open_reference(&r, folder);
    const double off = distance(out, &r);
    if (!(off < (packing || is_linear(model) ? FOUR_BITS : FIVE_BITS)))
        fail_msg("%s: logits are off by %.3f of their size", out, off);
    close_reference(&r);
}

/* Scores with a scale that GGUF has no key for go into a file of floats first. */
static bool has_own_scale(const char *dir)
{
    opened o;
    open_model(&o, dir);
    const bool own = o.model.hp.attn_scale != nib_usual_attn_scale(&o.model.hp, o.model.arch);
    close_model(&o);
    return own;
}

static void solved_gguf(void **state)
{
    const char *model = with_tokenizer(*state);
    if (!is_known_to_llamacpp(model)) return;
    if (has_own_scale(model)) {
        quantize_ok(model, &(nib_recipe){.out = scratch("f32.gguf"), .type = "f32"}, NULL);
        model = scratch("f32.gguf");
    }
    solved(model, scratch("solved.gguf"), *state, NULL);
}

/* GPTQ's folders hold multiples of 32 both ways, others any number of rows. */
static bool fits_gptq(const nib_model *m)
{
    for (size_t i = 0; i < m->n_placed; i++)
        if (nib_role_is_linear(m->placed[i].place.role) && !m->placed[i].place.bias &&
            nib_tensor_rows(m->placed[i].tensor) % 32)
            return false;
    return true;
}

/* Granite's shared expert is 48 wide. */
static uint32_t widest_group(const nib_model *m)
{
    for (size_t i = 0; i < m->n_placed; i++)
        if (nib_role_is_linear(m->placed[i].place.role) && !m->placed[i].place.bias &&
            nib_tensor_cols(m->placed[i].tensor) % 32)
            return 16;
    return 32;
}

static void solved_folder(void **state)
{
    nib_packing f = {.kind = NIB_PACKING_GPTQ, .bits = 4, .sym = true};
    opened o;
    open_model(&o, scratch(*state));
    f.group = widest_group(&o.model);
    if (!fits_gptq(&o.model)) f.kind = NIB_PACKING_CT_PACKED, f.scale_type = NIB_BF16;
    close_model(&o);
    solved(scratch(*state), scratch("solved"), *state, &f);
}

int main(int argc, char **argv)
{
    enum { FOLDERS_MAX = 100, KINDS = 3 };
    typedef struct {
        const char *name;
        CMUnitTestFunction run;
    } kind;
    static const kind plain[] = {{"folder", from_the_folder},
                                 {"gguf", from_a_gguf},
                                 {"folder of the gguf", from_the_folder_of_a_gguf}},
                      solving[] = {{"solved gguf", solved_gguf}, {"solved folder", solved_folder}};
    static struct CMUnitTest tests[KINDS * FOLDERS_MAX];
    static char name[KINDS * FOLDERS_MAX][64];
    size_t n = 0;
    const bool solves = argc > 1 && !strcmp(argv[1], "--solve");
    const kind *kinds = solves ? solving : plain;
    for (int i = 1 + solves; i < argc && i <= FOLDERS_MAX; i++)
        for (size_t k = 0; k < (solves ? 2 : KINDS); k++, n++) {
            snprintf(name[n], sizeof name[n], "%s %s", argv[i], kinds[k].name);
            tests[n] = (struct CMUnitTest){name[n], kinds[k].run, NULL, NULL, argv[i]};
        }
    return _cmocka_run_group_tests("arch_golden", tests, n, scratch_make, scratch_remove);
}
