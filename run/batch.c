/* SPDX-License-Identifier: MIT */
/* run/batch.c - see batch.h. */
#include "run/batch.h"

#include "base/file.h"
#include "calib/checkpoint.h"
#include "calib/collect_importance.h"
#include "calib/fingerprint.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- names ---- */

static nib_code keep_text(const char **out, nib_batch *b, const char *text, nib_err *err)
{
    *out = nib_arena_str(&b->keep, text, strlen(text));
    return *out ? NIB_OK : nib_fail_nomem(err, "a name");
}

/* "7B", "1.5B", "8x7B" between hyphens: does the name say how large the model is? */
static bool names_size(const char *name)
{
    for (const char *p = name; *p; p += *p == '-') {
        const size_t n = strcspn(p, "-"), digits = strspn(p, "0123456789.x");
        if (digits && digits + 1 == n && isdigit((unsigned char)*p) &&
            strchr("KMBTkmbt", p[digits]))
            return true;
        p += n;
    }
    return false;
}

/* "2.9M": two digits or more. */
static void size_label(char *text, size_t size, const nib_source *src)
{
    double n = 0;
    size_t u = 0;
    for (size_t i = 0; i < nib_source_count(src); i++)
        n += (double)nib_tensor_elems(nib_source_at(src, i));
    for (n /= 1000; n >= 999.5 && u < 3; u++) n /= 1000;
    snprintf(text, size, "%.*f%c", n < 9.95 ? 1 : 0, n, "KMBT"[u]);
}

/* The model's name, as the names of its files begin: of its folder, or of its file without the
 * ending, with its size. */
static nib_code name_model(nib_batch *b, nib_err *err)
{
    char name[256], size[16];
    if (b->name) return NIB_OK;
    size_t n = strlen(b->model);
    while (n > 1 && b->model[n - 1] == '/') n--;
    snprintf(name, sizeof name, "%.*s", (int)(n < 255 ? n : 255), b->model);
    char *base = (char *)nib_path_base(name), *dot = strrchr(base, '.');
    if (dot && (!strcmp(dot, ".gguf") || !strcmp(dot, ".safetensors"))) *dot = 0;
    if (!*base || !strcmp(base, ".") || !strcmp(base, ".."))
        return nib_fail(err, NIB_EINVAL, "\"name\" is missing: '%s' says none", b->model);
    size_label(size, sizeof size, b->src);
    n = strlen(base);
    if (!names_size(base)) snprintf(base + n, sizeof name - (size_t)(base - name) - n, "-%s", size);
    return keep_text(&b->name, b, base, err);
}

static nib_code in_folder(const char **out, nib_batch *b, const char *name, nib_err *err)
{
    if (!b->folder || !strcmp(b->folder, ".")) return keep_text(out, b, name, err);
    char *path = nib_path_join(b->folder, name);
    nib_code rc = path ? keep_text(out, b, path, err) : nib_fail_nomem(err, "a path");
    nib_free(path);
    return rc;
}

/* NAME-Q4_K_M.gguf, as the Hub reads it. */
static nib_code name_output(nib_batch *b, nib_batch_output *o, nib_err *err)
{
    char name[400];
    const nib_file_type *type;
    nib_recipe *r = &o->opts.recipe;
    if (r->out) return NIB_OK;
    if (r->format != NIB_FORMAT_GGUF)
        return nib_fail(err, NIB_EINVAL, "\"output\" is missing: folders need a name");
    nib_code rc = nib_file_type_find(&type, r->type ? r->type : "q4_k_m", err);
    if (rc) return rc;
    const int n = snprintf(name, sizeof name, "%s-%s.gguf", b->name, type->name);
    for (size_t i = strlen(b->name); i + 5 < (size_t)n && i < sizeof name; i++)
        name[i] = (char)toupper((unsigned char)name[i]);
    return in_folder(&r->out, b, name, err);
}

