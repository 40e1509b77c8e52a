/* SPDX-License-Identifier: MIT */
/* cli/recipe.c - see recipe.h. Tests: tests/cases/commands, tests/cli/batch_schema.sh,
 * tests/e2e/batch.sh. */
#include "cli/recipe.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/name.h"
#include "cli/quantize_opts.h"

#include <stdio.h>
#include <string.h>

enum { MOST_BYTES = 16 << 20, MOST_OUTPUTS = 4096 };

/* ---- where ---- */

typedef struct {
    nib_batch_recipe *r;
    const nib_recipe_run *how;
    const char *path, *dir;   /* of the recipe; dir NULL: the working folder */
    nib_batch_output *output; /* [n], with room for `room` */
    size_t n, room;
} reader;

/* Put the recipe and the line of an item in front of the message. */
static nib_code at(const reader *k, const nib_json *item, nib_err *err)
{
    const size_t line = nib_json_line(k->r->root, item, k->r->text, k->r->n_text);
    err->code = err->code == NIB_EFORMAT ? NIB_EINVAL : err->code;
    return nib_wrap(err, "%s: line %zu", k->path, line);
}

static nib_code wrong_kind(const reader *k, const nib_json *item, const char *expected,
                           nib_err *err)
{
    const char *key = nib_json_key(item);
    nib_fail(err, NIB_EINVAL, "%s%s%sshould be %s", key ? "\"" : "", key ? key : "",
             key ? "\" " : "", expected);
    return at(k, item, err);
}

/* ---- values by the rows of a command ---- */

static bool is_path(const nib_opt *o)
{
    return o->metavar && (!strcmp(o->metavar, "FILE") || !strcmp(o->metavar, "DIR"));
}

/* A path of the recipe, as it is from here; of "NAME=FILE" the part behind. */
static nib_code resolve(const char **out, const reader *k, const char *path, nib_err *err)
{
    const size_t word = strcspn(path, "=/."), name = path[word] == '=' ? word + 1 : 0;
    *out = path;
    if (!k->dir || path[name] == '/' || !strcmp(path + name, "-")) return NIB_OK;
    char *joined = nib_path_join(k->dir, path + name);
    const size_t n = joined ? strlen(joined) : 0;
    char *all = joined ? nib_arena_alloc(&k->r->keep, name + n + 1, 1, 1) : NULL;
    if (all) {
        memcpy(all, path, name);
        memcpy(all + name, joined, n + 1);
    }
    nib_free(joined);
    *out = all;
    return all ? NIB_OK : nib_fail_nomem(err, "a path");
}

/* What a row takes; NULL: the item is of that kind. A text whose name in the help is one letter is
 * a number that may have more to it ("2%"). */
static const char *expected_kind(const nib_opt *o, const nib_json *item)
{
    double number;
    const char *text;
    const bool is_number = nib_json_num(item, &number), is_text = nib_json_str(item, &text);
    switch (o->kind) {
    case NIB_OPT_UINT:
    case NIB_OPT_NUM:
        if (is_text && o->word && nib_name_same(text, o->word)) return NULL;
        return is_number ? NULL : "a number";
    case NIB_OPT_SIZE: return is_number || is_text ? NULL : "a number or a string";
    case NIB_OPT_STR:
        if (o->metavar && !o->metavar[1]) return is_number || is_text ? NULL : "a number";
        return is_text ? NULL : "a string";
    default: return is_text ? NULL : "a string";
    }
}

/* A string or a number as it would be written on a command line. */
static nib_code value_text(const char **out, const reader *k, const nib_json *item,
                           const nib_opt *o, nib_err *err)
{
    double number;
    const char *expected = expected_kind(o, item);
    if (expected) return wrong_kind(k, item, expected, err);
    if (nib_json_num(item, &number)) {
        char *text = nib_json_print(item, false);
        *out = text ? nib_arena_str(&k->r->keep, text, strlen(text)) : NULL;
        nib_free(text);
        return *out ? NIB_OK : nib_fail_nomem(err, "a number");
    }
    nib_json_str(item, out);
    return is_path(o) ? resolve(out, k, *out, err) : NIB_OK;
}

static nib_code set_one(const reader *k, const nib_cmd *cmd, const nib_opt *o, const nib_json *item,
                        nib_err *err)
{
    const char *text;
    nib_code rc = value_text(&text, k, item, o, err);
    if (rc) return rc;
    return nib_opt_set(cmd, o, text, err) ? at(k, item, err) : NIB_OK;
}

