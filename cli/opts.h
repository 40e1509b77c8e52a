/* SPDX-License-Identifier: MIT */
/* cli/opts.h - table-driven command line options.
 *
 * A command describes its options as rows; parsing, range errors, --help, the man page's option
 * lists and shell completions all come from the rows. "--opt value" and "--opt=value" are the same;
 * "--" ends options; a lone "-" is an operand. Every command also understands the common rows
 * (--threads, --cpu, --verbose,
 * --quiet, --help, --version). */
#ifndef NIB_CLI_OPTS_H
#define NIB_CLI_OPTS_H

#include "base/ctx.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    NIB_OPT_FLAG,   /* bool: true when given                                           */
    NIB_OPT_STR,    /* const char *                                                    */
    NIB_OPT_LIST,   /* nib_opt_list: may be repeated                                   */
    NIB_OPT_UINT,   /* uint64_t in [min, max]                                          */
    NIB_OPT_NUM,    /* double in [min, max]                                            */
    NIB_OPT_SIZE,   /* uint64_t bytes: digits with K, M, G, T (decimal) or Ki ... (binary) */
    NIB_OPT_CHOICE, /* const char *: one of `choices`                                  */
} nib_opt_kind;

typedef struct {
    const char **v; /* borrowed from argv; the array is owned */
    size_t n, cap;
} nib_opt_list;

typedef struct {
    const char *name; /* without "--" */
    char letter;      /* 0: none */
    nib_opt_kind kind;
    void *target;
    double min, max;            /* UINT, NUM */
    const char *const *choices; /* CHOICE, NULL-terminated */
    const char *metavar;        /* "FILE", "N"; decides file completion when "FILE" or "DIR" */
    const char *help;           /* one clause */
} nib_opt;                      /* a table ends with {0} */

typedef struct nib_cmd {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns an exit status */
    const char *summary;               /* one clause */
    const char *usage;                 /* "MODEL -o FILE [options]" */
    const char *about;                 /* a short paragraph */
    const char *example;               /* one command line that works */
    const nib_opt *(*options)(void);   /* the command's own rows */
} nib_cmd;

enum { NIB_EXIT_OK = 0, NIB_EXIT_FAILED = 1, NIB_EXIT_USAGE = 2, NIB_EXIT_THRESHOLD = 3 };

/* All commands, ending with {0}; in cli/main.c. */
extern const nib_cmd nib_cmds[];

/* Parse argv (argv[0] skipped). Operands are collected into *operands (array owned by the caller,
 * strings borrowed). Sets up ctx and log from the common rows. Returns -1 to go on, else the exit
 * status to return now: after
 * --help or --version (0), or a mistake that has been printed (2). */
int nib_opts_parse(const nib_cmd *cmd, int argc, char **argv, nib_opt_list *operands, nib_ctx *ctx,
                   nib_log *log);

/* Print "nibble: MESSAGE" on standard error; the exit status for err->code. */
int nib_report(const nib_err *err);

#endif
