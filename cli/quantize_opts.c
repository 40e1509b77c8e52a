/* SPDX-License-Identifier: MIT */
/* cli/quantize_opts.c - see quantize_opts.h. Tests: tests/cases/commands. */
#include "cli/quantize_opts.h"

#include "base/name.h"

nib_quantize_opts nib_quantize_given = NIB_QUANTIZE_OPTS_DEFAULT;

/* Schemes of bitsandbytes folders, which go by --type too, and what comes nearest in a GGUF file.
 */
static const struct {
    const char *name, *nearest;
} bnb_types[] = {{"nf4", "iq4_nl"}, {"fp4", "mxfp4"}, {"int8", "q8_0"}};
enum { N_BNB_TYPES = sizeof bnb_types / sizeof *bnb_types };

static const char *type_name(size_t i)
{
    const size_t n = nib_file_type_count();
    if (i < n) return nib_file_type_at(i)->name;
    return i - n < N_BNB_TYPES ? bnb_types[i - n].name : NULL;
}

const nib_opt nib_quantize_rows[] = {{.name = "output",
                                      .letter = 'o',
                                      .kind = NIB_OPT_STR,
                                      .target = &nib_quantize_given.out,
                                      .metavar = "FILE",
                                      .help = "the file or folder to write",
                                      .heading = "Output"},
                                     {.name = "format",
                                      .kind = NIB_OPT_CHOICE,
                                      .target = &nib_quantize_given.dir.format,
                                      .choices = nib_folder_formats,
                                      .metavar = "FORMAT",
                                      .help = "gguf; folders: gptq, awq, hqq ... (gguf)"},
                                     {.name = "dry-run",
                                      .letter = 'n',
                                      .kind = NIB_OPT_FLAG,
                                      .target = &nib_quantize_given.dry_run,
                                      .help = "print each tensor's format and why, sizes, memory"},
                                     {.name = "force",
                                      .letter = 'f',
                                      .kind = NIB_OPT_FLAG,
                                      .target = &nib_quantize_given.force,
                                      .help = "replace an existing file"},
                                     {.name = "json",
                                      .kind = NIB_OPT_FLAG,
                                      .target = &nib_quantize_given.json,
                                      .help = "print the result as JSON"},
                                     {.name = "base-model",
                                      .kind = NIB_OPT_STR,
                                      .target = &nib_quantize_given.base_model,
                                      .metavar = "NAME",
                                      .help = "the original's ORG/NAME on the Hub, for metadata"},
                                     {.name = "model-card",
                                      .kind = NIB_OPT_STR,
                                      .target = &nib_quantize_given.model_card,
                                      .metavar = "FILE",
                                      .help = "make a model card, or add to its table"},
                                     {.name = "type",
                                      .letter = 't',
                                      .kind = NIB_OPT_STR,
                                      .target = &nib_quantize_given.type,
                                      .offer = type_name,
                                      .metavar = "TYPE",
                                      .help = "q8_0, q4_k_m, iq4_xs, iq3_s, iq2_m ... (q4_k_m)",
                                      .heading = "GGUF files"},
                                     {.name = "output-type",
                                      .kind = NIB_OPT_STR,
                                      .target = &nib_quantize_given.output_type,
                                      .metavar = "TYPE",
                                      .help = "format of the output matrix"},
                                     {.name = "embedding-type",
                                      .kind = NIB_OPT_STR,
                                      .target = &nib_quantize_given.embedding_type,
                                      .metavar = "TYPE",
                                      .help = "format of the token embedding"},
                                     {.name = "leave-output",
                                      .kind = NIB_OPT_FLAG,
                                      .target = &nib_quantize_given.leave_output,
                                      .help = "do not quantize the output matrix"},
                                     {.name = "pure",
                                      .kind = NIB_OPT_FLAG,
                                      .target = &nib_quantize_given.pure,
                                      .help = "every matrix in the base format, without the mix"},
                                     {.name = "pre",
                                      .kind = NIB_OPT_STR,
                                      .target = &nib_quantize_given.pre,
                                      .metavar = "NAME",
                                      .help = "pre-tokenizer's name (found from the tokenizer)"},
                                     {.name = "split-max-size",
                                      .kind = NIB_OPT_SIZE,
                                      .target = &nib_quantize_given.split_max,
                                      .metavar = "SIZE",
                                      .help = "most tensor data in one file (one file)"},
                                     NIB_DIR_OPTS(nib_quantize_given.dir),
                                     {.name = "override",
                                      .kind = NIB_OPT_LIST,
                                      .target = &nib_quantize_given.overrides,
                                      .metavar = "RE:K=V",
                                      .help = "tensors named like RE: method, skip, type, bits",
                                      .heading = "Single tensors"},
                                     {.name = "protect-blocks",
                                      .kind = NIB_OPT_STR,
                                      .target = &nib_quantize_given.protect_blocks,
                                      .metavar = "K",
                                      .help = "more bits for the first and last K blocks"},
                                     {.name = "tensor-type",
                                      .kind = NIB_OPT_LIST,
                                      .target = &nib_quantize_given.tensor_types,
                                      .metavar = "RE=TYPE",
                                      .help = "tensors with RE in their GGUF name; first wins"},
                                     NIB_METHOD_OPTS(nib_quantize_given.how),
                                     {.name = "imatrix",
                                      .kind = NIB_OPT_STR,
                                      .target = &nib_quantize_given.imatrix,
                                      .metavar = "FILE",
                                      .help = "importance matrix, from 'nibble calibrate'"},
                                     {0}};

