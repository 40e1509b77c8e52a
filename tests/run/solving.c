/* SPDX-License-Identifier: MIT */
/* tests/run/solving.c - see solving.h. */
#include "tests/run/solving.h"
#include "base/cpu.h"
#include "base/file.h"
#include "run/job.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

void pick_windows(nib_windows *w, const opened *o, const char *name, size_t n)
{
    char path[512];
    nib_tokenizer *tok;
    nib_err err = {0};
    snprintf(path, sizeof path, "%s/../%s", tiny_llama(), name);
    const nib_text_spec text = {.path = path};
    nib_code rc = nib_tokenizer_open(&tok, o->src, &err);
    if (!rc) rc = nib_windows_pick(w, &text, 1, tok, false, N_CTX, n, 0, &err);
    if (rc) fail_msg("%s", err.msg);
    assert_int_equal(w->n, n);
    nib_tokenizer_close(tok);
}

static nib_job_opts job_opts(const char *out, const variation *v)
{
    nib_job_opts o = {.model = v->model ? v->model : tiny_llama(),
                      .recipe = {.out = out,
                                 .type = v->type ? v->type : "q3_k_m",
                                 .overrides = &v->override,
                                 .n_overrides = v->override != NULL,
                                 .method = v->rtn ? NIB_METHOD_RTN : NIB_METHOD_GPTQ,
                                 .transform = v->transform,
                                 .pure = v->pure,
                                 .force = true},
                      .stats = v->stats,
                      .solve = nib_solve_defaults(),
                      .resume = v->resume};
    nib_solve_opts *solve = &o.solve;
    solve->gptq.sweeps = v->sweeps ? v->sweeps : 1;
    solve->propagate = !v->no_propagate;
    solve->true_sequential = v->true_sequential;
    solve->all_experts = v->all_experts;
    if (v->no_drift) solve->drift = 0;
    if (v->hold_out_none) solve->held_out = 0;
    solve->rescale.alpha = v->alpha;
    solve->range = v->range;
    if (v->memory) solve->memory = v->memory;
    if (v->folder) {
        o.recipe.format = NIB_FORMAT_DIR;
        o.recipe.layout = *v->folder;
        o.recipe.type = NULL;
        if (v->folder->desc_act) solve->gptq.when = NIB_PARAMS_REACHED;
    }
    return o;
}

nib_code solve(const char *out, const variation *v, nib_solve_report *report, nib_err *err)
{
    char path[512];
    nib_job job;
    nib_job_opts opts = job_opts(out, v);
    nib_ctx ctx = {.threads = v->threads ? v->threads : 2, .cpu = nib_cpu_detect()};
    snprintf(path, sizeof path, "%s/../calibration.txt", tiny_llama());
    const nib_text_spec text = {.path = path};
    opts.text = (nib_sample){
        .text = &text, .n_texts = 1, .n_ctx = N_CTX, .samples = v->windows ? v->windows : WINDOWS};
    nib_code rc = nib_job_open(&job, &opts, &ctx, err);
    if (!rc && v->arch) job.model.arch = v->arch;
    if (!rc) job.opts.recipe.ranges = v->ranges;
    if (!rc) rc = nib_job_plan(&job, &ctx, err);
    if (!rc) rc = nib_job_run(&job, &ctx, err);
    *report = job.solved;
    job.solved = (nib_solve_report){0};
    nib_job_close(&job);
    return rc;
}

size_t solve_ok(const char *out, const variation *v)
{
    nib_err err = {0};
    nib_solve_report report = {0};
    if (solve(out, v, &report, &err)) fail_msg("%s: %s", out, err.msg);
    const size_t all = v->windows ? v->windows : WINDOWS, held = all / 8 < 8 ? all / 8 : 8;
    assert_int_equal(report.windows + report.held_out, all);
    assert_int_equal(report.held_out, v->stats || v->hold_out_none ? 0 : held);
    assert_int_equal(report.kl.n, report.held_out * N_CTX);
    for (size_t i = 0; i < report.n; i++)
        assert_true(report.line[i].solved < report.line[i].rtn && report.line[i].solved > 0);
    const size_t n = report.n;
    nib_solve_report_free(&report);
    return n;
}

void solve_fails(const char *out, const variation *v, nib_code code, const char *part)
{
    nib_err err = {0};
    nib_solve_report report = {0};
    assert_int_equal(solve(out, v, &report, &err), code);
    expect_text(err.msg, part);
    assert_null(report.line);
}

unsigned blocks_done(const char *name)
{
    char path[200];
    uint8_t head[20] = {0};
    snprintf(path, sizeof path, ".%s.nibble-solved", name);
    FILE *f = fopen(scratch(path), "rb");
    if (!f) return 0;
    size_t n = fread(head, 1, sizeof head, f);
    fclose(f);
    return n == sizeof head ? head[16] : 0;
}

void kill_after(const char *name, unsigned blocks, variation v)
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        nib_err err = {0};
        nib_solve_report report = {0};
        v.threads = 1;
        _exit(solve(scratch(name), &v, &report, &err) ? 1 : 0);
    }
    while (blocks_done(name) < blocks && !waitpid(pid, &status, WNOHANG)) {
        const struct timespec t = {0, 1000000};
        nanosleep(&t, NULL);
    }
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_false(nib_file_exists(scratch(name)));
    assert_true(blocks_done(name) >= blocks);
}

const char *spoiled_model(const char *name, const char *tensor, float value)
{
    static char path[200];
    char cmd[900];
    opened o;
    snprintf(path, sizeof path, "%s", scratch(name));
    snprintf(cmd, sizeof cmd, "cp -r '%s' '%s'", tiny_llama(), path);
    assert_int_equal(system(cmd), 0);
    open_model(&o, path);
    const nib_tensor *t = nib_source_find(o.src, tensor);
    assert_non_null(t);
    const size_t n = (size_t)nib_tensor_elems(t), size = t->codec->bytes;
    uint8_t *bytes = nib_alloc(n, size);
    float *x = nib_alloc(n, sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = value;
    t->codec->encode(bytes, x, NULL, 1, n, 0, NULL);
    FILE *f = fopen(nib_source_file(o.src, t->file), "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)t->offset, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, size, n, f), n);
    assert_int_equal(fclose(f), 0);
    nib_free(bytes), nib_free(x);
    close_model(&o);
    return path;
}
