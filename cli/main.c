/* SPDX-License-Identifier: MIT */
/* cli/main.c - the table of commands, and what holds for the whole program.
 * Tests: tests/cases/options. */
#include "base/linalg.h"
#include "base/log.h"
#include "base/name.h"
#include "base/start.h"
#include "cli/opts.h"
#include "cli/other_tools.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const nib_cmd *const nib_cmds[] = {
    &nib_cmd_quantize,  &nib_cmd_batch,      &nib_cmd_convert,    &nib_cmd_verify,
    &nib_cmd_calibrate, &nib_cmd_perplexity, &nib_cmd_compare,    &nib_cmd_generate,
    &nib_cmd_inspect,   &nib_cmd_tokenize,   &nib_cmd_completion, NULL,
};

/* NULL: there is none of that name. */
static const nib_cmd *find_command(const char *name)
{
    for (const nib_cmd *const *c = nib_cmds; *c; c++)
        if (nib_name_same(name, (*c)->name)) return *c;
    return NULL;
}

static const char *command_name(const void *arg, size_t i)
{
    (void)arg;
    return nib_cmds[i] ? nib_cmds[i]->name : NULL;
}

/* Another tool's command: the line that does it here. argv[0] is its name. */
static int other_command(const nib_cmd *cmd, int argc, char **argv)
{
    char line[1024];
    const char *name = argv[0];
    if (nib_other_line(line, sizeof line, cmd, name, argc, argv))
        fprintf(stderr, "nibble: '%s' is '%s' here: %s\n", name, cmd->name, line);
    else
        fprintf(stderr, "nibble: '%s' is '%s' here%s%s (see 'nibble %s --help')\n", name, cmd->name,
                *line ? "; " : "", line, cmd->name);
    return NIB_EXIT_USAGE;
}

/* argv[0] is the command. */
static int unknown_command(int argc, char **argv)
{
    const char *name = argv[0], *near = nib_name_nearest(name, command_name, NULL);
    const nib_cmd *other = nib_other_command(name);
    if (other) return other_command(other, argc, argv);
    if (near)
        fprintf(stderr, "nibble: unknown command '%s'; did you mean '%s'?\n", name, near);
    else
        fprintf(stderr, "nibble: unknown command '%s' (see 'nibble --help')\n", name);
    return NIB_EXIT_USAGE;
}

/* "help" and "help COMMAND", -h, --help. */
static int help(int argc, char **argv)
{
    const nib_cmd *cmd = argc > 2 ? find_command(argv[2]) : NULL;
    if (argc > 2 && !cmd) return unknown_command(1, argv + 2);
    if (cmd)
        nib_help_command(cmd);
    else
        nib_help_program();
    return NIB_EXIT_OK;
}

static int run(const nib_cmd *cmd, int argc, char **argv)
{
    nib_opt_list operands = {0};
    nib_ctx ctx;
    nib_log log;
    int status = nib_opts_parse(cmd, argc, argv, &operands, &ctx, &log);
    if (status < 0) status = cmd->run(&operands, &ctx);
    nib_opts_free(cmd, &operands);
    return status;
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2) {
        fputs("nibble: a command is missing (see 'nibble --help')\n", stderr);
        return NIB_EXIT_USAGE;
    }
    const char *word = argv[1];
    if (!strcmp(word, "help") || !strcmp(word, "--help") || !strcmp(word, "-h"))
        return help(argc, argv);
    if (!strcmp(word, "--version") || !strcmp(word, "-V")) {
        puts("nibble " NIB_VERSION);
        return NIB_EXIT_OK;
    }
    const nib_cmd *cmd = find_command(word);
    return cmd ? run(cmd, argc - 1, argv + 1) : unknown_command(argc - 1, argv + 1);
}

/* A closed standard stream would let the next file that is opened take its number, and results
 * would be printed into a model. */
static void keep_standard_streams(void)
{
    int fd;
    do fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO) close(fd);
}

/* Results that did not reach standard output are a failure of the work. A reader that left (`|
 * head`) normally ends the program by SIGPIPE before this. */
static int check_output(int status)
{
    errno = 0;
    if (!fflush(stdout) && !ferror(stdout)) return status;
    fprintf(stderr, "nibble: standard output: %s\n", errno ? strerror(errno) : "write failed");
    return status == NIB_EXIT_OK ? NIB_EXIT_FAILED : status;
}

int main(int argc, char **argv)
{
    nib_start(argv, argc > 1 && nib_name_same(argv[1], nib_cmd_generate.name));
    double started = nib_now();
    keep_standard_streams();
    nib_linalg_init();
    int status = check_output(dispatch(argc, argv));
    nib_report_resources(started);
    return status;
}
