/* SPDX-License-Identifier: MIT */
/* cli/cmd_generate.c - what a model says after a prompt.
 * Tests: tests/cases/commands. */
#include "base/mem.h"
#include "base/utf8.h"
#include "calib/conversation.h"
#include "calib/fingerprint.h"
#include "calib/text.h"
#include "cli/io.h"
#include "cli/kv_opts.h"
#include "cli/opened.h"
#include "cli/opts.h"
#include "cli/spoken.h"
#include "infer/beam.h"
#include "infer/finite.h"
#include "infer/prompt_cache.h"
#include "infer/stop_ids.h"

#include <stdio.h>
#include <string.h>

static struct {
    const char *prompt, *prompt_file, *draft, *prompt_cache;
    bool chat, json;
    uint64_t most, n_draft, beams, memory;
    double temperature; /* below 0: not given */
    nib_sampling sampling;
    nib_kv_opts kv;
} opt = {.most = 128,
         .n_draft = 4,
         .temperature = -1,
         .sampling = NIB_SAMPLING_DEFAULT,
         .kv = NIB_KV_DEFAULT};

static const nib_opt rows[] = {
    {.name = "prompt",
     .letter = 'p',
     .kind = NIB_OPT_STR,
     .target = &opt.prompt,
     .metavar = "TEXT",
     .help = "what to go on from; with --chat, what the user says",
     .heading = "Prompt"},
    {.name = "prompt-file",
     .kind = NIB_OPT_STR,
     .target = &opt.prompt_file,
     .metavar = "FILE",
     .help = "the same from a file; - is standard input"},
    {.name = "chat",
     .kind = NIB_OPT_FLAG,
     .target = &opt.chat,
     .help = "the prompt is a message or, from a file, a conversation in JSON: render it by the "
             "model's chat template and let the model answer"},
    {.name = "prompt-cache",
     .kind = NIB_OPT_STR,
     .target = &opt.prompt_cache,
     .metavar = "FILE",
     .help =
         "keep the prompt's keys and values there, and take those of a prompt that began alike"},
    {.name = "max-new-tokens",
     .letter = 'n',
     .kind = NIB_OPT_UINT,
     .target = &opt.most,
     .min = 1,
     .max = 1 << 20,
     .metavar = "N",
     .help = "stop after N tokens, where the model does not end before (128)",
     .heading = "Choice of tokens"},
    {.name = "temperature",
     .kind = NIB_OPT_NUM,
     .target = &opt.temperature,
     .min = 0,
     .max = 1e6,
     .metavar = "X",
     .help = "draw tokens at random, the more the higher; 0 takes the most likely (0; 1 where one "
             "of the next three is given)"},
    {.name = "top-k",
     .kind = NIB_OPT_UINT,
     .target = &opt.sampling.top_k,
     .min = 0,
     .max = 1 << 30,
     .metavar = "N",
     .help = "draw from the N most likely (all)"},
    {.name = "top-p",
     .kind = NIB_OPT_NUM,
     .target = &opt.sampling.top_p,
     .min = 0,
     .max = 1,
     .metavar = "X",
     .help = "draw from the fewest whose probabilities add up to X (1)"},
    {.name = "min-p",
     .kind = NIB_OPT_NUM,
     .target = &opt.sampling.min_p,
     .min = 0,
     .max = 1,
     .metavar = "X",
     .help = "draw from those at least X times as likely as the most likely (0)"},
    {.name = "repetition-penalty",
     .kind = NIB_OPT_NUM,
     .target = &opt.sampling.repetition_penalty,
     .min = 0.001,
     .max = 1000,
     .metavar = "X",
     .help = "divide the logits of tokens that were there before by X (1)"},
    {.name = "presence-penalty",
     .kind = NIB_OPT_NUM,
     .target = &opt.sampling.presence_penalty,
     .min = -1000,
     .max = 1000,
     .metavar = "X",
     .help = "take X off the logits of tokens that were generated before (0)"},
    {.name = "seed",
     .kind = NIB_OPT_UINT,
     .target = &opt.sampling.seed,
     .metavar = "N",
     .help = "of the random numbers (0)"},
    {.name = "beams",
     .kind = NIB_OPT_UINT,
     .target = &opt.beams,
     .min = 2,
     .max = NIB_FEW_ROWS,
     .metavar = "N",
     .help = "search for the likeliest text with N beams, instead of token by token"},
    {.name = "draft",
     .kind = NIB_OPT_STR,
     .target = &opt.draft,
     .metavar = "FILE",
     .help = "a smaller model with the same tokens that proposes some: faster, and the same text",
     .heading = "Speed"},
    {.name = "draft-tokens",
     .kind = NIB_OPT_UINT,
     .target = &opt.n_draft,
     .min = 1,
     .max = NIB_DRAFT_MAX,
     .metavar = "N",
     .help = "how many it proposes at a time (4)"},
    {.name = "memory",
     .kind = NIB_OPT_SIZE,
     .target = &opt.memory,
     .metavar = "SIZE",
     .help = "what keys, values and weights may take; weights beyond it are read for each token "
             "(half of the machine's memory)"},
    NIB_KV_OPTS(opt.kv),
    {.name = "json",
     .kind = NIB_OPT_FLAG,
     .target = &opt.json,
     .help = "print ids, text, log-probabilities and times as JSON, at the end",
     .heading = "Output"},
    {0}};

