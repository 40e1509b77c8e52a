/* SPDX-License-Identifier: MIT */
/* cli/other_tools.c - see other_tools.h. Tests: tests/cli/other_tools.sh, tests/cases/options. */
#include "cli/other_tools.h"

#include "base/name.h"
#include "run/plan/file_type.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- options ---- */

static const nib_other_opt opts[] = {
    /* the model, texts, what is written: all of them */
    {"m model model-path pretrained-model-dir hf-path", NULL, NULL, "", false, NULL},
    {"f file calibration-data", NULL, NULL, "text", false, NULL},
    {"f file", "tokenize", NULL, "", false, NULL},
    {"outfile output-file output-dir quantized-model-dir save", NULL, NULL, "output", false, NULL},
    {"t", NULL, NULL, "threads", false, NULL},
    {"ctx-size seqlen max-seq-length max-seq-len", NULL, NULL, "ctx", false, NULL},
    {"nsamples num-samples num-calibration-samples", NULL, NULL, "samples", false, NULL},
    {"s", NULL, NULL, "seed", false, NULL},
    {"dataset", NULL, "*", NULL, false, "texts are files here: --text FILE"},
    {"temp", "generate", NULL, "temperature", false, NULL},
    {"n-predict predict max-tokens max-length", "generate", NULL, "max-new-tokens", false, NULL},
    {"repeat-penalty", "generate", NULL, "repetition-penalty", false, NULL},
    {"num-beams", "generate", NULL, "beams", false, NULL},
    {"md model-draft draft-model assistant-model", "generate", NULL, "draft", false, NULL},
    {"draft-max draft-n num-assistant-tokens", "generate", NULL, "draft-tokens", false, NULL},
    {"f file", "generate", NULL, "prompt-file", false, NULL},
    {"cnv conversation", "generate", NULL, "chat", false, NULL},
    {"p prompt", NULL, "*", NULL, false, "echo 'PROMPT' | nibble tokenize MODEL"},
    {"lora", NULL, "*", NULL, false, "merge an adapter into its model first"},
    {"hf hf-repo model-id remote model-url", NULL, "*", NULL, false,
     "nothing is downloaded: give the model's folder or file"},
    {"ctk", NULL, NULL, "cache-type-k", false, NULL},
    {"ctv", NULL, NULL, "cache-type-v", false, NULL},
    {"ctk cache-type-k ctv cache-type-v", NULL, "*", NULL, false,
     "keys and values are kept in f32"},
    {"kv-cache-dtype", NULL, NULL, "kv-cache", false, NULL},

    /* where and how fast programs run */
    {"ngl gpu-layers n-gpu-layers device dev sm split-mode ts tensor-split mg main-gpu "
     "per-gpu-max-memory cpu-max-memory",
     NULL, "*", NULL, true, "everything runs on the processor"},
    {"b batch-size ub ubatch-size tb threads-batch numa quant-batch-size", NULL, "*", NULL, true,
     "the program finds the best itself"},
    {"fa flash-attn", NULL, "on off auto", NULL, true, "the program finds the best itself"},
    {"no-mmap mlock no-lazy use-temp-file use-triton fast-tokenizer trust-remote-code "
     "log-disable",
     NULL, "true false", NULL, true, "it makes no difference here"},
    {"lv verbosity", NULL, "*", NULL, true, "--verbose and --quiet say how much is told"},
    {"seed s", "perplexity compare", "*", NULL, true, "nothing is random here"},

    /* llama-quantize */
    {"output-tensor-type", NULL, NULL, "output-type", false, NULL},
    {"token-embedding-type", NULL, NULL, "embedding-type", false, NULL},
    {"leave-output-tensor", NULL, NULL, "leave-output", false, NULL},
    {"allow-requantize", "quantize", NULL, NULL, true, "a quantized source is always taken"},
    {"max-buffer-size", "quantize", "*", NULL, true, "tensors are read in pieces anyway"},
    {"keep-split", "quantize", NULL, NULL, false, "--split-max-size SIZE splits what is written"},
    {"override-kv metadata model-name", "quantize", "*", NULL, false,
     "metadata is the source's and cannot be changed here"},
    {"tensor-type-file", "quantize", "*", NULL, false,
     "give each of its lines as --tensor-type LINE: $(sed 's/^/--tensor-type /' FILE)"},
    {"include-weights exclude-weights", "quantize", "*", NULL, false,
     "--imatrix is used for all tensors that it has an entry for"},
    {"prune-layers", "quantize", "*", NULL, false, "blocks cannot be left out"},

    /* convert_hf_to_gguf.py */
    {"outtype", NULL, NULL, "type", false, NULL},
    {"split-max-tensors", "quantize", "*", NULL, false,
     "--split-max-size SIZE splits what is written"},
    {"vocab-only bigendian mmproj mistral-format print-supported-models no-tensor-first-split",
     "quantize", NULL, NULL, false, "whole models become little-endian GGUF files, nothing else"},

    /* llama-imatrix */
    {"chunks", "calibrate", "*", NULL, false,
     "--samples N takes N windows, chosen at random from the whole text"},
    {"chunk from-chunk", "calibrate", "*", NULL, false,
     "windows are chosen at random from the whole text: --samples N"},
    {"ofreq output-frequency save-frequency", "calibrate", "*", NULL, true,
     "an interrupted run goes on when the same command is given again"},
    {"no-ppl", "calibrate", NULL, NULL, true, "no perplexity is computed"},
    {"in-file", "calibrate", "*", NULL, false,
     "matrices are not joined; give all texts in one run: --text A --text B"},
    {"show-statistics", "calibrate", NULL, NULL, false, "nibble inspect FILE --tensors"},
    {"output-format", "calibrate", "*", NULL, false, "the matrix is written as GGUF"},
    {"parse-special", "calibrate", NULL, NULL, false,
     "--chat takes a text's 'messages' through the model's chat template, special tokens and all"},

    /* llama-perplexity */
    {"perplexity", "perplexity", NULL, NULL, true, "that is what the command does"},
    {"kl-divergence", "perplexity compare", NULL, NULL, false,
     "nibble compare BASE OTHER --text FILE"},
    {"save-all-logits logits-file", "compare", NULL, "kl-divergence-base", false, NULL},
    {"kl-divergence-base save-all-logits logits-file", "perplexity", "*", NULL, false,
     "nibble compare MODEL --text TEXT --kl-divergence-base FILE"},
    {"ppl-stride", "perplexity compare", "*", NULL, false,
     "windows do not overlap: --protocol window"},
    {"hellaswag winogrande multiple-choice", "perplexity compare", NULL, NULL, false,
     "only perplexity and divergence are measured"},

    /* GPTQ, AutoGPTQ, GPTQModel, AutoAWQ, llm-compressor, AutoRound */
    {"wbits w-bit q-bits", NULL, NULL, "bits", false, NULL},
    {"q-group-size", NULL, NULL, "group-size", false, NULL},
    {"act-order actorder", NULL, NULL, "desc-act", false, NULL},
    {"damp-percent percdamp dampening-frac", NULL, NULL, "damp", false, NULL},
    {"smoothing-strength", NULL, NULL, "alpha", false, NULL},
    {"sym symmetric", "quantize", NULL, NULL, false,
     "groups are symmetric unless --asym is given; of awq they never are"},
    {"zero-point", "quantize", NULL, NULL, false,
     "--asym gives groups a zero point; awq groups always have one"},
    {"static-groups act-group-aware", "quantize", "true false", NULL, true,
     "groups stay as they lie unless --desc-act is given"},
    {"damp-auto-increment", "quantize", "*", NULL, true, "damping is raised where it must be"},
    {"mse", "quantize", "*", NULL, false, "scales are searched for unless --scales range is given"},
    {"lm-head", "quantize", NULL, NULL, false,
     "--output-type says it of compressed-tensors folders (w8a16) and of GGUF files; others leave "
     "the output matrix as it is"},
    {"dynamic", "quantize", "*", NULL, false,
     "--override 'REGEX:bits=8,group-size=32', or 'REGEX:skip=true'"},
    {"ignore modules-to-not-convert", "quantize", "*", NULL, false, "--override 'REGEX:skip=true'"},
    {"iters", "quantize", "*", NULL, false, "--sweeps N are the rounds of coordinate descent"},
    {"nearest", "quantize", NULL, NULL, false, "--method rtn, the default"},
};

