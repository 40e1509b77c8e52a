/* SPDX-License-Identifier: MIT */
/* make_model - write a random model in Hugging Face layout (see gen.h).
 *
 *   make_model --arch qwen3 --layers 2 --hidden 256 --ff 512 --heads 4 --kv-heads 2 --head-dim 128
 *              --vocab 2048 --tied --tokenizer data/tiny-llama OUT
 *
 * A tool of the tests: its options are parsed plainly, without the program's option tables. */
#include "base/par.h"
#include "tests/support/gen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    uint32_t *target;
} number;

static int usage(const char *why, const char *what)
{
    fprintf(stderr,
            "make_model: %s%s\n"
            "usage: make_model --arch %s [--layers N] [--hidden N] [--ff N] [--heads N]\n"
            "                  [--kv-heads N] [--head-dim N] [--vocab N] [--tied]\n"
            "                  [--experts N] [--experts-used N]\n"
            "                  [--dtype bf16|f16|f32] [--shards N] [--seed N]\n"
            "                  --tokenizer FOLDER OUT\n",
            why, what, gen_family_names());
    return 2;
}

static bool parse_number(const char *text, uint32_t *out)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    if (end == text || *end || v > 100000000) return false;
    *out = (uint32_t)v;
    return true;
}

/* One option with a value; false when its name or its value is wrong. */
static bool take_option(gen_spec *s, uint32_t *seed, const char *name, const char *value)
{
    const number numbers[] = {
        {"--layers", &s->layers},
        {"--hidden", &s->hidden},
        {"--ff", &s->ff},
        {"--heads", &s->heads},
        {"--kv-heads", &s->kv_heads},
        {"--head-dim", &s->head_dim},
        {"--vocab", &s->vocab},
        {"--shards", &s->shards},
        {"--seed", seed},
        {"--experts", &s->experts},
        {"--experts-used", &s->experts_used},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(name, numbers[i].name)) return parse_number(value, numbers[i].target);
    if (!strcmp(name, "--arch")) return (s->family = gen_family_find(value));
    if (!strcmp(name, "--tokenizer")) return (s->tokenizer = value);
    if (strcmp(name, "--dtype")) return false;
    const nib_codec *c = nib_codec_find(value);
    if (!c || (c->type != NIB_BF16 && c->type != NIB_F16 && c->type != NIB_F32)) return false;
    s->dtype = c->type;
    return true;
}

int main(int argc, char **argv)
{
    gen_spec s = {.layers = 2,
                  .hidden = 256,
                  .ff = 512,
                  .heads = 4,
                  .kv_heads = 2,
                  .vocab = 2048,
                  .dtype = NIB_BF16,
                  .shards = 1,
                  .experts = 8,
                  .experts_used = 2};
    uint32_t seed = 1;
    const char *out = NULL;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--tied")) {
            s.tied = true;
        } else if (strncmp(argv[i], "--", 2)) {
            if (out) return usage("more than one folder: ", argv[i]);
            out = argv[i];
        } else if (i + 1 == argc || !take_option(&s, &seed, argv[i], argv[i + 1])) {
            return usage("wrong option or value: ", argv[i]);
        } else {
            i++;
        }
    }
    s.seed = seed;
    if (!out || !s.family || !s.tokenizer) return usage("--arch, --tokenizer and OUT needed", "");
    if (!s.layers || !s.hidden || !s.heads || !s.kv_heads || !s.shards || s.heads % s.kv_heads ||
        s.experts_used > s.experts)
        return usage("sizes do not fit together", "");
    if (!s.head_dim) s.head_dim = s.hidden / s.heads;

    nib_err err = {0};
    nib_ctx ctx = {.threads = nib_par_cores()};
    if (gen_model(&s, out, &ctx, &err)) {
        fprintf(stderr, "make_model: %s\n", err.msg);
        return 1;
    }
    return 0;
}
