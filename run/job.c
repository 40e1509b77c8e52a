/* SPDX-License-Identifier: MIT */
/* run/job.c - see job.h. */
#include "run/job.h"

#include "base/file.h"
#include "base/mem.h"
#include "calib/fingerprint.h"
#include "infer/finite.h"
#include "run/plan/memory.h"
#include "run/plan/own_factors.h"
#include "run/record.h"
#include "run/write/measure.h"
#include "run/write/write_carried.h"
#include "run/write/write_folder.h"
#include "run/write/write_plain.h"
#include "run/write/write_rounded.h"

#include <errno.h>
#include <string.h>

static nib_code load_ranges(nib_job *j, nib_log *log, nib_err *err)
{
    const char *path = j->opts.ranges;
    nib_code rc = nib_ranges_load(&j->ranges, path, j->m, err);
    if (rc) return rc;
    j->opts.recipe.ranges = &j->ranges;
    nib_info(log, "%s: ranges by %s, from %zu windows of %zu tokens", path,
             nib_range_method_name(j->ranges.method), j->ranges.on.n_windows, j->ranges.on.n_ctx);
    return NIB_OK;
}

/* `-o m/`, or a folder that is there, says that a folder is wanted. */
static bool is_folder(const char *out)
{
    const size_t n = strlen(out);
    return (n && out[n - 1] == '/') || nib_file_is_dir(out);
}

nib_code nib_job_open(nib_job *j, const nib_job_opts *opts, const nib_ctx *ctx, nib_err *err)
{
    nib_code rc;
    *j = (nib_job){.opts = *opts, .solved_file = {.fd = -1}};
    j->m = opts->opened ? opts->opened : &j->model;
    nib_recipe *r = &j->opts.recipe;
    const bool folder = r->format != NIB_FORMAT_GGUF;
    if (r->out) {
        if (!folder && is_folder(r->out))
            return nib_fail(err, NIB_EIO,
                            "%s: is a folder, and GGUF is a file: name one, or say with --format "
                            "what the folder is to hold",
                            r->out);
        rc = opts->dry_run ? nib_target_find(&j->target, r->out, folder, err)
                           : nib_target_claim(&j->target, r->out, folder, err);
        if (rc) return rc;
        r->out = j->target.path;
    }
    if (!opts->opened) {
        if ((rc = nib_source_open(&j->src, opts->model, err))) return rc;
        if ((rc = nib_model_open(&j->model, j->src, err))) return rc;
    }
    if (opts->imatrix) {
        if ((rc = nib_imatrix_load(&j->imatrix, opts->imatrix, err))) return rc;
        j->importances = &j->imatrix;
    }
    if (opts->stats) {
        if ((rc = nib_hessian_store_open(&j->stats, opts->stats, j->m, err))) return rc;
        j->opts.solve.stats = &j->stats;
    }
    if (opts->kv_ranges) {
        if ((rc = nib_kv_ranges_load(&j->kv_ranges, opts->kv_ranges, j->m, err))) return rc;
        r->kv_ranges = &j->kv_ranges;
    }
    return opts->ranges ? load_ranges(j, ctx->log, err) : NIB_OK;
}

static size_t count_windows(const nib_job *j, size_t *n_ctx)
{
    const nib_sample *s = &j->opts.text;
    *n_ctx = nib_sample_ctx(s, j->m, NIB_SOLVE_CTX);
    return s->samples ? s->samples : NIB_SOLVE_WINDOWS;
}

uint64_t nib_job_beside(const nib_job *j)
{
    size_t n_ctx;
    const size_t samples = count_windows(j, &n_ctx);
    return nib_solve_memory_beside(&j->plan, samples, n_ctx, &j->opts.solve);
}

/* What solving keeps in memory depends on the windows too. */
static void count_solving(nib_job *j, int threads)
{
    nib_plan *p = &j->plan;
    size_t n_ctx;
    const size_t samples = count_windows(j, &n_ctx);
    const uint64_t peak =
        nib_mem_peak() + nib_solve_memory(p, samples, n_ctx, &j->opts.solve, threads);
    if (p->n_solved && peak > p->peak_memory) p->peak_memory = peak;
}

nib_code nib_job_plan(nib_job *j, const nib_ctx *ctx, nib_err *err)
{
    nib_plan_free(&j->plan);
    nib_code rc = nib_record_job(&j->provenance, &j->opts, j->m->src, j->importances, err);
    if (rc) return rc;
    j->opts.recipe.provenance = &j->provenance;
    rc = nib_plan_make(&j->plan, &j->opts.recipe, j->m, j->importances, ctx, err);
    if (!rc) count_solving(j, ctx->threads);
    return rc;
}