/* ---- values ---- */

static const struct {
    const char *options, *names; /* of ours; what others call it */
    const char *ours;            /* NULL: none of ours is the same */
    const char *says;
} values[] = {
    {"format", "auto-gptq autogptq gptqmodel", "gptq", NULL},
    {"format", "auto-awq autoawq gemm", "awq", NULL},
    {"format", "llm-compressor llmcompressor", "compressed-tensors", NULL},
    {"format", "marlin exllama gemv", NULL,
     "engines repack folders for their kernels when they load them: --format gptq or awq"},
    {"scheme", "w8a8-int8", "w8a8", NULL},
    {"scheme", "w4a16-asym", NULL, "--scheme w4a16 --asym"},
    {"method", "nearest round none", "rtn", NULL},
    {"method", "gptq+awq", "awq+gptq", NULL},
    {"method", "sq smooth", "smoothquant", NULL},
    {"method", "imatrix importance", NULL, "--imatrix FILE rounds by importance, with method rtn"},
    {"type output-type embedding-type", "fp32 float32 float", "f32", NULL},
    {"type output-type embedding-type", "fp16 float16 half", "f16", NULL},
    {"type output-type embedding-type", "bfloat16", "bf16", NULL},
    {"type", "auto", NULL, "bf16, f16 or f32, which 'nibble inspect MODEL' shows"},
    {"type", "copy", NULL, "name the type; one that the source has keeps its values"},
    {"type", "int4 4bit", NULL, "--type q4_k_m in a GGUF file, --format gptq --bits 4 in a folder"},
    {"type", "8bit", NULL, "--type q8_0 in a GGUF file, --format gptq --bits 8 in a folder"},
    {"activations", "token per-token", "dynamic", NULL},
    {"activations", "max absmax", "minmax", NULL},
    {"activations", "entropy", "kl", NULL},
    {"protocol", "hf paper papers", "window", NULL},
};

