/* SPDX-License-Identifier: MIT */
/* cli/cmd_tokenize.c - text to tokens and back, with a model's own tokenizer.
 * Tests: tests/cases/commands. */
#include "base/mem.h"
#include "base/str.h"
#include "base/utf8.h"
#include "calib/text.h"
#include "cli/io.h"
#include "cli/opts.h"
#include "infer/tokenizer.h"

#include <ctype.h>
#include <stdio.h>

static struct {
    bool ids, decode, no_special, parse_special, chat, json;
} opt;

static const nib_opt rows[] = {
    {.name = "ids",
     .kind = NIB_OPT_FLAG,
     .target = &opt.ids,
     .help = "print the ids alone, on one line"},
    {.name = "decode",
     .letter = 'd',
     .kind = NIB_OPT_FLAG,
     .target = &opt.decode,
     .help = "read ids, separated by spaces or commas, and print their text"},
    {.name = "no-special",
     .kind = NIB_OPT_FLAG,
     .target = &opt.no_special,
     .help = "add no BOS or EOS; with --decode, leave control tokens out"},
    {.name = "parse-special",
     .kind = NIB_OPT_FLAG,
     .target = &opt.parse_special,
     .help = "text that spells a special token becomes that token"},
    NIB_CHAT_OPT(opt.chat),
    {.name = "json",
     .kind = NIB_OPT_FLAG,
     .target = &opt.json,
     .help = "print ids and tokens as JSON"},
    {0}};

/* ---- printing ---- */

static void print_ids(const nib_ids *ids)
{
    for (size_t i = 0; i < ids->n; i++) printf("%s%d", i ? " " : "", (int)ids->id[i]);
    putchar('\n');
}

/* "the\n" in quotes: what is not printable ASCII or UTF-8 lead or tail is escaped. A token may be a
 * part of a character, so bytes from 0x80 on are only left alone when the whole is UTF-8. */
static void print_quoted(const char *s, size_t n, bool utf8)
{
    putchar('"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '\n')
            fputs("\\n", stdout);
        else if (c == '\t')
            fputs("\\t", stdout);
        else if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (nib_control(s + i, n - i) == 2)
            printf("\\x%02x\\x%02x", c, (unsigned char)s[++i]);
        else if (isprint(c) || (c >= 0x80 && utf8))
            putchar(c);
        else
            printf("\\x%02x", c);
    }
    putchar('"');
}

static nib_code print_table(const nib_tokenizer *tok, const nib_ids *ids, nib_err *err)
{
    for (size_t i = 0; i < ids->n; i++) {
        char *piece;
        size_t n;
        nib_code rc = nib_tokenizer_piece(tok, ids->id[i], &piece, &n, err);
        if (rc) return rc;
        printf("%d\t", (int)ids->id[i]);
        print_quoted(piece, n, nib_utf8_bad(piece, n) == n);
        putchar('\n');
        nib_free(piece);
    }
    return NIB_OK;
}

/* Tokens are printed as the vocabulary has them: their bytes alone need not be UTF-8. */
static nib_code print_json(const nib_tokenizer *tok, const nib_ids *ids, nib_err *err)
{
    nib_json *j = nib_json_new_object();
    bool ok = j && nib_json_add_num(j, "count", (double)ids->n);
    nib_json *id = ok ? nib_json_add_array(j, "ids") : NULL;
    nib_json *token = ok ? nib_json_add_array(j, "tokens") : NULL;
    ok = id && token;
    for (size_t i = 0; ok && i < ids->n; i++) {
        const nib_str text = nib_tokenizer_token(tok, ids->id[i]);
        ok = nib_json_add_num(id, NULL, ids->id[i]) &&
             nib_json_add_text(token, NULL, text.p, text.n);
    }
    return nib_print_json(j, ok, err);
}

/* ---- both directions ---- */