static nib_code name_all(nib_batch *b, nib_err *err)
{
    nib_code rc = name_model(b, err);
    for (size_t i = 0; i < b->n && !rc; i++) {
        rc = name_output(b, &b->output[i], err);
        if (rc) return nib_wrap(err, "%s", b->output[i].where);
    }
    if (!rc && !b->imatrix) {
        char name[300];
        snprintf(name, sizeof name, "%s-imatrix.gguf", b->name);
        rc = in_folder(&b->imatrix, b, name, err);
    }
    return rc;
}

/* ---- opening ---- */

/* A fault of the recipe ends all; any other is the output's own. */
static nib_code judge(nib_batch_output *o, nib_code rc, nib_err *err)
{
    if (!rc) return NIB_OK;
    if (rc == NIB_EINVAL) return nib_wrap(err, "%s", o->where);
    o->state = NIB_BATCH_FAILED;
    o->err = *err;
    return NIB_OK;
}

/* No two outputs are one file, under whatever names. */
static nib_code check_twins(nib_batch *b, nib_err *err)
{
    nib_code rc = NIB_OK;
    nib_target *t = nib_calloc(b->n + 1, sizeof *t);
    if (!t) return nib_fail_nomem(err, "a list of outputs");
    for (size_t i = 0; i < b->n && !rc; i++) {
        const nib_recipe *r = &b->output[i].opts.recipe;
        nib_err ignored;
        if (nib_target_find(&t[i], r->out, r->format != NIB_FORMAT_GGUF, &ignored)) continue;
        if (!strcmp(t[i].path, b->imatrix))
            rc = nib_fail(err, NIB_EINVAL, "%s: '%s' is the importance matrix's name",
                          b->output[i].where, r->out);
        for (size_t k = 0; k < i && !rc; k++)
            if (t[k].path && !strcmp(t[i].path, t[k].path))
                rc = nib_fail(err, NIB_EINVAL, "%s: '%s' is the name of another output too (%s)",
                              b->output[i].where, r->out, b->output[k].where);
    }
    for (size_t i = 0; i < b->n; i++) nib_target_release(&t[i]);
    nib_free(t);
    return rc;
}

static nib_code make_folder(const nib_batch *b, nib_err *err)
{
    if (!b->folder || b->dry_run || !mkdir(b->folder, 0777) || errno == EEXIST) return NIB_OK;
    return nib_fail_sys(err, errno, "%s: making the folder of the outputs", b->folder);
}

/* Hash of all that an output consists of. */
static nib_code hash_output(uint64_t *h, const nib_job *j, nib_err *err)
{
    nib_code rc = NIB_OK;
    *h = NIB_HASH_START;
    if (j->opts.recipe.format != NIB_FORMAT_GGUF) return nib_batch_hash(h, j->target.path, err);
    for (size_t i = 0; i < j->plan.layout.n_files && !rc; i++)
        rc = nib_batch_hash(h, j->plan.layout.file_path[i], err);
    return rc;
}

/* In a dry run: is it in the folder that the run will make? Then there is nothing to check. */
static bool is_to_come(const nib_batch *b, const char *out)
{
    const size_t n = b->folder ? strlen(b->folder) : 0;
    return n && b->dry_run && !nib_file_exists(b->folder) && !strncmp(out, b->folder, n) &&
           out[n] == '/';
}

static nib_code open_job(nib_batch *b, nib_batch_output *o, const nib_ctx *ctx, nib_err *err)
{
    nib_job_opts how = o->opts;
    how.model = b->model;
    how.opened = &b->m;
    how.resume = b->resume;
    how.dry_run = b->dry_run;
    how.seen = &b->seen;
    how.recipe.force = b->force;
    if (is_to_come(b, how.recipe.out)) how.recipe.out = NULL;
    o->open = true;
    return nib_job_open(&o->job, &how, ctx, err);
}