/* ---- commands ---- */

static const struct {
    const char *names, *ours;
    struct {
        const char *option, *value;
    } adds[2]; /* what goes without saying there */
} commands[] = {
    {"llama-quantize", "quantize", {{NULL, NULL}}},
    {"imatrix llama-imatrix", "calibrate", {{"output", "imatrix.gguf"}}},
    {"llama-perplexity ppl eval", "perplexity", {{NULL, NULL}}},
    {"llama-tokenize", "tokenize", {{NULL, NULL}}},
    {"llama-cli llama-completion llama-simple llama-speculative run", "generate", {{NULL, NULL}}},
    {"convert-hf-to-gguf convert-hf-to-gguf.py", "quantize", {{"type", "bf16"}}},
    {"gguf-dump gguf-dump.py info show", "inspect", {{NULL, NULL}}},
    {"kld kl-divergence", "compare", {{NULL, NULL}}},
    {"gptq auto-gptq gptqmodel", "quantize", {{"format", "gptq"}, {"method", "gptq"}}},
    {"awq autoawq", "quantize", {{"format", "awq"}, {"method", "awq"}}},
};

/* What the operands after the model are to other tools. */
static const struct {
    const char *command, *option[3];
} operands[] = {
    {"quantize", {"output", "type", "threads"}},
    {"calibrate", {"text", "output"}},
    {"perplexity", {"text"}},
};

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* Is the name, n bytes, one of the words of the list? */
static bool listed(const char *list, const char *name, size_t n)
{
    for (size_t k; *list; list += k + (list[k] == ' ')) {
        char word[NIB_NAME_MAX + 1];
        k = strcspn(list, " ");
        snprintf(word, sizeof word, "%.*s", (int)k, list);
        if (nib_name_same_n(name, n, word)) return true;
    }
    return false;
}