/* ---- what they ask for ---- */

/* "--format bitsandbytes --type nf4" is its scheme. NIB_EINVAL: such a type of another format. */
static nib_code settle_type(nib_quantize_opts *o, nib_err *err)
{
    size_t i = 0;
    while (o->type && i < N_BNB_TYPES && !nib_name_same(o->type, bnb_types[i].name)) i++;
    if (!o->type || i == N_BNB_TYPES) return NIB_OK;
    if (nib_dir_opts_folder(&o->dir) && !nib_name_same(o->dir.format, "bitsandbytes"))
        return nib_fail(err, NIB_EINVAL, "--type %s needs --format bitsandbytes, not %s",
                        bnb_types[i].name, o->dir.format);
    if (!nib_name_same(o->dir.format, "bitsandbytes"))
        return nib_fail(err, NIB_EINVAL,
                        "--type %s needs --format bitsandbytes; the nearest type of a GGUF file "
                        "is %s",
                        bnb_types[i].name, bnb_types[i].nearest);
    if (o->dir.scheme && !nib_name_same(o->dir.scheme, o->type))
        return nib_fail(err, NIB_EINVAL, "--type %s and --scheme %s say two things", o->type,
                        o->dir.scheme);
    o->dir.scheme = bnb_types[i].name;
    o->type = NULL;
    return NIB_OK;
}

nib_code nib_quantize_opts_check(nib_err *err)
{
    nib_quantize_opts *o = &nib_quantize_given;
    nib_code rc = settle_type(o, err);
    if (rc) return rc;
    const char *wrong = nib_dir_opts_wrong(&o->dir);
    if (!o->out && !o->dry_run) return nib_fail(err, NIB_EINVAL, "-o FILE is missing");
    if (o->model_card && !o->base_model)
        return nib_fail(err, NIB_EINVAL, "--model-card needs --base-model ORG/NAME");
    rc = nib_method_opts_check(&o->how, &o->dir, o->dry_run, err);
    if (rc) return rc;
    if (nib_dir_opts_folder(&o->dir) && o->imatrix &&
        nib_method_opts_method(&o->how) == NIB_METHOD_HQQ)
        return nib_fail(err, NIB_EINVAL,
                        "--imatrix: method hqq weighs no weights; rtn rounds by importance");
    if (nib_dir_opts_folder(&o->dir) && o->split_max)
        return nib_fail(err, NIB_EINVAL,
                        "--split-max-size is for GGUF files; use --max-shard-size");
    return wrong ? nib_fail(err, NIB_EINVAL, "%s", wrong) : NIB_OK;
}

/* A list that outlives the rows. */
static nib_code keep_list(nib_opt_list *out, const nib_opt_list *from, nib_arena *keep,
                          nib_err *err)
{
    const char **v = nib_arena_alloc(keep, from->n ? from->n : 1, sizeof *v, _Alignof(char *));
    if (!v) return nib_fail_nomem(err, "a list of options");
    for (size_t i = 0; i < from->n; i++) v[i] = from->v[i];
    *out = (nib_opt_list){.v = v, .n = from->n};
    return NIB_OK;
}

static nib_recipe make_recipe(const nib_quantize_opts *o)
{
    const bool folder = nib_dir_opts_folder(&o->dir);
    return (nib_recipe){.format = nib_dir_opts_kind(&o->dir),
                        .layout = nib_dir_opts_layout(&o->dir),
                        .out = o->out,
                        .type = o->type,
                        .overrides = o->overrides.v,
                        .n_overrides = o->overrides.n,
                        .tensor_types = o->tensor_types.v,
                        .n_tensor_types = o->tensor_types.n,
                        .protect_blocks = o->protect_blocks,
                        .output_type = o->output_type,
                        .embedding_type = o->embedding_type,
                        .pre = o->pre,
                        .method = nib_method_opts_method(&o->how),
                        .transform = nib_method_opts_transform(&o->how),
                        .scales = nib_dir_opts_scales(&o->dir),
                        .pure = o->pure,
                        .leave_output = o->leave_output,
                        .force = o->force,
                        .split_max = folder ? o->dir.shard_max : o->split_max};
}

nib_code nib_quantize_opts_job(nib_job_opts *out, const char *model, nib_arena *keep, nib_err *err)
{
    nib_quantize_opts o = nib_quantize_given;
    nib_code rc = keep_list(&o.overrides, &nib_quantize_given.overrides, keep, err);
    if (!rc) rc = keep_list(&o.tensor_types, &nib_quantize_given.tensor_types, keep, err);
    if (rc) return rc;
    *out = (nib_job_opts){.model = model,
                          .recipe = make_recipe(&o),
                          .imatrix = o.imatrix,
                          .ranges = o.dir.ranges,
                          .kv_ranges = o.dir.kv_scales,
                          .stats = o.how.stats,
                          .solve = nib_method_opts_solve(&o.how, &o.dir),
                          .resume = o.how.resume,
                          .dry_run = o.dry_run,
                          .base_model = o.base_model};
    return nib_window_sample(&out->text, keep, &o.how.windows, err);
}