typedef struct {
    const nib_ctx *ctx;
    const char *path;
    nib_opened model, draft;
    nib_ids prompt, stop;
    nib_decoder *d, *small;
    uint64_t memory;     /* left of what they may take */
    double kept_seconds; /* that a prompt took, with its file, before the text */
    nib_spoken spoken;
    nib_generated out;
} job;

/* ---- the prompt ---- */

/* Append the text of a conversation up to where the model is to answer. */
static nib_code render(nib_text *out, const nib_tokenizer *tok, const nib_json *doc, nib_err *err)
{
    nib_conversation c;
    nib_chat *chat = NULL;
    nib_code rc = nib_conversation_read(&c, doc, err);
    if (!rc) rc = nib_chat_open(&chat, tok, err);
    c.input.add_generation_prompt = true;
    if (!rc) rc = nib_chat_render(chat, &c.input, out, err);
    nib_chat_close(chat);
    nib_conversation_free(&c);
    return rc;
}

static nib_json *one_message(const char *text)
{
    nib_json *doc = nib_json_new_object(), *list = doc ? nib_json_add_array(doc, "messages") : NULL;
    nib_json *m = list ? nib_json_add_object(list, NULL) : NULL;
    if (m && nib_json_add_str(m, "role", "user") && nib_json_add_str(m, "content", text))
        return doc;
    nib_json_free(doc);
    return NULL;
}

static nib_code encode_chat(job *j, const char *text, size_t n, nib_err *err)
{
    nib_json *doc = NULL;
    nib_text out = {0};
    nib_code rc = NIB_OK;
    if (!opt.prompt)
        rc = nib_json_parse(&doc, text, n, err);
    else if (!(doc = one_message(text)))
        rc = nib_fail_nomem(err, "a conversation");
    if (!rc) rc = render(&out, j->model.tok, doc, err);
    if (!rc) rc = nib_chat_encode(j->model.tok, out.p ? out.p : "", out.n, &j->prompt, err);
    nib_free(out.p);
    nib_json_free(doc);
    return rc;
}

/* As the model was trained to see the beginning of a text; what its tokenizer puts at the end of
 * one would end it. */
static nib_code encode_plain(job *j, const char *text, size_t n, nib_err *err)
{
    const nib_tokenizer *tok = j->model.tok;
    nib_code rc = nib_tokenizer_encode(tok, text, n, NIB_TOK_ADD_SPECIAL | NIB_TOK_PARSE_SPECIAL,
                                       &j->prompt, err);
    if (!rc && nib_tokenizer_adds_eos(tok) && j->prompt.n &&
        j->prompt.id[j->prompt.n - 1] == nib_tokenizer_eos(tok))
        j->prompt.n--;
    return rc;
}