nib_code nib_batch_open(nib_batch *b, const nib_ctx *ctx, nib_err *err)
{
    nib_code rc = nib_source_open(&b->src, b->model, err);
    if (!rc) rc = nib_model_open(&b->m, b->src, err);
    if (!rc) rc = name_all(b, err);
    if (!rc) rc = check_twins(b, err);
    if (!rc) rc = make_folder(b, err);
    if (!rc) rc = nib_batch_records_open(&b->done, b->records, b->resume, err);
    for (size_t i = 0; i < b->n && !rc; i++)
        rc = judge(&b->output[i], open_job(b, &b->output[i], ctx, err), err);
    return rc;
}

void nib_batch_close(nib_batch *b)
{
    for (size_t i = 0; i < b->n; i++)
        if (b->output[i].open) nib_job_close(&b->output[i].job);
    nib_imatrix_free(&b->importances);
    nib_target_release(&b->imatrix_target);
    nib_batch_records_free(&b->done);
    nib_provenance_free(&b->seen);
    nib_model_close(&b->m);
    nib_source_close(b->src);
    nib_arena_free(&b->keep);
}

/* ---- planning ---- */

/* Is it all as the record has it? */
static bool is_as_left(const nib_job *j, const nib_batch_record *r)
{
    nib_err ignored;
    uint64_t h;
    return r && r->done && !hash_output(&h, j, &ignored) && h == r->contents;
}

static bool is_there(const nib_job *j)
{
    return nib_file_exists(j->opts.recipe.format != NIB_FORMAT_GGUF ? j->target.path
                                                                    : j->plan.layout.file_path[0]);
}

/* What this batch has made, or was about to when it was killed, it may replace. */
static nib_code plan_job(nib_batch *b, nib_batch_output *o, const nib_ctx *ctx, nib_err *err)
{
    nib_job *j = &o->job;
    const char *path = j->target.path;
    const nib_batch_record *r = path ? nib_batch_records_find(&b->done, path) : NULL;
    if (o->importances && b->importances.n) j->importances = &b->importances;
    j->opts.recipe.importances_come = o->importances && !b->importances.n;
    if (r) j->opts.recipe.force = true;
    nib_code rc = nib_job_plan(j, ctx, err);
    if (rc) return rc;
    if (r && !o->as_left) o->as_left = is_as_left(j, r);
    if (r && r->done && !o->as_left && !b->force && is_there(j))
        return nib_fail(err, NIB_EIO, "%s: is not as this batch left it; --force replaces it",
                        o->opts.recipe.out);
    return NIB_OK;
}

/* Outputs [0, end) of a group, and the memory that they take together: the most that one takes
 * alone, and what each of the others adds. */
static size_t count_group(const nib_batch *b, size_t group, size_t end, uint64_t *memory)
{
    size_t n = 0;
    uint64_t most = 0, added = 0, adds_least = UINT64_MAX;
    for (size_t i = 0; i < end; i++) {
        const nib_batch_output *o = &b->output[i];
        if (o->state == NIB_BATCH_FAILED || o->group != group) continue;
        const uint64_t adds = nib_job_beside(&o->job);
        if (o->job.plan.peak_memory > most) most = o->job.plan.peak_memory;
        if (adds < adds_least) adds_least = adds;
        added += adds;
        n++;
    }
    *memory = n > 1 ? most + added - adds_least : most;
    return n;
}

/* With the first output that it shares with, and whose group has room: of the machine's memory too.
 */
static void find_group(nib_batch *b, size_t i)
{
    nib_batch_output *o = &b->output[i];
    const uint64_t machine = nib_mem_total();
    const size_t fresh = b->n_groups;
    uint64_t memory;
    o->group = fresh;
    for (size_t k = 0; k < i && o->group == fresh; k++) {
        const nib_batch_output *other = &b->output[k];
        if (other->state == NIB_BATCH_FAILED || !nib_jobs_share(&o->job, &other->job)) continue;
        o->group = other->group;
        if (count_group(b, o->group, i + 1, &memory) > NIB_SOLVE_OUTPUTS || memory > machine)
            o->group = fresh;
    }
    b->n_groups += o->group == fresh;
    count_group(b, o->group, i + 1, &memory);
    if (memory > b->peak_memory) b->peak_memory = memory;
}

