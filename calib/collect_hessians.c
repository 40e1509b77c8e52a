/* SPDX-License-Identifier: MIT */
/* calib/collect_hessians.c - see collect_hessians.h. Tests: tests/run/test_collect_hessians.c. */
#include "calib/collect_hessians.h"

#include "base/file.h"
#include "calib/hessian.h"
#include "base/out_folder.h"
#include "calib/block_pass.h"
#include "formats/target.h"

typedef struct {
    const char *target;
    const nib_model *m;
    const nib_windows *w;
    nib_collect_report *report;
    nib_out_folder stage;
    nib_runner runner;
    nib_block_pass x;
    nib_hessians moments;
} collector;

nib_code nib_collect_check(const char *dir, bool force, nib_err *err)
{
    nib_code rc = nib_target_folder(dir, err);
    return rc ? rc : nib_out_folder_check(dir, NIB_STATS_HEAD_FILE, force, err);
}

/* All blocks are alike, so the first one says what is needed. */
static nib_code check_disk(const collector *c, uint64_t block_bytes, uint64_t spilled, nib_err *err)
{
    const nib_disk_need need = {.output = block_bytes * c->m->hp.n_layer + spilled};
    return nib_target_room(c->target, &need, nib_disk_free(c->target), err);
}

/* Before anything is written: the same from the shapes, and activations that do not stay in memory.
 */
static nib_code check_disk_first(const collector *c, uint64_t memory, nib_err *err)
{
    const nib_hparams *hp = &c->m->hp;
    const uint64_t embd = hp->n_embd, ff = hp->n_ff, q = (uint64_t)hp->n_head * hp->head_dim,
                   rows = (uint64_t)c->w->n * c->w->n_ctx * embd * sizeof(float);
    return check_disk(c, sizeof(float) * (2 * embd * embd + q * q + ff * ff),
                      rows > memory ? rows : 0, err);
}

static nib_code write_block(collector *c, uint32_t layer, nib_err *err)
{
    nib_hessian_store_input in[NIB_INPUTS_MAX];
    const size_t n = c->moments.n;
    for (size_t i = 0; i < n; i++) {
        const nib_hessian *from = &c->moments.input[i];
        in[i] = (nib_hessian_store_input){from->role, from->n_roles, from->cols, from->h.p};
    }
    const uint64_t bytes = nib_hessian_store_bytes(in, n);
    nib_code rc = layer ? NIB_OK : check_disk(c, bytes, 0, err);
    if (!rc) rc = nib_hessian_store_write_block(c->stage.dir, layer, in, n, err);
    c->report->inputs += n;
    c->report->bytes += bytes;
    return rc;
}

static nib_code collect_blocks(collector *c, nib_err *err)
{
    const nib_observer obs = nib_hessians_observer(&c->moments);
    nib_progress *progress = &c->runner.progress;
    nib_code rc = NIB_OK;
    nib_progress_begin(progress, c->moments.ctx->log, "collecting", "windows",
                       c->m->hp.n_layer * (double)c->w->n);
    for (uint32_t layer = 0; layer < c->m->hp.n_layer && !rc; layer++) {
        nib_progress_note(progress, "block %u of %u", layer + 1, c->m->hp.n_layer);
        nib_hessians_start(&c->moments);
        rc = nib_block_pass_run(&c->x, &c->runner, layer, 0, c->w->n, true, &obs, err);
        if (!rc) rc = write_block(c, layer, err);
    }
    nib_progress_end(progress);
    return rc;
}

static nib_code write_head(collector *c, nib_err *err)
{
    nib_hessian_store_head head;
    nib_code rc = nib_hessian_store_head_make(&head, c->m, c->w, err);
    return rc ? rc : nib_hessian_store_write_head(c->stage.dir, &head, err);
}

nib_code nib_collect_hessians(nib_collect_report *r, const char *dir, const nib_model *m,
                              const nib_windows *w, const nib_collect_opts *opts,
                              const nib_ctx *ctx, nib_err *err)
{
    collector c = {
        .target = dir, .m = m, .w = w, .report = r, .stage = {.fd = -1}, .moments = {.ctx = ctx}};
    *r = (nib_collect_report){0};
    if (m->hp.n_expert)
        return nib_fail(err, NIB_EINVAL,
                        "the model has experts, whose second moments are not kept: give 'nibble "
                        "quantize' the --text itself");
    nib_code rc = nib_runner_new(&c.runner, m, w, ctx, err);
    if (!rc) rc = check_disk_first(&c, opts->memory, err);
    if (!rc) rc = nib_block_pass_open(&c.x, &c.runner, 0, w->n, opts->memory, dir, err);
    if (!rc) rc = nib_out_folder_open(&c.stage, dir, NIB_STATS_HEAD_FILE, opts->force, err);
    if (!rc) rc = collect_blocks(&c, err);
    if (!rc) rc = write_head(&c, err);
    if (rc)
        nib_out_folder_abort(&c.stage);
    else
        rc = nib_out_folder_commit(&c.stage, err);
    nib_hessians_free(&c.moments);
    nib_block_pass_close(&c.x);
    nib_runner_free(&c.runner);
    return rc;
}