static nib_code encode(const nib_tokenizer *tok, const char *text, size_t n, nib_err *err)
{
    nib_ids ids = {0};
    unsigned flags = (opt.no_special || opt.chat ? 0u : NIB_TOK_ADD_SPECIAL) |
                     (opt.parse_special || opt.chat ? NIB_TOK_PARSE_SPECIAL : 0u);
    nib_code rc = nib_tokenizer_encode(tok, text, n, flags, &ids, err);
    if (!rc && opt.json)
        rc = print_json(tok, &ids, err);
    else if (!rc && opt.ids)
        print_ids(&ids);
    else if (!rc)
        rc = print_table(tok, &ids, err);
    nib_ids_free(&ids);
    return rc;
}

/* Decimal numbers between spaces, commas and brackets (a JSON array is fine). ids->id has room for
 * one number in every two bytes. */
static nib_code parse_ids(nib_ids *ids, const char *text, size_t n, nib_err *err)
{
    for (size_t i = 0; i < n;) {
        char c = text[i];
        if (isspace((unsigned char)c) || c == ',' || c == '[' || c == ']') {
            i++;
            continue;
        }
        int64_t v = 0;
        size_t from = i;
        while (i < n && isdigit((unsigned char)text[i]) && v <= INT32_MAX)
            v = v * 10 + (text[i++] - '0');
        if (i == from || v > INT32_MAX)
            return nib_fail(err, NIB_EINVAL, "byte %zu of the input: '%.10s' is not a token id",
                            from, text + from);
        ids->id[ids->n++] = (int32_t)v;
    }
    return NIB_OK;
}

static nib_code decode(const nib_tokenizer *tok, const char *text, size_t n, nib_err *err)
{
    size_t cap = n / 2 + 1, n_out = 0;
    nib_ids ids = {.id = nib_alloc(cap, sizeof *ids.id), .cap = cap};
    char *out = NULL;
    if (!ids.id) return nib_fail_nomem(err, "token ids");
    nib_code rc = parse_ids(&ids, text, n, err);
    if (!rc) rc = nib_tokenizer_decode(tok, ids.id, ids.n, opt.no_special, &out, &n_out, err);
    if (!rc) fwrite(out, 1, n_out, stdout);
    nib_free(out);
    nib_ids_free(&ids);
    return rc;
}

static nib_code tokenize(const char *model, const char *path, nib_err *err)
{
    nib_source *src = NULL;
    nib_tokenizer *tok = NULL;
    char *text = NULL;
    size_t n;
    nib_code rc;

    if ((rc = nib_source_open(&src, model, err))) goto done;
    if ((rc = nib_tokenizer_open(&tok, src, err))) goto done;
    if (!path) path = NIB_TEXT_STDIN;
    rc = opt.decode ? nib_text_bytes(&text, &n, path, err)
                    : nib_text_read(&text, &n, path, opt.chat ? tok : NULL, err);
    if (rc) goto done;
    rc = opt.decode ? decode(tok, text, n, err) : encode(tok, text, n, err);
done:
    nib_free(text);
    nib_tokenizer_close(tok);
    nib_source_close(src);
    return rc;
}

static int run(const nib_opt_list *operands, const nib_ctx *ctx)
{
    nib_err err;
    (void)ctx;
    if (opt.decode && (opt.json || opt.ids || opt.parse_special || opt.chat))
        return nib_usage(&nib_cmd_tokenize, "--decode prints text: it takes no --%s",
                         opt.json   ? "json"
                         : opt.ids  ? "ids"
                         : opt.chat ? "chat"
                                    : "parse-special");
    const char *file = operands->n > 1 ? operands->v[1] : NULL;
    return tokenize(operands->v[0], file, &err) ? nib_report(&err) : NIB_EXIT_OK;
}

const nib_cmd nib_cmd_tokenize = {
    .name = "tokenize",
    .run = run,
    .summary = "turn text into tokens, or tokens into text",
    .operands = "MODEL",
    .min_operands = 1,
    .max_operands = 2,
    .usage = "MODEL [FILE]",
    .about = "Split a text (a file, or standard input) with a model's own tokenizer and print one "
             "token a line: its id and its text.",
    .example = "echo 'Once upon a time' | nibble tokenize data/tiny-llama --ids",
    .options = rows,
};