static nib_code encode(job *j, nib_err *err)
{
    char *read = NULL;
    const char *text = opt.prompt;
    size_t n = text ? strlen(text) : 0;
    const char *name = text ? "the prompt" : opt.prompt_file ? opt.prompt_file : NIB_TEXT_STDIN;
    nib_code rc = text ? NIB_OK : nib_text_bytes(&read, &n, name, err);
    if (!rc && read) text = read;
    if (!rc) rc = opt.chat ? encode_chat(j, text, n, err) : encode_plain(j, text, n, err);
    nib_free(read);
    if (!rc && !j->prompt.n) rc = nib_fail(err, NIB_EINVAL, "no tokens to go on from");
    return rc ? nib_wrap(err, "%s", name) : NIB_OK;
}

/* ---- the models ---- */

static nib_code check_prompt(const job *j, nib_err *err)
{
    const nib_hparams *hp = &j->model.model.hp;
    for (size_t i = 0; i < j->prompt.n; i++)
        if ((uint32_t)j->prompt.id[i] >= hp->n_vocab)
            return nib_fail(err, NIB_EFORMAT, "token %d of the prompt; the model has 0 to %u",
                            (int)j->prompt.id[i], hp->n_vocab - 1);
    if (hp->n_ctx_train && j->prompt.n + opt.most > hp->n_ctx_train)
        nib_warn(j->ctx->log, "%zu tokens of the prompt and %zu more: the model was trained on %u",
                 j->prompt.n, (size_t)opt.most, hp->n_ctx_train);
    return NIB_OK;
}

/* A draft's tokens must mean the same, or it proposes nonsense. */
static nib_code check_draft(const job *j, nib_err *err)
{
    const nib_tokenizer *a = j->model.tok, *b = j->draft.tok;
    const size_t n = nib_tokenizer_n_vocab(a), m = nib_tokenizer_n_vocab(b);
    for (size_t i = 0; i < (n < m ? n : m); i++) {
        const nib_str s = nib_tokenizer_token(a, (int32_t)i),
                      t = nib_tokenizer_token(b, (int32_t)i);
        if (s.n == t.n && !memcmp(s.p, t.p, s.n)) continue;
        return nib_fail(err, NIB_EINVAL, "%s: has other tokens than %s, from token %zu on",
                        opt.draft, j->path, i);
    }
    return NIB_OK;
}

static nib_code open_draft(job *j, size_t n_ctx, nib_err *err)
{
    if (!opt.draft) return NIB_OK;
    static const nib_kv_choice f32 = {0};
    nib_code rc = nib_opened_open(&j->draft, opt.draft, j->ctx->log, err);
    if (!rc) rc = check_draft(j, err);
    return rc ? rc
              : nib_decoder_new(&j->small, &j->draft.model, j->ctx, 1, n_ctx, &f32, &j->memory,
                                err);
}

static nib_code open_models(job *j, nib_err *err)
{
    nib_code rc = nib_opened_open(&j->model, j->path, j->ctx->log, err);
    if (!rc) rc = encode(j, err);
    if (!rc) rc = check_prompt(j, err);
    if (!rc) rc = nib_stop_ids(&j->stop, j->model.src, j->model.tok, err);
    if (rc) return rc;
    const size_t n_ctx = j->prompt.n + (size_t)opt.most;
    const nib_kv_choice kv = nib_kv_how(&opt.kv);
    j->memory = opt.memory ? opt.memory : nib_mem_total() / 2;
    rc = nib_decoder_new(&j->d, &j->model.model, j->ctx, opt.beams ? (size_t)opt.beams : 1, n_ctx,
                         &kv, &j->memory, err);
    return rc ? rc : open_draft(j, n_ctx, err);
}

static void close_all(job *j)
{
    nib_generated_free(&j->out);
    nib_decoder_free(j->d);
    nib_decoder_free(j->small);
    nib_ids_free(&j->prompt);
    nib_ids_free(&j->stop);
    nib_free(j->spoken.all.p);
    nib_opened_close(&j->model);
    nib_opened_close(&j->draft);
}

