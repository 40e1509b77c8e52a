/* SPDX-License-Identifier: MIT */
/* cli/cmd_completion.c - shell completion, generated from the rows of all commands.
 * Tests: tests/cli/completion.sh. */
#include "base/name.h"
#include "cli/opts.h"

#include <stdio.h>
#include <string.h>

static const nib_opt rows[] = {{0}};

static bool is_path(const nib_opt *o)
{
    return o->metavar && (!strcmp(o->metavar, "FILE") || !strcmp(o->metavar, "DIR"));
}

static void print_offers(const nib_opt *o)
{
    const char *s;
    for (size_t i = 0; (s = nib_opt_offered(o, i)); i++) printf("%s%s", i ? " " : "", s);
}

/* ---- bash ---- */

static void bash_words(const nib_opt *o)
{
    for (; o->name; o++) {
        printf(" --%s", o->name);
        if (o->letter) printf(" -%c", o->letter);
    }
}

/* What follows an option that takes a value: what it offers, nothing for numbers and names; paths
 * are left to the shell's default. */
static void bash_values(const nib_cmd *cmd, const nib_opt *o)
{
    for (; o->name; o++) {
        if (o->kind == NIB_OPT_FLAG) continue;
        printf("    %s,--%s", cmd->name, o->name);
        if (o->letter) printf(" | %s,-%c", cmd->name, o->letter);
        if (nib_opt_offered(o, 0)) {
            fputs(")\n        COMPREPLY=($(compgen -W '", stdout);
            print_offers(o);
            puts("' -- \"$cur\"))\n        return ;;");
        } else {
            puts(is_path(o) ? ") return ;;" : ") compopt +o default; return ;;");
        }
    }
}

static void print_bash(void)
{
    fputs("# bash completion for nibble; written by 'nibble completion bash'\n"
          "_nibble() {\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
          "    COMPREPLY=()\n"
          "    if ((COMP_CWORD == 1)); then\n"
          "        COMPREPLY=($(compgen -W 'help --help --version",
          stdout);
    for (const nib_cmd *const *c = nib_cmds; *c; c++) printf(" %s", (*c)->name);
    puts("' -- \"$cur\"))\n"
         "        return\n"
         "    fi\n"
         "    case ${COMP_WORDS[1]},$prev in");
    for (const nib_cmd *const *c = nib_cmds; *c; c++) {
        bash_values(*c, (*c)->options);
        bash_values(*c, nib_common_options);
    }
    puts("    esac\n"
         "    [[ $cur == -* ]] || return\n"
         "    case ${COMP_WORDS[1]} in");
    for (const nib_cmd *const *c = nib_cmds; *c; c++) {
        printf("    %s) COMPREPLY=($(compgen -W '", (*c)->name);
        bash_words((*c)->options);
        bash_words(nib_common_options);
        puts("' -- \"$cur\")) ;;");
    }
    puts("    esac\n"
         "}\n"
         "complete -o default -F _nibble nibble");
}

/* ---- zsh ---- */

/* Text inside a single-quoted _arguments or _describe item. */
static void zsh_text(const char *s)
{
    for (; *s; s++) {
        if (*s == '\'')
            fputs("'\\''", stdout);
        else {
            if (strchr("[]:\\", *s)) putchar('\\');
            putchar(*s);
        }
    }
}

static void zsh_row(const nib_opt *o)
{
    fputs(" \\\n        ", stdout);
    if (o->letter && o->kind != NIB_OPT_LIST)
        printf("'(-%c --%s)'{-%c,--%s}'[", o->letter, o->name, o->letter, o->name);
    else if (o->letter)
        printf("'*'{-%c,--%s}'[", o->letter, o->name);
    else
        printf("'%s--%s[", o->kind == NIB_OPT_LIST ? "*" : "", o->name);
    zsh_text(o->help);
    putchar(']');
    if (o->kind != NIB_OPT_FLAG) {
        printf(":%s:", nib_opt_value_name(o));
        if (is_path(o)) fputs("_files", stdout);
        if (nib_opt_offered(o, 0)) {
            putchar('(');
            print_offers(o);
            putchar(')');
        }
    }
    putchar('\'');
}

static void print_zsh(void)
{
    puts("#compdef nibble\n"
         "# zsh completion for nibble; written by 'nibble completion zsh'\n"
         "_nibble() {\n"
         "    local -a commands\n"
         "    commands=(");
    for (const nib_cmd *const *c = nib_cmds; *c; c++) {
        printf("        '%s:", (*c)->name);
        zsh_text((*c)->summary);
        puts("'");
    }
    puts("    )\n"
         "    if (( CURRENT == 2 )); then\n"
         "        _describe command commands\n"
         "        return\n"
         "    fi\n"
         "    shift words\n"
         "    (( CURRENT-- ))\n"
         "    case $words[1] in");
    for (const nib_cmd *const *c = nib_cmds; *c; c++) {
        printf("    %s)\n        _arguments -s -S", (*c)->name);
        for (const nib_opt *o = (*c)->options; o->name; o++) zsh_row(o);
        for (const nib_opt *o = nib_common_options; o->name; o++) zsh_row(o);
        puts(" \\\n        '*:file:_files' ;;");
    }
    puts("    esac\n"
         "}\n"
         "_nibble \"$@\"");
}

static int run(const nib_opt_list *operands, const nib_ctx *ctx)
{
    const char *shell = operands->v[0];
    (void)ctx;
    if (nib_name_same(shell, "bash"))
        print_bash();
    else if (nib_name_same(shell, "zsh"))
        print_zsh();
    else
        return nib_usage(&nib_cmd_completion, "'%s' should be 'bash' or 'zsh'", shell);
    return NIB_EXIT_OK;
}

const nib_cmd nib_cmd_completion = {
    .name = "completion",
    .run = run,
    .summary = "print a completion script for a shell",
    .operands = "bash or zsh",
    .min_operands = 1,
    .max_operands = 1,
    .usage = "bash|zsh",
    .about = "Print a script that teaches the shell nibble's commands, options and their values.",
    .example = "nibble completion bash > nibble.bash",
    .options = rows,
};
