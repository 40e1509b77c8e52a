/* SPDX-License-Identifier: MIT */
/* cli/other_tools.h - the words of the tools that people come from: llama.cpp's programs and
 * scripts, GPTQModel, AutoGPTQ and the scripts of GPTQ, AutoAWQ, llm-compressor, AutoRound.
 *
 * A word of theirs that means what one of ours does is taken for it; one that has nothing to do
 * here is passed over with a note; of the rest one line says what to write instead. */
#ifndef NIB_CLI_OTHER_TOOLS_H
#define NIB_CLI_OTHER_TOOLS_H

#include "cli/opts.h"

typedef struct {
    const char *names;    /* long names without dashes, or letters: "m model model-path" */
    const char *commands; /* ours that know it: "quantize calibrate"; NULL: all */
    const char *takes;    /* "*": a value; "on off": one of these may follow; NULL: none */
    const char *ours;     /* our option of that meaning, where a command has it; "" an operand */
    bool idle;            /* to be passed over */
    const char *says;     /* why; or what to do instead */
} nib_other_opt;

/* The option of that name, n bytes, where `cmd` is asked; NULL: nobody's. */
const nib_other_opt *nib_other_opt_find(const nib_cmd *cmd, const char *name, size_t n);
/* May `word`, which stands after the option, be its value? */
bool nib_other_opt_takes(const nib_other_opt *o, const char *word);

/* Another tool's value of our option: the one that we call so, or NULL with *says, what to do
 * instead; NULL and *says NULL: nobody's. */
const char *nib_other_value(const char **says, const nib_opt *o, const char *value);

/* Our command for another tool's; NULL: none. */
const nib_cmd *nib_other_command(const char *name);

/* The command line that was meant by argv[1] and so on, in our words, when they are read as
 * another tool's: `name` is that tool, or NULL where our command was given. Returns false, and a
 * reason or "" in `line`, when it cannot be said. */
bool nib_other_line(char *line, size_t size, const nib_cmd *cmd, const char *name, int argc,
                    char *const *argv);

#endif