nib_code nib_job_windows(nib_windows *w, const nib_job *j, const nib_ctx *ctx, nib_err *err)
{
    nib_tokenizer *tok = NULL;
    *w = (nib_windows){0};
    if (j->opts.solve.stats && !j->plan.n_solved)
        return nib_fail(err, NIB_EINVAL,
                        "--stats is of no use where no weight is solved: add --method gptq");
    if (j->opts.solve.stats || !j->plan.n_solved) return NIB_OK;
    if (!j->opts.text.n_texts)
        return nib_fail(err, NIB_EINVAL, "%s needs --text FILE",
                        nib_plan_measures_ranges(&j->plan) ? "--activations" : "method gptq");
    nib_code rc = nib_tokenizer_open(&tok, j->m->src, err);
    if (!rc)
        rc = nib_sample_pick(w, &j->opts.text, j->m, tok, NIB_SOLVE_CTX, NIB_SOLVE_WINDOWS,
                             ctx->log, err);
    nib_tokenizer_close(tok);
    return rc;
}

nib_code nib_job_fingerprint(uint64_t *out, const nib_job *j, const nib_windows *w, nib_err *err)
{
    const nib_plan *p = &j->plan;
    const nib_recipe *r = &p->recipe;
    const double numbers[] = {(double)r->format, (double)r->method,    r->pure,
                              r->leave_output,   (double)r->split_max, p->n_solved > 0};
    nib_code rc = p->n_solved ? nib_solve_fingerprint(out, p, w, &j->opts.solve, err)
                              : nib_model_fingerprint(out, p->model, err);
    if (rc) return rc;
    *out = nib_hash(*out, numbers, sizeof numbers);
    *out = nib_hash(*out, NIB_VERSION, sizeof NIB_VERSION);
    *out = nib_hash(*out, p->label, strlen(p->label) + 1);
    if (r->pre) *out = nib_hash(*out, r->pre, strlen(r->pre) + 1);
    for (size_t i = 0; i < p->n; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        const uint64_t about[] = {t->action, t->bytes, t->method, t->solved_at};
        *out = nib_hash(*out, t->name, strlen(t->name) + 1);
        *out = nib_hash(*out, t->codec->name, strlen(t->codec->name) + 1);
        *out = nib_hash(*out, about, sizeof about);
        if (t->importance)
            *out = nib_hash(*out, t->importance,
                            nib_plan_matrices(t) * t->cols * sizeof *t->importance);
    }
    return NIB_OK;
}

/* Does its run keep out of the way of others? With --true-sequential, and where ranges of a
 * rescaled block are measured on the original stream, that one waits inside a block; a source that
 * rounds inputs is not the same with its weights in f32. */
static bool shares(const nib_job *j)
{
    const nib_solve_opts *o = &j->opts.solve;
    const bool again = nib_plan_measures_ranges(&j->plan) && j->opts.recipe.transform;
    return j->plan.n_solved && !o->stats && !o->true_sequential && !o->all_experts &&
           (o->propagate || !again) && !strcmp(nib_model_activations(j->m), "f32");
}

static bool same_texts(const nib_sample *a, const nib_sample *b)
{
    bool same = a->n_texts == b->n_texts && a->n_ctx == b->n_ctx && a->samples == b->samples &&
                a->seed == b->seed && a->chat == b->chat;
    for (size_t i = 0; i < a->n_texts && same; i++)
        same = !strcmp(a->text[i].path, b->text[i].path) && a->text[i].weight == b->text[i].weight;
    return same;
}

bool nib_jobs_share(const nib_job *a, const nib_job *b)
{
    return shares(a) && shares(b) && a->m == b->m &&
           a->opts.solve.held_out == b->opts.solve.held_out &&
           same_texts(&a->opts.text, &b->opts.text);
}

/* Room on the disk, and the file that solved tensors wait in. */
static nib_code prepare(nib_job *j, const nib_windows *w, const nib_ctx *ctx, nib_err *err)
{
    uint64_t fingerprint;
    const nib_solve_opts *o = &j->opts.solve;
    nib_code rc = nib_plan_room(&j->plan, nib_solve_spilled(&j->plan, w->n, w->n_ctx, o), err);
    if (!rc) rc = nib_find_own_factors(&j->plan, ctx, err);
    if (!rc) rc = nib_solve_fingerprint(&fingerprint, &j->plan, w, o, err);
    return rc ? rc
              : nib_solved_file_open(&j->solved_file, j->plan.recipe.out, fingerprint,
                                     j->opts.resume, err);
}