static nib_code set_row(const reader *k, const nib_cmd *cmd, const nib_opt *o, const nib_json *item,
                        nib_err *err)
{
    bool flag;
    nib_code rc = NIB_OK;
    if (o->kind == NIB_OPT_FLAG) {
        if (!nib_json_bool(item, &flag)) return wrong_kind(k, item, "true or false", err);
        *(bool *)o->target = flag;
        return NIB_OK;
    }
    if (o->kind != NIB_OPT_LIST || !nib_json_is_array(item)) return set_one(k, cmd, o, item, err);
    for (const nib_json *j = nib_json_first(item); j && !rc; j = nib_json_next(j))
        rc = set_one(k, cmd, o, j, err);
    return rc;
}

/* Keys of a recipe that are no option: "also" of set_object(). */
typedef struct {
    const char *name;
    nib_code (*set)(reader *k, const nib_json *item, nib_err *err);
} special;

/* Options that belong to a run, not to an output. */
static bool is_of_run(const char *name)
{
    static const char *const of_run[] = {"dry-run", "json", "force", "resume", "model-card"};
    for (size_t i = 0; i < sizeof of_run / sizeof *of_run; i++)
        if (nib_name_same(name, of_run[i])) return true;
    return false;
}

/* The command's own row of that name; NULL: none. */
static const nib_opt *find_row(const nib_cmd *cmd, const char *name)
{
    const nib_opt *o = cmd->options;
    while (o->name && !nib_name_same(name, o->name)) o++;
    return o->name && !is_of_run(o->name) ? o : NULL;
}

typedef struct {
    const nib_cmd *cmd;
    const special *also;
    size_t n;
} names;

static const char *name_at(const void *arg, size_t i)
{
    const names *k = arg;
    return i < k->n ? k->also[i].name : k->cmd->options[i - k->n].name;
}

static nib_code unknown(const reader *k, const names *known, const nib_json *item, nib_err *err)
{
    const char *name = nib_json_key(item), *near = nib_name_nearest(name, name_at, known);
    if (is_of_run(name))
        nib_fail(err, NIB_EINVAL, "\"%s\" is said on the command line, for all outputs", name);
    else if (near && !is_of_run(near))
        nib_fail(err, NIB_EINVAL, "unknown key \"%s\"; did you mean \"%s\"?", name, near);
    else
        nib_fail(err, NIB_EINVAL, "unknown key \"%s\"", name);
    return at(k, item, err);
}

/* All members of an object: options of `cmd`, or `also`, which come first. */
static nib_code set_object(reader *k, const nib_json *object, const nib_cmd *cmd,
                           const special *also, size_t n, nib_err *err)
{
    nib_code rc = NIB_OK;
    if (!nib_json_is_object(object)) return wrong_kind(k, object, "an object", err);
    for (const nib_json *j = nib_json_first(object); j && !rc; j = nib_json_next(j)) {
        size_t i = 0;
        const nib_opt *o = find_row(cmd, nib_json_key(j));
        while (i < n && !nib_name_same(nib_json_key(j), also[i].name)) i++;
        rc = i < n ? also[i].set(k, j, err)
             : o   ? set_row(k, cmd, o, j, err)
                   : unknown(k, &(names){cmd, also, n}, j, err);
    }
    return rc;
}

/* ---- the parts ---- */

static struct {
    nib_window_opts windows;
    const char *imatrix;
    uint64_t memory;
} calibration;

static const nib_opt calibration_rows[] = {
    NIB_WINDOW_OPTS(calibration.windows, "", 0, ""),
    {.name = "memory", .kind = NIB_OPT_SIZE, .target = &calibration.memory, .metavar = "SIZE"},
    {.name = "imatrix", .kind = NIB_OPT_STR, .target = &calibration.imatrix, .metavar = "FILE"},
    {0}};

static const nib_cmd calibration_part = {.name = "calibration", .options = calibration_rows};

static struct {
    const char *model, *name, *folder;
} top;

static const nib_opt top_rows[] = {
    {.name = "model", .kind = NIB_OPT_STR, .target = &top.model, .metavar = "FILE"},
    {.name = "name", .kind = NIB_OPT_STR, .target = &top.name},
    {.name = "folder", .kind = NIB_OPT_STR, .target = &top.folder, .metavar = "DIR"},
    {0}};

static const nib_cmd top_part = {.name = "batch", .options = top_rows};

static nib_code read_calibration(reader *k, const nib_json *item, nib_err *err)
{
    return set_object(k, item, &calibration_part, NULL, 0, err);
}

static nib_code read_reference(reader *k, const nib_json *item, nib_err *err)
{
    const char *path;
    if (!nib_json_str(item, &path)) return wrong_kind(k, item, "a model", err);
    return resolve(&k->r->reference, k, path, err);
}

