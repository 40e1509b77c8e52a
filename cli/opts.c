/* SPDX-License-Identifier: MIT */
/* cli/opts.c - parse a command line by its rows; messages for mistakes.
 * Tests: tests/cases/options. */
#include "cli/opts.h"

#include "base/cpu.h"
#include "base/file.h"
#include "base/linalg.h"
#include "base/mem.h"
#include "base/name.h"
#include "base/par.h"
#include "cli/other_tools.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { MAX_THREADS = 1024 };

static struct {
    uint64_t threads;
    const char *cpu;
    bool verbose, quiet, help, version;
} common;

static const char *const cpu_choices[] = {"c", "avx2", "avx512", "vnni", "native", NULL};

const nib_opt nib_common_options[] = {{.name = "threads",
                                       .letter = 'j',
                                       .kind = NIB_OPT_UINT,
                                       .target = &common.threads,
                                       .min = 1,
                                       .max = MAX_THREADS,
                                       .metavar = "N",
                                       .help = "worker threads (all processors)"},
                                      {.name = "cpu",
                                       .kind = NIB_OPT_CHOICE,
                                       .target = &common.cpu,
                                       .choices = cpu_choices,
                                       .metavar = "SET",
                                       .help = "kernels: c, avx2, avx512, vnni or native (native)"},
                                      {.name = "verbose",
                                       .letter = 'v',
                                       .kind = NIB_OPT_FLAG,
                                       .target = &common.verbose,
                                       .help = "say more on standard error"},
                                      {.name = "quiet",
                                       .letter = 'q',
                                       .kind = NIB_OPT_FLAG,
                                       .target = &common.quiet,
                                       .help = "only errors on standard error"},
                                      {.name = "help",
                                       .letter = 'h',
                                       .kind = NIB_OPT_FLAG,
                                       .target = &common.help,
                                       .help = "show this help"},
                                      {.name = "version",
                                       .letter = 'V',
                                       .kind = NIB_OPT_FLAG,
                                       .target = &common.version,
                                       .help = "show the version"},
                                      {0}};

/* ---- messages ---- */

/* The log of the running command, so that a message does not land in a progress line. */
static nib_log *shared_log;

