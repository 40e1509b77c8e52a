/* SPDX-License-Identifier: MIT */
/* cli/help.c - help texts, made from the rows of a command. Tests: tests/cli/help.sh. */
#include "cli/opts.h"

#include <stdio.h>
#include <string.h>

enum { SCREEN = 79, HELP_COLUMN_MAX = 30 };

const char *nib_opt_value_name(const nib_opt *o)
{
    if (o->kind == NIB_OPT_FLAG) return NULL;
    return o->metavar ? o->metavar : "VALUE";
}

/* Words of `text` from column `at`, wrapped to lines that begin in column `indent`. */
static void print_wrapped(const char *text, size_t at, size_t indent)
{
    for (bool first = true; *text; first = false) {
        size_t n = strcspn(text, " ");
        if (!first && at + 1 + n > SCREEN) {
            printf("\n%*s", (int)indent, "");
            at = indent;
        } else if (!first) {
            putchar(' ');
            at++;
        }
        printf("%.*s", (int)n, text);
        at += n;
        text += n + (text[n] == ' ');
    }
    putchar('\n');
}

/* Columns that "  -o, --output FILE" takes. */
static size_t row_width(const nib_opt *o)
{
    const char *value = nib_opt_value_name(o);
    return strlen("  -x, --") + strlen(o->name) + (value ? 1 + strlen(value) : 0);
}

static size_t help_column(const nib_opt *rows, size_t column)
{
    for (const nib_opt *o = rows; o->name; o++)
        if (row_width(o) + 2 > column && row_width(o) + 2 <= HELP_COLUMN_MAX)
            column = row_width(o) + 2;
    return column;
}

static void print_rows(const nib_opt *rows, size_t column)
{
    for (const nib_opt *o = rows; o->name; o++) {
        const char *value = nib_opt_value_name(o);
        if (o->heading) printf("%s:\n", o->heading);
        printf(o->letter ? "  -%c, " : "      ", o->letter);
        printf("--%s%s%s", o->name, value ? " " : "", value ? value : "");
        size_t width = row_width(o);
        if (width + 2 > column) {
            putchar('\n');
            width = 0;
        }
        printf("%*s", (int)(column - width), "");
        print_wrapped(o->help, column, column);
    }
}

static void print_exit_statuses(void)
{
    puts("\nExit status: 0 done, 1 the work failed, 2 the command line or recipe is wrong,\n"
         "3 a quality threshold was not met.");
}

void nib_help_command(const nib_cmd *cmd)
{
    const size_t column = help_column(cmd->options, 0);
    printf("Usage: nibble %s %s [OPTION]...\n\n", cmd->name, cmd->usage);
    print_wrapped(cmd->about, 0, 0);
    if (cmd->options->name) puts(cmd->options->heading ? "" : "\nOptions:");
    print_rows(cmd->options, column);
    puts("\nOptions of every command, such as --threads and --quiet: see 'nibble --help'.");
    print_exit_statuses();
    printf("\nExample:\n  %s\n", cmd->example);
}

void nib_help_program(void)
{
    puts("Usage: nibble COMMAND [OPTION]...\n\n"
         "Make language models smaller, and measure what that costs.\n\nCommands:");
    for (const nib_cmd *const *c = nib_cmds; *c; c++)
        printf("  %-12s %s\n", (*c)->name, (*c)->summary);
    puts("\n'nibble COMMAND --help' shows a command's options. Options of every command:");
    print_rows(nib_common_options, help_column(nib_common_options, 0));
    print_exit_statuses();
    printf("\nExample:\n  %s\n", nib_cmds[0]->example);
}