/* ---- the text ---- */

static nib_code say(job *j, nib_err *err)
{
    nib_generation how = {.sampling = opt.sampling,
                          .most = (size_t)opt.most,
                          .stop = &j->stop,
                          .draft = j->small,
                          .n_draft = (size_t)opt.n_draft,
                          .beams = (size_t)opt.beams};
    const nib_token_sink sink = {nib_spoken_token, &j->spoken};
    const bool filters = opt.sampling.top_k || opt.sampling.top_p < 1 || opt.sampling.min_p > 0;
    how.sampling.temperature = opt.temperature >= 0 ? opt.temperature : filters;
    j->spoken.tok = j->model.tok;
    j->spoken.print = !opt.json;
    if (!opt.beams) return nib_generate(&j->out, j->d, j->prompt.id, j->prompt.n, &how, &sink, err);
    nib_code rc = nib_beam_search(&j->out, j->d, j->prompt.id, j->prompt.n, &how, err);
    for (size_t i = 0; i < j->out.n && !rc; i++) rc = sink.token(sink.arg, j->out.id[i], err);
    return rc;
}

/* The prompt goes into the file while the cache has it as it was read. Its last token is read again
 * by who goes on from it. */
static nib_code keep_prompt(job *j, uint64_t model, nib_err *err)
{
    const float *logits;
    const double started = nib_now();
    nib_code rc = nib_decoder_prompt(j->d, j->prompt.id, j->prompt.n, &logits, err);
    if (!rc)
        rc = nib_prompt_cache_save(j->d, opt.prompt_cache, model, j->prompt.id, j->prompt.n, err);
    if (!rc) nib_decoder_set_length(j->d, j->prompt.n - 1);
    j->kept_seconds = nib_now() - started;
    return rc;
}

/* With what a file has of the prompt, and what the prompt has beyond it for the file. */
static nib_code say_cached(job *j, nib_err *err)
{
    uint64_t model;
    size_t held;
    if (!opt.prompt_cache) return say(j, err);
    nib_code rc = nib_model_fingerprint(&model, &j->model.model, err);
    if (!rc)
        rc = nib_prompt_cache_load(j->d, opt.prompt_cache, model, j->prompt.id, j->prompt.n, &held,
                                   err);
    if (rc) return rc;
    nib_info(j->ctx->log, "%zu of %zu tokens of the prompt come from %s", nib_decoder_length(j->d),
             j->prompt.n, opt.prompt_cache);
    if (held < j->prompt.n) rc = keep_prompt(j, model, err);
    if (!rc) rc = say(j, err);
    j->out.prompt_seconds += j->kept_seconds;
    return rc;
}

static nib_code generate(job *j, nib_err *err)
{
    nib_code rc = open_models(j, err);
    if (!rc && (rc = say_cached(j, err)) == NIB_ENUMERIC)
        nib_blame_weights(&j->model.model, j->ctx, err);
    return rc;
}

/* ---- what is printed ---- */

static bool add_ids(nib_json *j, const char *key, const int32_t *id, size_t n)
{
    nib_json *list = nib_json_add_array(j, key);
    bool ok = list;
    for (size_t i = 0; i < n && ok; i++) ok = nib_json_add_num(list, NULL, id[i]);
    return ok;
}

static bool add_logprobs(nib_json *j, const nib_generated *g)
{
    nib_json *list = nib_json_add_array(j, "logprobs");
    bool ok = list;
    for (size_t i = 0; i < g->n && ok; i++) ok = nib_json_add_num(list, NULL, g->logprob[i]);
    return ok;
}

/* NUL-terminated, and UTF-8. */
static bool add_text(nib_json *j, nib_text *all)
{
    nib_err err;
    char *text = NULL;
    bool ok = !nib_text_add(all, "", 1, &err) && (text = nib_utf8_replace(all->p)) &&
              nib_json_add_str(j, "text", text);
    nib_free(text);
    return ok;
}

static double rate(double n, double seconds)
{
    return seconds > 0 ? n / seconds : 0;
}