static const special evaluation_keys[] = {{"reference", read_reference}};

/* A flag of the command that the run has. */
static void set_flag(const nib_cmd *cmd, const char *name, bool value)
{
    for (const nib_opt *o = cmd->options; o->name; o++)
        if (!strcmp(o->name, name)) *(bool *)o->target = value;
}

/* Reports that an earlier run wrote are replaced when it is taken up. */
static nib_code read_evaluation(reader *k, const nib_json *item, nib_err *err)
{
    nib_code rc = set_object(k, item, &nib_cmd_compare, evaluation_keys, 1, err);
    if (rc) return rc;
    k->r->evaluates = true;
    if (!nib_json_get(item, "text") && !k->r->reference) {
        nib_fail(err, NIB_EINVAL, "\"text\" is missing: what the outputs are evaluated on");
        return at(k, item, err);
    }
    set_flag(&nib_cmd_compare, "force", k->how->force || k->how->resume);
    return nib_cmd_compare.check(err) ? at(k, item, err) : NIB_OK;
}

/* ---- outputs ---- */

/* What an output has beside options, while it is read. */
static struct {
    const char *preset;
    bool importances;
} extra;

/* Types from large to small, as those who publish models make them. */
static const char *const ladder[] = {"q8_0",   "q6_k",   "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s",
                                     "iq4_xs", "q3_k_l", "q3_k_m", "q3_k_s", "q2_k",   NULL};

static nib_code read_preset(reader *k, const nib_json *item, nib_err *err)
{
    if (nib_json_str(item, &extra.preset) && nib_name_same(extra.preset, "ladder")) return NIB_OK;
    return wrong_kind(k, item, "\"ladder\"", err);
}

/* true: by the batch's own matrix. */
static nib_code read_imatrix(reader *k, const nib_json *item, nib_err *err)
{
    if (nib_json_bool(item, &extra.importances)) return NIB_OK;
    return set_one(k, &nib_cmd_quantize, find_row(&nib_cmd_quantize, "imatrix"), item, err);
}

static const special output_keys[] = {{"preset", read_preset}, {"imatrix", read_imatrix}};

/* Sample text is the calibration's, where the output needs some and has none. */
static void share_text(void)
{
    nib_method_opts *how = &nib_quantize_given.how;
    if (how->windows.texts.n || how->stats) return;
    if (!nib_method_opts_looks(how) && !nib_dir_opts_measured(&nib_quantize_given.dir) &&
        !nib_quantize_given.overrides.n)
        return;
    const uint64_t ctx = how->windows.ctx, samples = how->windows.samples, seed = how->windows.seed;
    how->windows = calibration.windows;
    if (ctx) how->windows.ctx = ctx;
    if (samples) how->windows.samples = samples;
    if (seed) how->windows.seed = seed;
    if (calibration.memory) how->memory = calibration.memory;
}

static nib_code add_output(reader *k, const nib_json *item, size_t i, const char *type,
                           nib_err *err)
{
    char where[512];
    nib_batch_recipe *r = k->r;
    nib_quantize_opts *given = &nib_quantize_given;
    const nib_opt_list own_texts = given->how.windows.texts;
    if (k->n == k->room) {
        const size_t room = k->room ? 2 * k->room : 16;
        nib_batch_output *grown = nib_grow(k->output, k->room, room, sizeof *grown);
        if (!grown) return nib_fail_nomem(err, "the list of outputs");
        k->output = grown;
        k->room = room;
    }
    if (type) given->type = type;
    nib_batch_output *o = &k->output[k->n];
    snprintf(where, sizeof where, "%s: line %zu: outputs[%zu]", k->path,
             nib_json_line(r->root, item, r->text, r->n_text), i);
    *o = (nib_batch_output){.where = nib_arena_str(&r->keep, where, strlen(where)),
                            .importances = extra.importances};
    if (!o->where) return nib_fail_nomem(err, "a place in the recipe");
    share_text();
    const char *out = given->out;
    if (!out) given->out = ""; /* the batch names it */
    nib_code rc = nib_quantize_opts_check(err);
    given->out = out;
    if (!rc) rc = nib_quantize_opts_job(&o->opts, r->batch.model, &r->keep, err);
    given->how.windows.texts = own_texts;
    if (rc) return nib_wrap(err, "%s", o->where);
    k->n++;
    return NIB_OK;
}

