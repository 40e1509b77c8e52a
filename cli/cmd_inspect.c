/* SPDX-License-Identifier: MIT */
/* cli/cmd_inspect.c - list what is in a model or an importance matrix.
 * Tests: tests/cases/commands. */
#include "cli/io.h"
#include "cli/opts.h"
#include "run/inspect.h"

#include <stdio.h>
#include <string.h>

enum { VALUE_BYTES_MAX = 72 }; /* of a text in the listing; --json has all of it */

static struct {
    bool tensors, json;
} opt;

static const nib_opt rows[] = {
    {.name = "tensors",
     .kind = NIB_OPT_FLAG,
     .target = &opt.tensors,
     .help = "list every tensor: name, shape, format, bytes"},
    {.name = "json", .kind = NIB_OPT_FLAG, .target = &opt.json, .help = "print the result as JSON"},
    {0}};

/* ---- text ---- */

static void put_text(const char *s, size_t max)
{
    size_t n = strlen(s), cut = n > max ? max : n;
    while (cut < n && cut && ((unsigned char)s[cut] & 0xC0) == 0x80) cut--;
    nib_print_text(s, cut);
    if (cut < n) printf(" ... (%zu bytes)", n);
}

static void put_array(const nib_json *j)
{
    const char *sep = "";
    putchar('[');
    for (const nib_json *c = nib_json_first(j); c; c = nib_json_next(c), sep = ", ") {
        const char *s;
        double v;
        fputs(sep, stdout);
        if (nib_json_str(c, &s))
            put_text(s, VALUE_BYTES_MAX);
        else if (nib_json_num(c, &v))
            printf("%.10g", v);
    }
    putchar(']');
}

static void put_value(const nib_json *j)
{
    const char *s;
    double v;
    bool b;
    if (nib_json_str(j, &s))
        put_text(s, VALUE_BYTES_MAX);
    else if (nib_json_num(j, &v))
        printf("%.10g", v);
    else if (nib_json_bool(j, &b))
        fputs(b ? "true" : "false", stdout);
    else if (nib_json_is_array(j))
        put_array(j);
}

/* "5 str: [a, b]" for the arrays of GGUF metadata. */
static void put_member(const nib_json *j)
{
    const char *of;
    double count;
    if (nib_json_str(nib_json_get(j, "array_of"), &of) &&
        nib_json_num(nib_json_get(j, "count"), &count)) {
        printf("%.0f %s: ", count, of);
        put_array(nib_json_get(j, "first"));
    } else {
        put_value(j);
    }
}

static double number(const nib_json *j, const char *key)
{
    double v = 0;
    nib_json_num(nib_json_get(j, key), &v);
    return v;
}

static void print_types(const nib_json *types)
{
    for (const nib_json *t = nib_json_first(types); t; t = nib_json_next(t))
        printf("  %-8s %6.0f tensors %12.3f M weights %10.1f MB\n", nib_json_key(t),
               number(t, "tensors"), number(t, "weights") / 1e6, number(t, "bytes") / 1e6);
}

static void print_tensors(const nib_json *list)
{
    for (const nib_json *t = nib_json_first(list); t; t = nib_json_next(t)) {
        const char *name = "", *type = "";
        nib_json_str(nib_json_get(t, "name"), &name);
        fputs("  ", stdout);
        put_text(name, SIZE_MAX);
        if (nib_json_str(nib_json_get(t, "type"), &type)) {
            printf(" %s ", type);
            put_array(nib_json_get(t, "shape"));
            printf(" %.0f bytes\n", number(t, "bytes"));
        } else {
            printf(" %.0f columns, %.0f rows seen\n", number(t, "columns"), number(t, "rows_seen"));
        }
    }
}

static void print_members(const nib_json *object)
{
    for (const nib_json *c = nib_json_first(object); c; c = nib_json_next(c)) {
        fputs("  ", stdout);
        put_text(nib_json_key(c), SIZE_MAX);
        fputs(": ", stdout);
        put_member(c);
        putchar('\n');
    }
}

/* Members in the order of the tree; what is more than a value goes below its name. */
static void print_text(const nib_json *root)
{
    for (const nib_json *j = nib_json_first(root); j; j = nib_json_next(j)) {
        const char *key = nib_json_key(j);
        void (*below)(const nib_json *) = !strcmp(key, "types")         ? print_types
                                          : !strcmp(key, "tensor_list") ? print_tensors
                                          : nib_json_is_object(j)       ? print_members
                                                                        : NULL;
        printf("%s:%s", key, below ? "\n" : " ");
        if (below) {
            below(j);
        } else {
            put_value(j);
            putchar('\n');
        }
    }
}

static int run(const nib_opt_list *operands, const nib_ctx *ctx)
{
    nib_err err;
    nib_json *tree;
    (void)ctx;
    if (nib_inspect(&tree, operands->v[0], opt.tensors, &err)) return nib_report(&err);
    if (opt.json) return nib_print_json(tree, true, &err) ? nib_report(&err) : NIB_EXIT_OK;
    print_text(tree);
    nib_json_free(tree);
    return NIB_EXIT_OK;
}

const nib_cmd nib_cmd_inspect = {
    .name = "inspect",
    .run = run,
    .summary = "list what is in a model or an importance matrix",
    .operands = "PATH",
    .min_operands = 1,
    .max_operands = 1,
    .usage = "PATH [--tensors]",
    .about =
        "Say what a model folder, a .safetensors or .gguf file, or an importance matrix holds: "
        "architecture, sizes, formats, metadata. Reads headers only.",
    .example = "nibble inspect data/tiny-llama --tensors",
    .options = rows,
};