void nib_jobs_solve(nib_job *const *jobs, size_t n, const nib_windows *w, const nib_ctx *ctx,
                    nib_err *err)
{
    nib_solve_output out[NIB_SOLVE_OUTPUTS];
    size_t of[NIB_SOLVE_OUTPUTS], n_out = 0;
    for (size_t i = 0; i < n; i++) {
        nib_job *j = jobs[i];
        err[i] = (nib_err){.code = NIB_OK};
        nib_provenance_texts(&j->provenance, w->sha256, w->n_texts);
        if (!j->plan.n_solved || prepare(j, w, ctx, &err[i])) continue;
        out[n_out] = (nib_solve_output){.plan = &j->plan,
                                        .opts = &j->opts.solve,
                                        .file = &j->solved_file,
                                        .report = &j->solved};
        of[n_out++] = i;
    }
    if (n_out) nib_solve_run(out, n_out, w, ctx);
    for (size_t i = 0; i < n_out; i++) err[of[i]] = out[i].err;
}

/* What is staged and was not solved: carried over, or rounded. */
static nib_code stage(nib_job *j, const nib_ctx *ctx, nib_err *err)
{
    nib_solved_file *side = &j->solved_file;
    nib_code rc = NIB_OK;
    const nib_plan *p = &j->plan;
    if (!p->n_solved && (p->n_rounded || p->n_carried))
        rc = nib_solved_file_open(side, p->recipe.out, 0, false, err);
    if (!rc) rc = nib_find_own_factors(&j->plan, ctx, err);
    if (!rc && p->n_rounded) rc = nib_write_rounded(side, p, ctx, err);
    if (!rc && p->n_carried) rc = nib_write_carried(side, p, ctx, err);
    return rc ? rc : nib_measure_staged(side, p, ctx, err);
}

nib_code nib_job_write(nib_job *j, const nib_ctx *ctx, nib_err *err)
{
    const nib_packing_note note = {.damp = j->opts.solve.gptq.damp,
                                   .true_sequential = j->opts.solve.true_sequential,
                                   .kv_cache = j->opts.recipe.kv_ranges != NULL,
                                   .kv_per_head = j->kv_ranges.per_head};
    nib_code rc = nib_provenance_begin(&j->provenance, j->opts.seen, err);
    if (!rc) rc = stage(j, ctx, err);
    if (rc) return rc;
    switch (j->plan.recipe.format) {
    case NIB_FORMAT_DIR:
        return nib_write_folder(&j->result, &j->plan, &j->solved_file, &note, ctx, err);
    case NIB_FORMAT_PLAIN: return nib_write_plain(&j->result, &j->plan, ctx, err);
    default: return nib_write_gguf(&j->result, &j->plan, &j->solved_file, ctx, err);
    }
}

static bool is_full(int sys_errno)
{
    return sys_errno == ENOSPC || sys_errno == EDQUOT || sys_errno == EFBIG;
}

/* A full disk costs no solving again. */
static void say_resume(const nib_solved_file *side, const nib_plan *p, nib_err *err)
{
    char why[sizeof err->msg];
    memcpy(why, err->msg, sizeof why);
    nib_fail(err, NIB_EIO,
             "%s; %u of %u blocks are solved and kept: make room, and give the same command again "
             "with --resume",
             why, side->done, p->model->hp.n_layer);
}

nib_code nib_job_finish(nib_job *j, nib_code rc, const nib_ctx *ctx, nib_err *err)
{
    nib_solved_file *side = &j->solved_file;
    const nib_plan *p = &j->plan;
    if (rc && p->n_solved && side->done && is_full(err->sys_errno)) say_resume(side, p, err);
    nib_solved_file_close(side, !rc || !side->done); /* a run that did not get far leaves nothing */
    if (rc == NIB_ENUMERIC) nib_blame_weights(j->m, ctx, err);
    return rc;
}

nib_code nib_job_run(nib_job *j, const nib_ctx *ctx, nib_err *err)
{
    nib_windows w;
    nib_err solved;
    nib_code rc = nib_job_windows(&w, j, ctx, err);
    if (!rc) {
        nib_jobs_solve(&j, 1, &w, ctx, &solved);
        if ((rc = solved.code)) *err = solved;
    }
    if (!rc) rc = nib_job_write(j, ctx, err);
    nib_windows_free(&w);
    return nib_job_finish(j, rc, ctx, err);
}

void nib_job_close(nib_job *j)
{
    nib_solve_report_free(&j->solved);
    nib_plan_free(&j->plan);
    nib_provenance_free(&j->provenance);
    nib_target_release(&j->target);
    nib_ranges_free(&j->ranges);
    nib_kv_ranges_free(&j->kv_ranges);
    nib_hessian_store_close(&j->stats);
    nib_imatrix_free(&j->imatrix);
    nib_model_close(&j->model);
    nib_source_close(j->src);
    j->src = NULL;
}