/* Room on the disk for all that is not there yet: outputs one after the other, and the solved
 * tensors of a group at once. */
static void warn_room(const nib_batch *b, nib_log *log)
{
    uint64_t need = 0, most = 0, disk = UINT64_MAX;
    for (size_t g = 0; g < b->n_groups; g++) {
        uint64_t solved = 0;
        for (size_t i = 0; i < b->n; i++) {
            const nib_batch_output *o = &b->output[i];
            const nib_plan *p = &o->job.plan;
            if (o->state == NIB_BATCH_FAILED || o->group != g || o->as_left) continue;
            need += p->layout.total_bytes;
            solved += p->solved_bytes;
            if (p->disk_free < disk) disk = p->disk_free;
        }
        if (solved > most) most = solved;
    }
    if (disk != UINT64_MAX && need + most > disk)
        nib_warn(log,
                 "the outputs take %.1f MB of disk and %.1f MB on the way, and %.1f MB are free: "
                 "some may fail",
                 (double)need / 1e6, (double)most / 1e6, (double)disk / 1e6);
}

nib_code nib_batch_plan(nib_batch *b, const nib_ctx *ctx, nib_err *err)
{
    nib_code rc = NIB_OK;
    b->n_groups = 0;
    for (size_t i = 0; i < b->n && !rc; i++) {
        nib_batch_output *o = &b->output[i];
        if (o->state == NIB_BATCH_FAILED) continue;
        rc = judge(o, plan_job(b, o, ctx, err), err);
        if (!rc && o->state != NIB_BATCH_FAILED) find_group(b, i);
    }
    if (!rc) warn_room(b, ctx->log);
    return rc;
}

/* ---- cost ---- */

size_t nib_batch_passes(const nib_batch_output *o)
{
    nib_inputs inputs;
    const nib_plan *p = &o->job.plan;
    const nib_solve_opts *how = &o->job.opts.solve;
    if (!p->n_solved || how->stats) return 0;
    nib_steps_inputs(&inputs, nib_model_steps(p->model, 0));
    const size_t rounds = how->true_sequential ? inputs.n : 1;
    return rounds * (1u + (nib_solve_drift(p, how) > 0)) +
           (p->recipe.transform && nib_plan_measures_ranges(p)) + how->propagate;
}

nib_batch_cost nib_batch_group_cost(const nib_batch *b, size_t group)
{
    nib_batch_cost c = {.outputs = 0};
    for (size_t i = 0; i < b->n; i++) {
        const nib_batch_output *o = &b->output[i];
        const size_t passes = nib_batch_passes(o);
        if (o->state == NIB_BATCH_FAILED || o->group != group || !passes) continue;
        const nib_solve_opts *how = &o->job.opts.solve;
        const bool drift = nib_solve_drift(&o->job.plan, how) > 0;
        c.outputs++;
        c.alone += passes;
        c.original += !how->propagate;
        c.own += how->propagate;
        c.drift += drift;
        c.passes += passes - (!how->propagate || (drift && !how->true_sequential));
    }
    if (c.outputs == 1)
        c.passes = c.alone;
    else
        c.passes += c.original || c.drift;
    return c;
}

/* ---- importances ---- */

static bool any_wants(const nib_batch *b)
{
    for (size_t i = 0; i < b->n; i++)
        if (b->output[i].importances && b->output[i].state != NIB_BATCH_FAILED) return true;
    return false;
}

