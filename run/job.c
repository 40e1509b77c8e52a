/* SPDX-License-Identifier: MIT */
/* run/job.c - see job.h. */
#include "run/job.h"

#include "base/mem.h"
#include "infer/finite.h"
#include "run/plan/memory.h"
#include "run/write/write_carried.h"
#include "run/write/write_folder.h"
#include "run/write/write_plain.h"

#include <errno.h>
#include <string.h>

static nib_code load_ranges(nib_job *j, nib_log *log, nib_err *err)
{
    const char *path = j->opts.ranges;
    nib_code rc = nib_ranges_load(&j->ranges, path, &j->model, err);
    if (rc) return rc;
    j->opts.recipe.ranges = &j->ranges;
    nib_info(log, "%s: ranges by %s, from %zu windows of %zu tokens", path,
             nib_range_method_name(j->ranges.method), j->ranges.n_windows, j->ranges.n_ctx);
    return NIB_OK;
}

nib_code nib_job_open(nib_job *j, const nib_job_opts *opts, const nib_ctx *ctx, nib_err *err)
{
    nib_code rc;
    *j = (nib_job){.opts = *opts};
    nib_recipe *r = &j->opts.recipe;
    const bool folder = r->format != NIB_FORMAT_GGUF;
    if (r->out) {
        rc = opts->dry_run ? nib_target_find(&j->target, r->out, folder, err)
                           : nib_target_claim(&j->target, r->out, folder, err);
        if (rc) return rc;
        r->out = j->target.path;
    }
    if ((rc = nib_source_open(&j->src, opts->model, err))) return rc;
    if ((rc = nib_model_open(&j->model, j->src, err))) return rc;
    if (opts->imatrix) {
        if ((rc = nib_imatrix_load(&j->imatrix, opts->imatrix, err))) return rc;
        j->importances = &j->imatrix;
    }
    if (opts->stats) {
        if ((rc = nib_hessian_store_open(&j->stats, opts->stats, &j->model, err))) return rc;
        j->opts.solve.stats = &j->stats;
    }
    return opts->ranges ? load_ranges(j, ctx->log, err) : NIB_OK;
}

/* What solving keeps in memory depends on the windows too. */
static void count_solving(nib_job *j, int threads)
{
    nib_plan *p = &j->plan;
    const nib_sample *s = &j->opts.text;
    const size_t samples = s->samples ? s->samples : NIB_SOLVE_WINDOWS,
                 n_ctx = nib_sample_ctx(s, p->model, NIB_SOLVE_CTX);
    const uint64_t peak =
        nib_mem_peak() + nib_solve_memory(p, samples, n_ctx, &j->opts.solve, threads);
    if (p->n_solved && peak > p->peak_memory) p->peak_memory = peak;
}

nib_code nib_job_plan(nib_job *j, const nib_ctx *ctx, nib_err *err)
{
    nib_code rc = nib_plan_make(&j->plan, &j->opts.recipe, &j->model, j->importances, ctx, err);
    if (!rc) count_solving(j, ctx->threads);
    return rc;
}

/* w: NULL with statistics. */
static nib_code solve_with(nib_job *j, nib_solved_file *side, const nib_windows *w,
                           const nib_ctx *ctx, nib_err *err)
{
    uint64_t fingerprint;
    const nib_solve_opts *o = &j->opts.solve;
    const uint64_t spilled = w ? nib_solve_spilled(&j->plan, w->n, w->n_ctx, o) : 0;
    nib_code rc = nib_plan_room(&j->plan, spilled, err);
    if (!rc) rc = nib_solve_fingerprint(&fingerprint, &j->plan, w, o, err);
    if (!rc) rc = nib_solved_file_open(side, j->plan.recipe.out, fingerprint, j->opts.resume, err);
    return rc ? rc : nib_solve_run(&j->solved, side, &j->plan, w, o, ctx, err);
}

static nib_code solve(nib_job *j, nib_solved_file *side, const nib_ctx *ctx, nib_err *err)
{
    nib_tokenizer *tok = NULL;
    nib_windows w = {0};
    if (j->opts.solve.stats) return solve_with(j, side, NULL, ctx, err);
    if (!j->opts.text.n_texts)
        return nib_fail(err, NIB_EINVAL, "%s needs --text FILE",
                        nib_plan_measures_ranges(&j->plan) ? "--activations" : "method gptq");
    nib_code rc = nib_tokenizer_open(&tok, j->src, err);
    if (!rc)
        rc = nib_sample_pick(&w, &j->opts.text, &j->model, tok, NIB_SOLVE_CTX, NIB_SOLVE_WINDOWS,
                             ctx->log, err);
    if (!rc) rc = solve_with(j, side, &w, ctx, err);
    nib_windows_free(&w);
    nib_tokenizer_close(tok);
    return rc;
}

/* What is staged and was not solved: carried over, and in folders rounded. */
static nib_code stage(nib_job *j, nib_solved_file *side, const nib_ctx *ctx, nib_err *err)
{
    nib_code rc = NIB_OK;
    const nib_plan *p = &j->plan;
    const bool rounds = p->recipe.format == NIB_FORMAT_DIR && !p->n_solved;
    if (!p->n_solved && (rounds || p->n_carried))
        rc = nib_solved_file_open(side, p->recipe.out, 0, false, err);
    if (!rc && rounds) rc = nib_folder_round(side, p, ctx, err);
    if (!rc && p->n_carried) rc = nib_write_carried(side, p, ctx, err);
    return rc;
}

static nib_code write_output(nib_job *j, nib_solved_file *side, const nib_ctx *ctx, nib_err *err)
{
    const nib_packing_note note = {.damp = j->opts.solve.gptq.damp,
                                   .true_sequential = j->opts.solve.true_sequential};
    switch (j->plan.recipe.format) {
    case NIB_FORMAT_DIR: return nib_write_folder(&j->result, &j->plan, side, &note, ctx, err);
    case NIB_FORMAT_PLAIN: return nib_write_plain(&j->result, &j->plan, ctx, err);
    default: return nib_write_gguf(&j->result, &j->plan, side, ctx, err);
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

nib_code nib_job_run(nib_job *j, const nib_ctx *ctx, nib_err *err)
{
    nib_solved_file side = {.fd = -1};
    const nib_plan *p = &j->plan;
    if (j->opts.solve.stats && !p->n_solved)
        return nib_fail(err, NIB_EINVAL,
                        "--stats is of no use where no weight is solved: add --method gptq");
    nib_code rc = p->n_solved ? solve(j, &side, ctx, err) : NIB_OK;
    if (!rc) rc = stage(j, &side, ctx, err);
    if (!rc) rc = write_output(j, &side, ctx, err);
    if (rc && p->n_solved && side.done && is_full(err->sys_errno)) say_resume(&side, p, err);
    nib_solved_file_close(&side, !rc || !side.done); /* a run that did not get far leaves nothing */
    if (rc == NIB_ENUMERIC) nib_blame_weights(&j->model, ctx, err);
    return rc;
}

void nib_job_close(nib_job *j)
{
    nib_solve_report_free(&j->solved);
    nib_plan_free(&j->plan);
    nib_target_release(&j->target);
    nib_ranges_free(&j->ranges);
    nib_hessian_store_close(&j->stats);
    nib_imatrix_free(&j->imatrix);
    nib_model_close(&j->model);
    nib_source_close(j->src);
    j->src = NULL;
}