static bool add_all(nib_json *j, job *k)
{
    const nib_generated *g = &k->out;
    const bool ended = g->ended_by >= 0;
    return nib_json_add_str(j, "model", k->path) &&
           add_ids(j, "prompt_ids", k->prompt.id, k->prompt.n) && add_ids(j, "ids", g->id, g->n) &&
           add_text(j, &k->spoken.all) && add_logprobs(j, g) &&
           nib_json_add_str(j, "finish", ended ? "stop" : "length") &&
           nib_kv_add_json(j, &opt.kv) &&
           (!ended || (nib_json_add_num(j, "stop_id", g->ended_by) &&
                       nib_json_add_num(j, "stop_logprob", g->logprob_end))) &&
           nib_json_add_num(j, "prompt_seconds", g->prompt_seconds) &&
           nib_json_add_num(j, "seconds", g->seconds) &&
           nib_json_add_num(j, "tokens_per_second", rate((double)g->n - 1 + ended, g->seconds)) &&
           (!opt.draft || (nib_json_add_num(j, "draft_proposed", (double)g->n_proposed) &&
                           nib_json_add_num(j, "draft_accepted", (double)g->n_accepted)));
}

static void tell(const job *j)
{
    const nib_generated *g = &j->out;
    if (opt.draft)
        nib_info(j->ctx->log, "draft: %zu of %zu proposed tokens were kept (%.1f %%)",
                 g->n_accepted, g->n_proposed,
                 g->n_proposed ? 100 * (double)g->n_accepted / (double)g->n_proposed : 0.0);
    nib_debug(j->ctx->log,
              "%zu tokens of the prompt in %.2f s, %zu more in %.2f s: %.1f tokens/s; %s",
              j->prompt.n, g->prompt_seconds, g->n, g->seconds,
              rate((double)g->n - 1 + (g->ended_by >= 0), g->seconds),
              g->ended_by >= 0 ? "the model ended it" : "the most tokens");
}

static nib_code print_result(job *j, nib_err *err)
{
    nib_json *root = NULL;
    if (!opt.json) {
        nib_spoken_end(&j->spoken);
        return NIB_OK;
    }
    root = nib_json_new_object();
    return nib_print_json(root, root && add_all(root, j), err);
}

static const char *clash_with_beams(void)
{
    const nib_sampling *s = &opt.sampling;
    if (opt.temperature > 0) return "temperature";
    if (s->top_k) return "top-k";
    if (s->top_p < 1) return "top-p";
    if (s->min_p > 0) return "min-p";
    if (s->repetition_penalty != 1) return "repetition-penalty";
    if (s->presence_penalty != 0) return "presence-penalty";
    if (opt.draft) return "draft";
    return NULL;
}

static int run(const nib_opt_list *operands, const nib_ctx *ctx)
{
    nib_err err;
    job j = {.ctx = ctx, .path = operands->v[0]};
    const char *clash = opt.beams ? clash_with_beams() : NULL;
    if (opt.prompt && opt.prompt_file)
        return nib_usage(&nib_cmd_generate, "--prompt or --prompt-file, not both");
    if (!opt.prompt && !opt.prompt_file && !opt.chat)
        return nib_usage(&nib_cmd_generate, "generate: --prompt TEXT is missing");
    if (clash) return nib_usage(&nib_cmd_generate, "--beams takes no --%s", clash);
    nib_code rc = generate(&j, &err);
    if (!rc) rc = print_result(&j, &err);
    if (!rc) tell(&j);
    close_all(&j);
    return rc ? nib_report(&err) : NIB_EXIT_OK;
}

const nib_cmd nib_cmd_generate = {
    .name = "generate",
    .run = run,
    .summary = "let a model go on from a prompt",
    .operands = "MODEL",
    .min_operands = 1,
    .max_operands = 1,
    .usage = "MODEL --prompt TEXT",
    .about = "Print what a model (folder, .safetensors or .gguf) says after a prompt, as it comes. "
             "With --chat alone a conversation is read from standard input.",
    .example = "nibble generate data/tiny-llama --prompt 'Once upon a time' -n 40",
    .options = rows,
};