static nib_code read_output(reader *k, const nib_json *item, size_t i, nib_err *err)
{
    nib_opts_free(&nib_cmd_quantize, NULL);
    nib_quantize_given = (nib_quantize_opts)NIB_QUANTIZE_OPTS_DEFAULT;
    memset(&extra, 0, sizeof extra);
    nib_code rc = set_object(k, item, &nib_cmd_quantize, output_keys,
                             sizeof output_keys / sizeof *output_keys, err);
    if (rc || !extra.preset) return rc ? rc : add_output(k, item, i, NULL, err);
    if (nib_quantize_given.type || nib_quantize_given.out) {
        nib_fail(err, NIB_EINVAL, "\"preset\" has types and names of its own");
        return at(k, item, err);
    }
    for (const char *const *type = ladder; *type && !rc; type++)
        rc = add_output(k, item, i, *type, err);
    return rc;
}

/* After the rest, whatever the order in the recipe: outputs take the calibration's text. */
static nib_code read_outputs(reader *k, nib_err *err)
{
    size_t i = 0;
    nib_code rc = NIB_OK;
    const nib_json *list = nib_json_get(k->r->root, "outputs");
    if (!list || !nib_json_is_array(list) || !nib_json_first(list)) {
        nib_fail(err, NIB_EINVAL, "\"outputs\" should be a list of what to make");
        return at(k, list ? list : k->r->root, err);
    }
    for (const nib_json *j = nib_json_first(list); j && !rc; j = nib_json_next(j))
        rc = i < MOST_OUTPUTS ? read_output(k, j, i++, err)
                              : wrong_kind(k, list, "a list of 4096 at most", err);
    return rc;
}

static nib_code later(reader *k, const nib_json *item, nib_err *err)
{
    (void)k, (void)item, (void)err;
    return NIB_OK;
}

static const special top_keys[] = {
    {"calibration", read_calibration}, {"outputs", later}, {"evaluation", read_evaluation}};

/* ---- the whole ---- */

static bool any_importances(const reader *k)
{
    for (size_t i = 0; i < k->n; i++)
        if (k->output[i].importances) return true;
    return false;
}

static nib_code read_all(reader *k, nib_err *err)
{
    nib_batch_recipe *r = k->r;
    nib_code rc =
        set_object(k, r->root, &top_part, top_keys, sizeof top_keys / sizeof *top_keys, err);
    if (rc) return rc;
    if (!top.model) {
        nib_fail(err, NIB_EINVAL, "\"model\" is missing");
        return at(k, r->root, err);
    }
    r->batch.model = top.model;
    r->batch.name = top.name;
    r->batch.folder = top.folder ? top.folder : k->dir;
    r->batch.imatrix = calibration.imatrix;
    if (!r->reference) r->reference = top.model;
    rc = nib_window_sample(&r->batch.text, &r->keep, &calibration.windows, err);
    if (!rc) rc = read_outputs(k, err);
    if (rc) return rc;
    if (any_importances(k) && !r->batch.text.n_texts) {
        nib_fail(err, NIB_EINVAL,
                 "\"imatrix\": true needs a \"calibration\" with \"text\" to collect it on");
        return at(k, r->root, err);
    }
    return NIB_OK;
}

nib_code nib_recipe_load(nib_batch_recipe *r, const char *path, const nib_recipe_run *how,
                         nib_err *err)
{
    reader k = {.r = r, .how = how, .path = path};
    *r = (nib_batch_recipe){
        .batch = {.resume = how->resume, .dry_run = how->dry_run, .force = how->force}};
    char *dir = nib_path_dir(path), *records = nib_path_beside(path, ".nibble-batch");
    nib_code rc = dir && records ? NIB_OK : nib_fail_nomem(err, "a path");
    if (!rc) r->batch.records = nib_arena_str(&r->keep, records, strlen(records));
    if (!rc && strcmp(dir, ".") != 0) k.dir = nib_arena_str(&r->keep, dir, strlen(dir));
    if (!rc && !r->batch.records) rc = nib_fail_nomem(err, "a path");
    nib_free(dir);
    nib_free(records);
    if (!rc) rc = nib_file_slurp(&r->text, &r->n_text, path, MOST_BYTES, err);
    if (!rc && (rc = nib_json_parse(&r->root, r->text, r->n_text, err))) {
        nib_wrap(err, "%s", path);
        rc = err->code = NIB_EINVAL;
    }
    if (!rc) rc = read_all(&k, err);
    r->batch.output = k.output;
    r->batch.n = rc ? 0 : k.n;
    return rc;
}

void nib_recipe_free(nib_batch_recipe *r)
{
    nib_opts_free(&nib_cmd_quantize, NULL);
    nib_opts_free(&calibration_part, NULL);
    nib_opts_free(&nib_cmd_compare, NULL);
    nib_free(r->batch.output);
    nib_json_free(r->root);
    nib_free(r->text);
    nib_arena_free(&r->keep);
}