static int complain(const char *fmt, ...) NIB_PRINTF(1, 2);
static int complain(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("nibble: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return NIB_EXIT_USAGE;
}

int nib_report(const nib_err *err)
{
    nib_progress_end(&(nib_progress){.log = shared_log});
    complain("%s", err->msg);
    return err->code == NIB_EINVAL ? NIB_EXIT_USAGE : NIB_EXIT_FAILED;
}

int nib_usage(const nib_cmd *cmd, const char *fmt, ...)
{
    char msg[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    return complain("%s (see 'nibble %s --help')", msg, cmd->name);
}

void nib_report_resources(double started)
{
    struct rusage u;
    if (!common.verbose || getrusage(RUSAGE_SELF, &u)) return;
    double busy = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                  1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
    fprintf(stderr, "matrix products by OpenBLAS's %s kernels\n", nib_linalg_kernel());
    fprintf(stderr, "%.2f s, processor time %.2f s, peak memory %.0f MB\n", nib_now() - started,
            busy, (double)nib_mem_peak() / 1e6);
}

/* ---- rows ---- */

static size_t count_rows(const nib_opt *o)
{
    size_t n = 0;
    while (o[n].name) n++;
    return n;
}

/* The command's own rows, then the common ones. */
static const nib_opt *row_at(const nib_cmd *cmd, size_t i)
{
    size_t own = count_rows(cmd->options);
    if (i < own) return &cmd->options[i];
    return i - own < count_rows(nib_common_options) ? &nib_common_options[i - own] : NULL;
}

static const char *row_name(const void *cmd, size_t i)
{
    const nib_opt *o = row_at(cmd, i);
    return o ? o->name : NULL;
}

const nib_opt *nib_opt_named(const nib_cmd *cmd, const char *name, size_t n)
{
    const nib_opt *o;
    for (size_t i = 0; (o = row_at(cmd, i)); i++)
        if (nib_name_same_n(name, n, o->name)) break;
    return o;
}

const nib_opt *nib_opt_lettered(const nib_cmd *cmd, char letter)
{
    const nib_opt *o;
    for (size_t i = 0; (o = row_at(cmd, i)); i++)
        if (o->letter == letter) break;
    return o;
}

const char *nib_opt_offered(const nib_opt *o, size_t i)
{
    return o->choices ? o->choices[i] : o->offer ? o->offer(i) : NULL;
}

/* The value as the row spells it; NULL when it offers none such. */
static const char *offered(const nib_opt *o, const char *value)
{
    const char *s;
    for (size_t i = 0; (s = nib_opt_offered(o, i)); i++)
        if (nib_name_same(value, s)) break;
    return s;
}

/* Another row that offers this value; NULL: none. */
static const nib_opt *row_offering(const nib_cmd *cmd, const char *value)
{
    const nib_opt *o;
    for (size_t i = 0; (o = row_at(cmd, i)); i++)
        if (offered(o, value)) break;
    return o;
}

/* ---- values ---- */

static nib_code bad_value(const char *value, const char *expected, nib_err *err)
{
    return nib_fail(err, NIB_EINVAL, "'%s' should be %s", value, expected);
}

/* "a number from 2 to 8". */
static nib_code bad_number(const nib_opt *o, const char *value, const char *kind, nib_err *err)
{
    char expected[128];
    if (o->max > o->min)
        snprintf(expected, sizeof expected, "%s from %.15g to %.15g%s%s", kind, o->min, o->max,
                 o->word ? ", or " : "", o->word ? o->word : "");
    else
        snprintf(expected, sizeof expected, "%s", kind);
    return bad_value(value, expected, err);
}

static bool in_range(const nib_opt *o, double v)
{
    return !(o->max > o->min) || (v >= o->min && v <= o->max);
}

static nib_code set_uint(const nib_opt *o, const char *value, nib_err *err)
{
    if (o->word && nib_name_same(value, o->word)) {
        *(uint64_t *)o->target = (uint64_t)o->max + 1;
        return NIB_OK;
    }
    if (o->minus_one && !strcmp(value, "-1")) value = "0";
    if (!*value || strspn(value, "0123456789") != strlen(value))
        return bad_number(o, value, "a whole number", err);
    errno = 0;
    unsigned long long v = strtoull(value, NULL, 10);
    if (errno || !in_range(o, (double)v)) return bad_number(o, value, "a number", err);
    *(uint64_t *)o->target = v;
    return NIB_OK;
}

static nib_code set_num(const nib_opt *o, const char *value, nib_err *err)
{
    char *end;
    double v = strtod(value, &end);
    if (end == value || *end || !isfinite(v) || !in_range(o, v))
        return bad_number(o, value, "a number", err);
    *(double *)o->target = v;
    return NIB_OK;
}

/* "500M", "4Gi", "1.5T", "4096"; a final B is allowed. */
static bool parse_size(const char *s, double *bytes)
{
    static const char letters[] = "KMGT";
    if (!isdigit((unsigned char)*s)) return false;
    size_t n = strspn(s, "0123456789.");
    char *end;
    double v = strtod(s, &end);
    if (end != s + n) return false;
    const char *l = *end ? strchr(letters, toupper((unsigned char)*end)) : NULL;
    if (l) {
        bool binary = *++end == 'i';
        end += binary;
        v *= pow(binary ? 1024 : 1000, (double)(l - letters + 1));
    }
    if (*end == 'B') end++;
    *bytes = v;
    return !*end && v < 0x1p63;
}

static nib_code set_size(const nib_opt *o, const char *value, nib_err *err)
{
    double v;
    if (!parse_size(value, &v)) return bad_value(value, "a size such as 500M, 4G or 4Gi", err);
    if (!in_range(o, v)) return bad_number(o, value, "a number of bytes", err);
    *(uint64_t *)o->target = (uint64_t)v;
    return NIB_OK;
}

/* What the value may have been meant for. */
static void add_hint(char *text, size_t size, const nib_cmd *cmd, const nib_opt *o,
                     const char *value)
{
    const char *near = nib_name_nearest(value, nib_name_at, o->choices);
    const nib_opt *other = row_offering(cmd, value);
    const size_t used = strlen(text);
    if (near)
        snprintf(text + used, size - used, "; did you mean '%s'?", near);
    else if (other)
        snprintf(text + used, size - used, "; did you mean '--%s %s'?", other->name, value);
    else if (nib_file_exists(value))
        snprintf(text + used, size - used, "; a model has no option before its name");
}

static nib_code set_choice(const nib_cmd *cmd, const nib_opt *o, const char *value, nib_err *err)
{
    char list[512] = "one of ";
    const char *choice = offered(o, value);
    if (choice) {
        *(const char **)o->target = choice;
        return NIB_OK;
    }
    for (const char *const *c = o->choices; *c; c++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", c == o->choices ? "" : ", ", *c);
    }
    add_hint(list, sizeof list, cmd, o, value);
    return bad_value(value, list, err);
}

/* A text that offers values takes others too, but not those that another row offers. */
static nib_code set_str(const nib_cmd *cmd, const nib_opt *o, const char *value, nib_err *err)
{
    const nib_opt *other = o->offer && !offered(o, value) ? row_offering(cmd, value) : NULL;
    if (other)
        return nib_fail(err, NIB_EINVAL,
                        "'%s' is a value of another option; did you mean '--%s %s'?", value,
                        other->name, value);
    *(const char **)o->target = value;
    return NIB_OK;
}

static nib_code list_add(nib_opt_list *list, const char *value, nib_err *err)
{
    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 8;
        const char **v = nib_grow((void *)list->v, list->cap, cap, sizeof *v);
        if (!v) return nib_fail_nomem(err, "the command line");
        list->v = v;
        list->cap = cap;
    }
    list->v[list->n++] = value;
    return NIB_OK;
}

static nib_code set_value(const nib_cmd *cmd, const nib_opt *o, const char *value, nib_err *err)
{
    switch (o->kind) {
    case NIB_OPT_FLAG: *(bool *)o->target = true; return NIB_OK;
    case NIB_OPT_STR: return set_str(cmd, o, value, err);
    case NIB_OPT_LIST: return list_add(o->target, value, err);
    case NIB_OPT_UINT: return set_uint(o, value, err);
    case NIB_OPT_NUM: return set_num(o, value, err);
    case NIB_OPT_SIZE: return set_size(o, value, err);
    case NIB_OPT_CHOICE: return set_choice(cmd, o, value, err);
    }
    return NIB_OK;
}

nib_code nib_opt_set(const nib_cmd *cmd, const nib_opt *o, const char *value, nib_err *err)
{
    const char *says = NULL, *ours = value ? nib_other_value(&says, o, value) : NULL;
    if (says) return nib_fail(err, NIB_EINVAL, "--%s '%s': %s", o->name, value, says);
    nib_code rc = set_value(cmd, o, ours ? ours : value, err);
    return rc ? nib_wrap(err, "--%s", o->name) : NIB_OK;
}

/* ---- words of the command line ---- */

enum { MAX_IDLE = 16 };

typedef struct {
    const nib_cmd *cmd;
    int argc, i; /* argv[i] is the next word */
    char **argv;
    nib_opt_list *operands;
    const char *idle[MAX_IDLE]; /* words that were passed over, and why */
    const char *why_idle[MAX_IDLE];
    size_t n_idle;
} words;

static int add_operand(words *w, const char *word)
{
    nib_err err;
    return list_add(w->operands, word, &err) ? nib_report(&err) : -1;
}

static int missing_value(const nib_opt *o)
{
    return complain("--%s needs a value: --%s %s", o->name, o->name, nib_opt_value_name(o));
}

/* A flag stands alone; to other tools it is "--NAME True", or False. */
static int check_flag(const words *w, const nib_opt *o, const char *value)
{
    const char *next = w->i < w->argc ? w->argv[w->i] : "", *said = value ? value : next;
    if (nib_name_same(said, "true"))
        return complain("--%s takes no value: '%s' is what the option alone says", o->name, said);
    if (nib_name_same(said, "false"))
        return complain("--%s takes no value: for '%s', leave the option out", o->name, said);
    return value ? complain("--%s takes no value", o->name) : -1;
}

/* An option and its value: the one given, or the next word. */
static int take_option(words *w, const nib_opt *o, const char *value)
{
    int rc = o->kind == NIB_OPT_FLAG ? check_flag(w, o, value) : -1;
    if (rc >= 0) return rc;
    if (o->kind != NIB_OPT_FLAG && !value) {
        if (w->i == w->argc) return missing_value(o);
        value = w->argv[w->i++];
    }
    nib_err err;
    return nib_opt_set(w->cmd, o, value, &err) ? nib_report(&err) : -1;
}

/* Another tool's option; `word` is how it was written, with its dashes. */
static int take_other(words *w, const nib_other_opt *other, const char *word, const char *value)
{
    const char *next = w->i < w->argc ? w->argv[w->i] : NULL;
    if (other->ours && *other->ours)
        return take_option(w, nib_opt_named(w->cmd, other->ours, strlen(other->ours)), value);
    if (other->ours) {
        if (!value && !next) return complain("%s needs a value", word);
        if (!value) w->i++;
        return add_operand(w, value ? value : next);
    }
    if (!other->idle) return nib_usage(w->cmd, "%s: %s", word, other->says);
    if (!value && next && nib_other_opt_takes(other, next)) w->i++;
    if (w->n_idle < MAX_IDLE) {
        w->idle[w->n_idle] = word;
        w->why_idle[w->n_idle++] = other->says;
    }
    return -1;
}

/* The flag that takes back what "no-NAME" says, or NAME of a flag "no-NAME"; NULL: none. */
static const nib_opt *opposite(const nib_cmd *cmd, const char *name)
{
    char with_no[NIB_NAME_MAX + 4];
    const bool no = !strncmp(name, "no-", 3) || !strncmp(name, "no_", 3);
    snprintf(with_no, sizeof with_no, "no-%s", name);
    const char *other = no ? name + 3 : with_no;
    const nib_opt *o = nib_opt_named(cmd, other, strlen(other));
    return o && o->kind == NIB_OPT_FLAG ? o : NULL;
}

const char *nib_opt_nearest(const nib_cmd *cmd, const char *name)
{
    return nib_name_nearest(name, row_name, cmd);
}

static int unknown_option(const nib_cmd *cmd, const char *name)
{
    const nib_opt *flag = opposite(cmd, name);
    const char *near = nib_opt_nearest(cmd, name);
    if (flag)
        return complain("unknown option '--%s': so it is unless --%s is given", name, flag->name);
    if (near) return complain("unknown option '--%s'; did you mean '--%s'?", name, near);
    return nib_usage(cmd, "unknown option '--%s'", name);
}

/* "--name" or "--name=value". */
static int take_long(words *w, const char *word)
{
    const size_t n = strcspn(word + 2, "=");
    const char *value = word[2 + n] ? word + 2 + n + 1 : NULL;
    const nib_opt *o = nib_opt_named(w->cmd, word + 2, n);
    const nib_other_opt *other = o ? NULL : nib_other_opt_find(w->cmd, word + 2, n);
    char name[NIB_NAME_MAX + 1];
    if (o) return take_option(w, o, value);
    if (other) return take_other(w, other, word, value);
    snprintf(name, sizeof name, "%.*s", (int)(n < NIB_NAME_MAX ? n : NIB_NAME_MAX), word + 2);
    return unknown_option(w->cmd, name);
}

/* "-o value", "-ovalue" or joined flags; or what has one dash in another tool. */
static int take_letters(words *w, const char *word)
{
    const nib_other_opt *other = nib_other_opt_find(w->cmd, word + 1, strlen(word + 1));
    if (other && (word[2] || !nib_opt_lettered(w->cmd, word[1])))
        return take_other(w, other, word, NULL);
    for (const char *letters = word + 1; *letters; letters++) {
        const nib_opt *o = nib_opt_lettered(w->cmd, *letters);
        if (!o) return nib_usage(w->cmd, "unknown option '-%c'", *letters);
        if (o->kind != NIB_OPT_FLAG) return take_option(w, o, letters[1] ? letters + 1 : NULL);
        int rc = take_option(w, o, NULL);
        if (rc >= 0) return rc;
    }
    return -1;
}

static int take_words(words *w)
{
    bool only_operands = false;
    int rc = -1;
    while (rc < 0 && w->i < w->argc) {
        const char *word = w->argv[w->i++];
        if (only_operands || word[0] != '-' || !word[1])
            rc = add_operand(w, word);
        else if (!strcmp(word, "--"))
            only_operands = true;
        else if (word[1] == '-')
            rc = take_long(w, word);
        else
            rc = take_letters(w, word);
    }
    return rc;
}

static int check_operands(const words *w)
{
    char line[1024];
    const nib_cmd *cmd = w->cmd;
    const nib_opt_list *operands = w->operands;
    if (operands->n < (size_t)cmd->min_operands)
        return nib_usage(cmd, "%s: %s is missing", cmd->name, cmd->operands);
    if (cmd->max_operands < 0 || operands->n <= (size_t)cmd->max_operands) return -1;
    if (nib_other_line(line, sizeof line, cmd, NULL, w->argc, w->argv))
        return complain("%s: '%s' is one argument too many; did you mean: %s", cmd->name,
                        operands->v[cmd->max_operands], line);
    return nib_usage(cmd, "%s: '%s' is one argument too many", cmd->name,
                     operands->v[cmd->max_operands]);
}

static int set_context(nib_ctx *ctx, nib_log *log)
{
    nib_err err;
    nib_log_init(log, common.quiet     ? NIB_LOG_QUIET
                      : common.verbose ? NIB_LOG_VERBOSE
                                       : NIB_LOG_NORMAL);
    shared_log = log;
    *ctx = (nib_ctx){.threads = common.threads ? (int)common.threads : nib_par_cores(), .log = log};
    if (nib_cpu_parse(&ctx->cpu, common.cpu ? common.cpu : "native", &err)) return nib_report(&err);
    return -1;
}

int nib_opts_parse(const nib_cmd *cmd, int argc, char **argv, nib_opt_list *operands, nib_ctx *ctx,
                   nib_log *log)
{
    words w = {.cmd = cmd, .argc = argc, .i = 1, .argv = argv, .operands = operands};
    int rc = take_words(&w);
    if (rc >= 0) return rc;
    if (common.help) {
        nib_help_command(cmd);
        return NIB_EXIT_OK;
    }
    if (common.version) {
        puts("nibble " NIB_VERSION);
        return NIB_EXIT_OK;
    }
    if ((rc = check_operands(&w)) >= 0) return rc;
    rc = set_context(ctx, log);
    for (size_t i = 0; i < w.n_idle && rc < 0; i++)
        nib_info(log, "%s is passed over: %s", w.idle[i], w.why_idle[i]);
    return rc;
}

static void free_list(nib_opt_list *list)
{
    nib_free((void *)list->v);
    *list = (nib_opt_list){0};
}

void nib_opts_free(const nib_cmd *cmd, nib_opt_list *operands)
{
    for (const nib_opt *o = cmd->options; o && o->name; o++)
        if (o->kind == NIB_OPT_LIST) free_list(o->target);
    if (operands) free_list(operands);
}