const nib_other_opt *nib_other_opt_find(const nib_cmd *cmd, const char *name, size_t n)
{
    for (size_t i = 0; i < COUNT(opts); i++) {
        const nib_other_opt *o = &opts[i];
        if (!listed(o->names, name, n)) continue;
        if (o->commands && !listed(o->commands, cmd->name, strlen(cmd->name))) continue;
        if (!o->ours || !*o->ours || nib_opt_named(cmd, o->ours, strlen(o->ours))) return o;
    }
    return NULL;
}

bool nib_other_opt_takes(const nib_other_opt *o, const char *word)
{
    if (!o->takes) return false;
    return !strcmp(o->takes, "*") || listed(o->takes, word, strlen(word));
}

const char *nib_other_value(const char **says, const nib_opt *o, const char *value)
{
    *says = NULL;
    for (size_t i = 0; i < COUNT(values); i++) {
        if (!listed(values[i].options, o->name, strlen(o->name)) ||
            !listed(values[i].names, value, strlen(value)))
            continue;
        *says = values[i].says;
        return values[i].ours;
    }
    return NULL;
}

static size_t find_command(const char *name)
{
    size_t i = 0;
    while (i < COUNT(commands) && !listed(commands[i].names, name, strlen(name))) i++;
    return i;
}

const nib_cmd *nib_other_command(const char *name)
{
    const size_t i = find_command(name);
    for (const nib_cmd *const *c = nib_cmds; *c && i < COUNT(commands); c++)
        if (!strcmp((*c)->name, commands[i].ours)) return *c;
    return NULL;
}

/* ---- a whole command line ---- */

enum { MAX_OPERANDS = 16 };

typedef struct {
    const nib_cmd *cmd;
    bool theirs_first; /* of letters that both have */
    int argc, i;       /* argv[i] is the next word  */
    char *const *argv;
    const char *operand[MAX_OPERANDS];
    size_t n_operands;
    char *line; /* the options */
    size_t size, at;
} reader;

static void put(reader *r, const char *fmt, ...) NIB_PRINTF(2, 3);
static void put(reader *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (r->at < r->size) r->at += (size_t)vsnprintf(r->line + r->at, r->size - r->at, fmt, ap);
    va_end(ap);
}

/* A word as a shell takes it. */
static void put_word(reader *r, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-+=./:,@%";
    if (*word && strspn(word, plain) == strlen(word)) {
        put(r, " %s", word);
        return;
    }
    put(r, " '");
    for (; *word; word++) put(r, *word == '\'' ? "'\\''" : "%c", *word);
    put(r, "'");
}

/* False: the reason stands in the line. */
static bool cannot(reader *r, const char *option, const char *why)
{
    r->at = 0;
    put(r, "%s%s%s", option, *option ? ": " : "", why);
    return false;
}

static bool put_option(reader *r, const nib_opt *o, const char *value)
{
    const char *says, *ours;
    if (o->letter == 'o')
        put(r, " -o");
    else
        put(r, " --%s", o->name);
    if (!value) return true;
    ours = nib_other_value(&says, o, value);
    if (says) return cannot(r, o->name, says);
    put_word(r, ours ? ours : value);
    return true;
}

static bool is_given(const reader *r, const nib_opt *o)
{
    char word[NIB_NAME_MAX + 4];
    snprintf(word, sizeof word, o->letter == 'o' ? " -o " : " --%s ", o->name);
    return strstr(r->line, word) != NULL;
}

static bool add_operand(reader *r, const char *word)
{
    if (r->n_operands == MAX_OPERANDS) return cannot(r, "", "");
    r->operand[r->n_operands++] = word;
    return true;
}