static nib_code collect(nib_batch *b, const nib_windows *w, uint64_t fingerprint, bool force,
                        const nib_ctx *ctx, nib_err *err)
{
    nib_imatrix stats = {0};
    nib_calib_opts how = nib_calib_defaults();
    const char *path = b->imatrix_target.path;
    nib_batch_record r = {.output = b->imatrix_target.path, .fingerprint = fingerprint};
    char *partial = nib_path_beside(path, ".partial");
    how.checkpoint = partial;
    nib_code rc = partial ? NIB_OK : nib_fail_nomem(err, "a path");
    if (!rc) rc = nib_batch_records_set(&b->done, &r, err);
    if (!rc) rc = nib_collect_importance(&stats, &b->m, w, &how, ctx, err);
    if (!rc) rc = nib_importance_texts(&stats, &b->text, err);
    if (!rc) rc = nib_imatrix_save(&stats, path, force, err);
    if (!rc) remove(partial);
    r.contents = NIB_HASH_START;
    r.done = true;
    if (!rc) rc = nib_batch_hash(&r.contents, path, err);
    if (!rc) rc = nib_batch_records_set(&b->done, &r, err);
    nib_imatrix_free(&stats);
    nib_free(partial);
    return rc;
}

/* Is it there, of the same model and windows, as an earlier run left it? */
static bool is_collected(const nib_batch_record *r, const char *path, uint64_t fingerprint)
{
    nib_err ignored;
    uint64_t h = NIB_HASH_START;
    return r && r->done && r->fingerprint == fingerprint && !nib_batch_hash(&h, path, &ignored) &&
           h == r->contents;
}

static nib_code collect_windows(nib_batch *b, nib_windows *w, const nib_ctx *ctx, nib_err *err)
{
    uint64_t fingerprint;
    const nib_calib_opts how = nib_calib_defaults();
    const char *path = b->imatrix_target.path;
    nib_code rc = nib_checkpoint_fingerprint(&fingerprint, &b->m, w, &how, err);
    const nib_batch_record *r = nib_batch_records_find(&b->done, path);
    if (rc || is_collected(r, path, fingerprint)) return rc;
    const bool force = b->force || (r && !r->done);
    if (!force && nib_file_exists(path))
        return nib_fail(err, NIB_EIO, "%s: exists already; --force replaces it", path);
    return collect(b, w, fingerprint, force, ctx, err);
}

/* The importance matrix that the recipe asks for, from its file, as 'quantize' has it. */
static nib_code get_importances(nib_batch *b, const nib_ctx *ctx, nib_err *err)
{
    nib_windows w = {0};
    nib_tokenizer *tok = NULL;
    nib_code rc = nib_target_claim(&b->imatrix_target, b->imatrix, false, err);
    if (!rc) rc = nib_tokenizer_open(&tok, b->src, err);
    if (!rc)
        rc = nib_sample_pick(&w, &b->text, &b->m, tok, NIB_CALIB_CTX, NIB_CALIB_MAX_WINDOWS,
                             ctx->log, err);
    if (!rc) rc = collect_windows(b, &w, ctx, err);
    if (!rc) rc = nib_imatrix_load(&b->importances, b->imatrix, err);
    nib_windows_free(&w);
    nib_tokenizer_close(tok);
    return rc;
}

static void fail(nib_batch_output *o, const nib_err *err, nib_log *log)
{
    o->state = NIB_BATCH_FAILED;
    o->err = *err;
    nib_warn(log, "%s: %s", o->opts.recipe.out, err->msg);
}

/* Outputs that want them are planned again with them. */
static void use_importances(nib_batch *b, const nib_ctx *ctx)
{
    nib_err err;
    nib_code rc = get_importances(b, ctx, &err);
    for (size_t i = 0; i < b->n; i++) {
        nib_batch_output *o = &b->output[i];
        if (!o->importances || o->state == NIB_BATCH_FAILED) continue;
        if (!rc && !plan_job(b, o, ctx, &err)) continue;
        fail(o, &err, ctx->log);
    }
}

/* ---- one group after the other ---- */

