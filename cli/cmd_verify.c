/* SPDX-License-Identifier: MIT */
/* cli/cmd_verify.c - is a model on the disk whole, and what it was when it was written?
 * Tests: tests/cases/commands. */
#include "cli/io.h"
#include "cli/opts.h"
#include "run/verify.h"

#include <stdio.h>
#include <string.h>

static struct {
    const char *against;
    bool json;
} opt;

static const nib_opt rows[] = {
    {.name = "against",
     .kind = NIB_OPT_STR,
     .target = &opt.against,
     .metavar = "FILE",
     .help = "print how far each tensor is from this model's"},
    {.name = "json", .kind = NIB_OPT_FLAG, .target = &opt.json, .help = "print the result as JSON"},
    {0}};

static bool add_lines(nib_json *root, const nib_verify_report *r)
{
    nib_json *list = nib_json_add_array(root, "tensors");
    bool ok = list != NULL;
    for (size_t i = 0; i < r->n_lines && ok; i++) {
        const nib_verify_line *l = &r->line[i];
        nib_json *j = nib_json_add_object(list, NULL);
        ok = j && nib_json_add_str(j, "name", l->name) &&
             nib_json_add_str(j, "type", l->format) &&
             nib_json_add_bool(j, "lossless", l->d.diff == 0) &&
             nib_json_add_num(j, "error", nib_difference_error(&l->d)) &&
             nib_json_add_num(j, "largest_difference", l->d.largest);
    }
    return ok;
}

static nib_code print_json(const char *path, const nib_verify_report *r, nib_err *err)
{
    nib_json *j = nib_json_new_object();
    bool ok = j && nib_json_add_str(j, "model", path) &&
              nib_json_add_bool(j, "whole", !r->n_faults) &&
              nib_json_add_num(j, "files", (double)r->n_files) &&
              nib_json_add_num(j, "tensors_read", (double)r->n_tensors) &&
              nib_json_add_bool(j, "checksums", *r->version) &&
              (!*r->version || nib_json_add_str(j, "written_by", r->version));
    nib_json *faults = ok ? nib_json_add_array(j, "faults") : NULL;
    ok = faults != NULL;
    for (size_t i = 0; i < r->n_faults && ok; i++) ok = nib_json_add_str(faults, NULL, r->fault[i]);
    if (ok && opt.against) ok = nib_json_add_str(j, "against", opt.against) && add_lines(j, r);
    return nib_print_json(j, ok, err);
}

static void print_lines(const nib_verify_report *r)
{
    int width = 6;
    for (size_t i = 0; i < r->n_lines; i++) {
        const int n = (int)strlen(r->line[i].name);
        if (n > width) width = n;
    }
    printf("%-*s %-10s %12s %12s\n", width, "tensor", "format", "error", "largest");
    for (size_t i = 0; i < r->n_lines; i++) {
        const nib_verify_line *l = &r->line[i];
        nib_print_text(l->name, strlen(l->name));
        printf("%*s %-10s ", width - (int)strlen(l->name), "", l->format);
        if (l->d.diff == 0)
            puts("    lossless");
        else
            printf("%12.6f %12.6g\n", nib_difference_error(&l->d), l->d.largest);
    }
}

static void print(const char *path, const nib_verify_report *r)
{
    if (opt.against) print_lines(r);
    for (size_t i = 0; i < r->n_faults; i++) {
        fputs("fault: ", stdout);
        nib_print_text(r->fault[i], strlen(r->fault[i]));
        putchar('\n');
    }
    if (r->n_faults) return;
    printf("%s: %zu tensors in %zu file%s, all numbers finite, ", path, r->n_tensors, r->n_files,
           r->n_files == 1 ? "" : "s");
    if (*r->version)
        printf("as nibble %s wrote it\n", r->version);
    else
        puts("no checksums to hold it against");
}

static int run(const nib_opt_list *operands, const nib_ctx *ctx)
{
    nib_err err;
    nib_verify_report r = {0};
    const char *path = operands->v[0];
    nib_code rc = nib_verify(&r, path, opt.against, ctx, &err);
    if (!rc && opt.json) rc = print_json(path, &r, &err);
    if (!rc && !opt.json) print(path, &r);
    const int status = rc ? nib_report(&err) : r.n_faults ? NIB_EXIT_FAILED : NIB_EXIT_OK;
    nib_verify_report_free(&r);
    return status;
}

const nib_cmd nib_cmd_verify = {
    .name = "verify",
    .run = run,
    .summary = "find out whether a model is whole",
    .operands = "MODEL",
    .min_operands = 1,
    .max_operands = 1,
    .usage = "MODEL [--against MODEL]",
    .about = "Read all of a model again: the container's rules, every block of every tensor, "
             "whether it opens with its tokenizer, and the checksums that nibble wrote into it. "
             "A single changed byte is found.",
    .example = "nibble verify data/tiny-llama",
    .options = rows,
};