/* An option; `value` is what stands joined to it, or NULL. */
static bool read_option(reader *r, const char *name, size_t n, const char *value, bool is_long)
{
    const nib_opt *own = is_long  ? nib_opt_named(r->cmd, name, n)
                         : n == 1 ? nib_opt_lettered(r->cmd, *name)
                                  : NULL;
    const nib_other_opt *other =
        own && (is_long || !r->theirs_first) ? NULL : nib_other_opt_find(r->cmd, name, n);
    const char *next = r->i < r->argc ? r->argv[r->i] : NULL;
    if (other && !other->ours) {
        if (!other->idle) return cannot(r, r->argv[r->i - 1], other->says);
        if (!value && next && nib_other_opt_takes(other, next)) r->i++;
        return true;
    }
    const bool operand = other && !*other->ours;
    if (other && !operand) own = nib_opt_named(r->cmd, other->ours, strlen(other->ours));
    if (!operand && !own) return cannot(r, "", "");
    if (operand || own->kind != NIB_OPT_FLAG) {
        if (!value && !next) return cannot(r, "", "");
        if (!value) value = next, r->i++;
    }
    return operand ? add_operand(r, value) : put_option(r, own, value);
}

static bool read_words(reader *r)
{
    bool ok = true;
    while (ok && r->i < r->argc) {
        const char *word = r->argv[r->i++];
        const bool is_long = word[0] == '-' && word[1] == '-';
        const size_t n = strcspn(word, is_long ? "=" : "");
        if (word[0] != '-' || !word[1])
            ok = add_operand(r, word);
        else
            ok = read_option(r, word + 1 + is_long, n - 1 - is_long, word[n] ? word + n + 1 : NULL,
                             is_long);
    }
    return ok;
}

/* Operands that are options of ours. */
static bool place_operands(reader *r)
{
    const nib_file_type *type;
    nib_err err;
    size_t k = 0, role = 0;
    while (k < COUNT(operands) && strcmp(operands[k].command, r->cmd->name)) k++;
    if (k == COUNT(operands)) return true;
    /* "llama-quantize IN Q4_K_M" names the output itself */
    if (r->n_operands > 1 && k == 0 && !nib_file_type_find(&type, r->operand[1], &err)) {
        put(r, " -o ggml-model-%s.gguf", type->name);
        role = 1;
    }
    for (size_t i = 1; i < r->n_operands; i++, role++) {
        const char *name = role < COUNT(operands[k].option) ? operands[k].option[role] : NULL;
        const nib_opt *o = name ? nib_opt_named(r->cmd, name, strlen(name)) : NULL;
        if (!o || is_given(r, o)) return cannot(r, "", "");
        if (!put_option(r, o, r->operand[i])) return false;
    }
    r->n_operands = r->n_operands ? 1 : 0;
    return true;
}

/* Who gives the model by "-m" means by other letters too what other tools do. */
static bool has_their_model(const nib_cmd *cmd, int argc, char *const *argv)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "-m")) return !nib_opt_lettered(cmd, 'm');
    return false;
}

bool nib_other_line(char *line, size_t size, const nib_cmd *cmd, const char *name, int argc,
                    char *const *argv)
{
    char options[1024] = "";
    reader r = {.cmd = cmd,
                .theirs_first = name || has_their_model(cmd, argc, argv),
                .argc = argc,
                .i = 1,
                .argv = argv,
                .line = options,
                .size = sizeof options};
    bool ok = read_words(&r) && place_operands(&r);
    for (size_t i = 0; ok && name && i < 2; i++) {
        const char *option = commands[find_command(name)].adds[i].option;
        const nib_opt *o = option ? nib_opt_named(cmd, option, strlen(option)) : NULL;
        if (o && !is_given(&r, o))
            ok = put_option(&r, o, commands[find_command(name)].adds[i].value);
    }
    if (ok && (r.n_operands < (size_t)cmd->min_operands || r.at >= sizeof options))
        ok = cannot(&r, "", "");
    reader whole = {.line = line, .size = size};
    if (!ok) {
        put(&whole, "%s", options);
        return false;
    }
    put(&whole, "nibble %s", cmd->name);
    for (size_t i = 0; i < r.n_operands; i++) put_word(&whole, r.operand[i]);
    put(&whole, "%s", options);
    return whole.at < size;
}
