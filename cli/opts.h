/* SPDX-License-Identifier: MIT */
/* cli/opts.h - table-driven commands and options.
 *
 * A command is one const nib_cmd in its own file; its options are rows. Parsing, range errors,
 * --help and shell completion all come from the rows, and the manual page is tested against them.
 * "--opt value" and "--opt=value" are the same, as are "-o value" and "-ovalue"; flags with a
 * letter may be joined ("-qV"); "--" ends options; a lone "-" is an operand. The last one wins when
 * an option that is no list is repeated. Case, '-' and '_' make no difference in names of options
 * and of their values. Every command also understands nib_common_options, and what
 * cli/other_tools.h has of other tools' words. */
#ifndef NIB_CLI_OPTS_H
#define NIB_CLI_OPTS_H

#include "base/ctx.h"
#include "base/err.h"

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
    const char **v; /* borrowed from argv; the array is owned (nib_free) */
    size_t n, cap;
} nib_opt_list;

typedef struct {
    const char *name; /* without "--" */
    char letter;      /* 0: none */
    nib_opt_kind kind;
    void *target;                   /* holds the default until the option is given */
    double min, max;                /* UINT, NUM, SIZE; both 0: no limits */
    const char *word;               /* UINT: stands in place of max + 1; NULL: none */
    bool minus_one;                 /* UINT: -1, as other tools have it, stands for 0 */
    const char *const *choices;     /* CHOICE, NULL-terminated */
    const char *(*offer)(size_t i); /* STR: values that completion offers, NULL after the last */
    const char *metavar;            /* "FILE", "N"; completed as a path when "FILE" or "DIR" */
    const char *help;               /* one clause, without a full stop; says the default */
    const char *heading;            /* of the rows from here on, in --help; NULL: as before */
} nib_opt;                          /* a table ends with {0} */

/* The row of --chat, for every command that reads texts; `t` is a static bool. */
#define NIB_CHAT_OPT(t)                                                                            \
    {                                                                                              \
        .name = "chat", .kind = NIB_OPT_FLAG, .target = &(t),                                      \
        .help = "the text is JSON with 'messages' or 'conversations': render them by the model's " \
                "chat template"                                                                    \
    }

typedef struct {
    const char *name;
    int (*run)(const nib_opt_list *operands, const nib_ctx *ctx); /* returns an exit status */
    nib_code (*check)(
        nib_err *err);              /* what is wrong with the options together; NULL: run says it */
    const char *summary;            /* one clause, for the list of commands */
    const char *operands;           /* "MODEL", as in the usage line */
    int min_operands, max_operands; /* max_operands -1: any number */
    const char *usage;              /* what stands after the command: "MODEL -o FILE" */
    const char *about;              /* a short paragraph */
    const char *example;            /* one command line that works in the repository */
    const nib_opt *options;         /* the command's own rows */
} nib_cmd;

enum { NIB_EXIT_OK = 0, NIB_EXIT_FAILED = 1, NIB_EXIT_USAGE = 2, NIB_EXIT_THRESHOLD = 3 };

/* All commands in the order of the help text, NULL at the end; in cli/main.c. */
extern const nib_cmd *const nib_cmds[];

extern const nib_cmd nib_cmd_quantize, nib_cmd_batch, nib_cmd_convert, nib_cmd_verify,
    nib_cmd_calibrate, nib_cmd_perplexity, nib_cmd_compare, nib_cmd_generate, nib_cmd_inspect,
    nib_cmd_tokenize, nib_cmd_completion;

/* --threads, --cpu, --verbose, --quiet, --help, --version. */
extern const nib_opt nib_common_options[];

/* Parse argv (argv[0] skipped). Operands are collected into *operands (array owned by the caller,
 * strings borrowed) and counted against the command's limits. Sets up ctx and log from the common
 * rows. Returns -1 to go on, else the exit status to return now: after --help or --version (0), or
 * a mistake that has been printed (2). */
int nib_opts_parse(const nib_cmd *cmd, int argc, char **argv, nib_opt_list *operands, nib_ctx *ctx,
                   nib_log *log);
/* Free what parsing kept: the arrays of all lists, and *operands, which may be NULL. */
void nib_opts_free(const nib_cmd *cmd, nib_opt_list *operands);

/* Print "nibble: MESSAGE" on standard error; the exit status for err->code. */
int nib_report(const nib_err *err);

/* A mistake in the command line that rows cannot express ("-o FILE is needed"): prints
 * "nibble: MESSAGE (see 'nibble COMMAND --help')". Returns NIB_EXIT_USAGE. */
int nib_usage(const nib_cmd *cmd, const char *fmt, ...) NIB_PRINTF(2, 3);

/* With --verbose: what the run took since `started` (nib_now), on standard error. */
void nib_report_resources(double started);

/* The command's row, or a common one, of that name of n bytes, or that letter; NULL: none. */
const nib_opt *nib_opt_named(const nib_cmd *cmd, const char *name, size_t n);
const nib_opt *nib_opt_lettered(const nib_cmd *cmd, char letter);
/* The row's name that is nearest to one that no row has; NULL: none is near. */
const char *nib_opt_nearest(const nib_cmd *cmd, const char *name);
/* Give the row of `cmd` a value as it is written on the command line (of a flag: none, NULL).
 * NIB_EINVAL names the option, and says what it should be. */
NIB_MUST_USE nib_code nib_opt_set(const nib_cmd *cmd, const nib_opt *o, const char *value,
                                  nib_err *err);
/* The i-th value that a row offers; NULL after the last. */
const char *nib_opt_offered(const nib_opt *o, size_t i);

/* cli/help.c: help texts on standard output. */
void nib_help_command(const nib_cmd *cmd);
void nib_help_program(void);
/* What stands after the option in help texts: metavar, or the choices; NULL for flags. */
const char *nib_opt_value_name(const nib_opt *o);

#endif
