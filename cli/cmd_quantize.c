/* SPDX-License-Identifier: MIT */
/* cli/cmd_quantize.c - write a smaller model: options in, a job (run/job.h), and what became of it.
 * Tests: tests/cases/commands. */
#include "base/mem.h"
#include "cli/io.h"
#include "cli/opened.h"
#include "cli/quantize_opts.h"
#include "cli/quantize_print.h"
#include "run/model_card.h"

static nib_code show_result(const nib_job *j, nib_log *log, nib_err *err)
{
    const bool solved = j->plan.n_solved;
    if (j->result.zero_importance_blocks)
        nib_info(log, "%zu blocks whose importances are all zero were treated as even",
                 j->result.zero_importance_blocks);
    if (j->result.rows_without_zero)
        nib_info(log, "%zu rows hold weights of exactly 0, which their format has no value for",
                 j->result.rows_without_zero);
    nib_debug(log, "%.2f s, %.0f MB of memory at most", j->result.seconds + j->solved.seconds,
              (double)nib_mem_peak() / 1e6);
    if (nib_quantize_given.json)
        return nib_print_result(&j->plan, &j->result, solved ? &j->solved : NULL, err);
    nib_print_totals(&j->plan);
    if (solved) nib_print_solved(&j->solved, nib_dir_opts_measured(&nib_quantize_given.dir));
    return NIB_OK;
}

static nib_code show_plan(const nib_plan *p, nib_err *err)
{
    if (nib_quantize_given.json) return nib_print_result(p, NULL, NULL, err);
    nib_print_plan(p);
    return NIB_OK;
}

static nib_code write_card(const nib_job *j, nib_err *err)
{
    const double kl = j->plan.n_solved && j->solved.kl.n ? j->solved.kl.kl : -1;
    return nib_model_card_write(nib_quantize_given.model_card,
                                &(nib_model_card){nib_quantize_given.base_model, &j->plan, kl},
                                err);
}

static nib_code quantize(const char *path, const nib_ctx *ctx, nib_err *err)
{
    nib_job job = {0};
    nib_job_opts how;
    nib_arena keep = {0};
    const bool dry_run = nib_quantize_given.dry_run;
    nib_code rc = nib_quantize_opts_job(&how, path, &keep, err);
    if (!rc) rc = nib_job_open(&job, &how, ctx, err);
    if (!rc) nib_warn_odd_model(&job.model, ctx->log);
    if (!rc) rc = nib_job_plan(&job, ctx, err);
    if (!rc && !dry_run) rc = nib_job_run(&job, ctx, err);
    if (!rc && !dry_run && nib_quantize_given.model_card) rc = write_card(&job, err);
    if (!rc) rc = dry_run ? show_plan(&job.plan, err) : show_result(&job, ctx->log, err);
    nib_job_close(&job);
    nib_arena_free(&keep);
    return rc;
}

static int run(const nib_opt_list *operands, const nib_ctx *ctx)
{
    nib_err err;
    if (nib_quantize_opts_check(&err)) return nib_usage(&nib_cmd_quantize, "quantize: %s", err.msg);
    return quantize(operands->v[0], ctx, &err) ? nib_report(&err) : NIB_EXIT_OK;
}

const nib_cmd nib_cmd_quantize = {
    .name = "quantize",
    .run = run,
    .check = nib_quantize_opts_check,
    .summary = "write a smaller model",
    .operands = "MODEL",
    .min_operands = 1,
    .max_operands = 1,
    .usage = "MODEL -o FILE [--type TYPE]",
    .about = "Read a model (Hugging Face folder or .gguf) and write it as a GGUF file for "
             "llama.cpp, or as a folder: of packed integers for Transformers and vLLM, or of plain "
             "safetensors.",
    .example = "nibble quantize data/tiny-llama -o tiny-q4_k_m.gguf --type q4_k_m",
    .options = nib_quantize_rows,
};