/* Finished by an earlier run of the same, and as it was left? */
static bool is_finished(const nib_batch *b, const nib_batch_output *o)
{
    const nib_batch_record *r = nib_batch_records_find(&b->done, o->job.target.path);
    return o->as_left && r->fingerprint == o->fingerprint;
}

static nib_code begin(nib_batch *b, nib_batch_output *o, const nib_windows *w, nib_err *err)
{
    nib_code rc = nib_job_fingerprint(&o->fingerprint, &o->job, w, err);
    if (rc) return rc;
    if (is_finished(b, o)) {
        o->state = NIB_BATCH_KEPT;
        return NIB_OK;
    }
    return nib_batch_records_set(
        &b->done, &(nib_batch_record){o->job.target.path, o->fingerprint, 0, false}, err);
}

/* The record comes before the solved tensors go: a run that is killed between the two has nothing
 * to solve again. */
static nib_code make(nib_batch *b, nib_batch_output *o, const nib_ctx *ctx, nib_err *err)
{
    nib_batch_record r = {o->job.target.path, o->fingerprint, 0, true};
    nib_code rc = nib_job_write(&o->job, ctx, err);
    if (!rc) rc = hash_output(&r.contents, &o->job, err);
    return rc ? rc : nib_batch_records_set(&b->done, &r, err);
}

static void finish(nib_batch *b, nib_batch_output *o, const nib_err *solved, const nib_ctx *ctx)
{
    nib_err err = *solved;
    nib_code rc = solved->code ? solved->code : make(b, o, ctx, &err);
    rc = nib_job_finish(&o->job, rc, ctx, &err);
    o->seconds = o->job.result.seconds + o->job.solved.seconds;
    if (rc) {
        fail(o, &err, ctx->log);
        return;
    }
    o->state = NIB_BATCH_MADE;
    nib_info(ctx->log, "%s: made in %.1f s", o->opts.recipe.out, o->seconds);
}

static nib_code run_group(nib_batch *b, nib_batch_output **of, size_t n, const nib_ctx *ctx,
                          nib_err *err)
{
    nib_windows w;
    size_t left = 0;
    nib_job **job = nib_calloc(n, sizeof *job);
    nib_err *solved = nib_calloc(n, sizeof *solved);
    nib_code rc = job && solved ? NIB_OK : nib_fail_nomem(err, "a list of outputs");
    if (!rc) rc = nib_job_windows(&w, &of[0]->job, ctx, err);
    if (rc) w = (nib_windows){0};
    for (size_t i = 0; i < n && !rc; i++) {
        if (begin(b, of[i], &w, err))
            fail(of[i], err, ctx->log);
        else if (of[i]->state == NIB_BATCH_WAITS)
            of[left] = of[i], job[left++] = &of[i]->job;
    }
    if (!rc) nib_jobs_solve(job, left, &w, ctx, solved);
    for (size_t i = 0; i < left && !rc; i++) finish(b, of[i], &solved[i], ctx);
    nib_windows_free(&w);
    nib_free(job);
    nib_free(solved);
    return rc;
}

nib_code nib_batch_run(nib_batch *b, const nib_ctx *ctx, nib_err *err)
{
    nib_batch_output **of = nib_calloc(b->n + 1, sizeof *of);
    if (!of) return nib_fail_nomem(err, "a list of outputs");
    if (any_wants(b)) use_importances(b, ctx);
    for (size_t g = 0; g < b->n_groups; g++) {
        nib_err one;
        size_t n = 0;
        for (size_t i = 0; i < b->n; i++)
            if (b->output[i].group == g && b->output[i].state == NIB_BATCH_WAITS)
                of[n++] = &b->output[i];
        if (n && run_group(b, of, n, ctx, &one))
            for (size_t i = 0; i < n; i++)
                if (of[i]->state == NIB_BATCH_WAITS) fail(of[i], &one, ctx->log);
    }
    nib_free(of);
    return NIB_OK;
}
