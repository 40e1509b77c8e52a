/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_pre.c - see tokenizer_pre.h: the table, and looking things up in it.
 *
 * Expressions stand as the models' tokenizer.json files spell them, in the canonical form that
 * canonical() brings equivalent spellings to. The order of rows matters twice: of rows with equal
 * steps the first with the wanted ignore_merges is chosen, and its first name is the one written.
 *
 * Tests: tests/infer/test_tokenizer_split.c. */
#include "infer/tokenizer_pre.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdio.h>
#include <string.h>

/* In a list: from here on the characters are bytes. */
#define BYTES "BYTES"

#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define PUNCT " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define BEFORE_WORD "[^\\r\\n\\p{L}\\p{N}]?"

#define LLAMA3 CONTRACTION "|" BEFORE_WORD "\\p{L}+|\\p{N}{1,3}|" PUNCT "|" SPACES
#define QWEN2 CONTRACTION "|" BEFORE_WORD "\\p{L}+|\\p{N}|" PUNCT "|" SPACES
#define QWEN35                                                                                     \
    CONTRACTION "|" BEFORE_WORD                                                                    \
                "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define CASED_WORDS(END) BEFORE_WORD UPPER "*" LOWER "+" END "|" BEFORE_WORD UPPER "+" LOWER "*" END
#define TEKKEN CASED_WORDS("") "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES
#define O200K CASED_WORDS(CONTRACTION "?") "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES
#define DEEPSEEK3                                                                                  \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?"           \
    "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" SPACES
#define BLOOM " ?[^(\\s|.,!?\u2026\u3002\uFF0C\u3001\u0964\u06D4\u060C)]+"
#define SEED_CODER CONTRACTION "|" BEFORE_WORD "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" SPACES
#define DIGITS_FROM_RIGHT "\\d{1,3}(?=(?:\\d{3})*\\b)"
#define YOUTU                                                                                      \
    "[\uAC00-\uD7A3\u3131-\u318E]+|["                                                              \
    "\uFF01\u2026\u201C\u201D\u2018\u2019\u2014\uFF1A\uFF1B\uFF0C\u3001-\u303F\uFE30-"             \
    "\uFE4F]+|[\u3105-\u312F]+|[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+"
#define YOUTU_WORDS CASED_WORDS(CONTRACTION "?") "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES
#define EXAONE_MOE                                                                                 \
    CONTRACTION                                                                                    \
        "|" BEFORE_WORD                                                                            \
        "(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|" SPACES
#define JAIS2                                                                                      \
    CONTRACTION "|" BEFORE_WORD "\\p{L}+|\\p{N}{1,3}|" PUNCT                                       \
                "|\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|"                  \
                "\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|"                      \
                "\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}"
#define NO_HAN "&&[^\\p{Han}]]"
#define UPPER_KIMI "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}" NO_HAN
#define LOWER_KIMI "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}" NO_HAN
#define KIMI                                                                                       \
    "[\\p{Han}]+|" BEFORE_WORD UPPER_KIMI "*" LOWER_KIMI "+" CONTRACTION                           \
    "?|" BEFORE_WORD UPPER_KIMI "+" LOWER_KIMI "*" CONTRACTION "?|\\p{N}{1,3}|" PUNCT "|" SPACES
#define FALCON_PUNCT "[\\p{P}$+<=>^~|`]+"
/* DeepSeek LLM lists the letters that have case, as Unicode had them then. */
#define DEEPSEEK_CASED                                                                             \
    "\\s?[A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-"    \
    "\u02AF\u0370-\u0373\u0376\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1"     \
    "\u03A3-\u03F5\u03F7-\u0481\u048A-\u052F\u0531-\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-\u13FD"  \
    "\u1C90-\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77\u1D79-\u1D9A\u1E00-\u1F15\u1F18-\u1F1D"  \
    "\u1F20-\u1F45\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-\u1F7D\u1F80-\u1FB4\u1FB6-"   \
    "\u1FBC\u1FBE\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB\u1FE0-\u1FEC\u1FF2-\u1FF4"   \
    "\u1FF6-\u1FFC\u2102\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128\u212A-\u212D"     \
    "\u212F-\u2134\u2139\u213C-\u213F\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B\u2C7E-\u2CE4"    \
    "\u2CEB-\u2CEE\u2CF2\u2CF3\uA640-\uA66D\uA680-\uA69B\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E"   \
    "\uAB70-\uABBF\uFB00-\uFB06\uFB13-\uFB17\uFF21-\uFF3A\uFF41-\uFF5A\U00010400-\U0001044F"       \
    "\U000104B0-\U000104D3\U000104D8-\U000104FB\U00010C80-\U00010CB2\U00010CC0-\U00010CF2"         \
    "\U000118A0-\U000118DF\U0001E900-\U0001E943]+"
#define DEEPSEEK_PUNCT "\\s?[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]+"
#define DEEPSEEK_CJK "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+"

const nib_pre_rule nib_pre_rules[] = {
    {.names = "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
     .step = {LLAMA3},
     .ignore_merges = true,
     .add_bos = true,
     .covers = true},
    {.names = "dbrx smaug-bpe glm4 chatglm-bpe", .step = {LLAMA3}, .covers = true},
    {.names = "qwen2", .step = {QWEN2}, .nfc = true, .covers = true},
    {.names =
         "deepseek-r1-qwen megrez stablelm2 hunyuan solar-open grok-2 kormo f2llmv2 bailingmoe "
         "bailingmoe2 llada-moe",
     .step = {QWEN2},
     .covers = true},
    {.names = "qwen35", .step = {QWEN35}, .nfc = true, .covers = true},
    {.names = "gpt-2 phi-2 mpt olmo jais exaone4 a.x-4.0 mellum modern-bert gigachat trillion "
              "granite-docling",
     .step = {GPT2},
     .covers = true},
    {.names = "smollm starcoder refact command-r codeshell exaone minerva-7b",
     .step = {"\\p{N}", GPT2}},
    /* Its files cut runs of numbers once more, and that as characters of the byte alphabet. */
    {.names = "falcon",
     .step = {FALCON_PUNCT, GPT2, "[0-9][0-9][0-9]"},
     .file = {FALCON_PUNCT, GPT2, BYTES, "\\p{N}+", "[0-9][0-9][0-9]"}},
    {.names = "default", .step = {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
    {.names = "tekken", .step = {TEKKEN}, .ignore_merges = true, .add_bos = true, .covers = true},
    {.names = "gpt-4o llama4 kanana2 minimax-m2", .step = {O200K}, .covers = true},
    /* The last step is the models' own; llama.cpp takes runs of digits, which gives the same ids
     * because their vocabularies have no token of two. */
    {.names = "deepseek-llm",
     .step = {"[\\r\\n]", DEEPSEEK_CASED, DEEPSEEK_PUNCT, "\\s+$", DEEPSEEK_CJK, "\\p{N}"}},
    {.names = "deepseek-coder",
     .step = {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", DEEPSEEK_CJK, "\\p{N}"}},
    {.names = "deepseek-v3 hunyuan-dense joyai-llm",
     .step = {"\\p{N}{1,3}", "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+", DEEPSEEK3}},
    {.names = "bloom gpt3-finnish poro-chat", .step = {BLOOM}},
    {.names = "viking", .step = {BLOOM, "\\p{N}"}},
    {.names = "seed-coder", .step = {SEED_CODER}, .covers = true},
    {.names = "tiny_aya", .step = {DIGITS_FROM_RIGHT, O200K}, .nfc = true},
    {.names = "youtu", .step = {YOUTU, YOUTU_WORDS}, .ignore_merges = true},
    {.names = "exaone-moe", .step = {EXAONE_MOE}, .covers = true},
    {.names = "superbpe", .step = {"\\p{N}+", "(?=(\\d{3})+(?!\\d))"}},
    {.names = "jais-2", .step = {JAIS2}, .covers = true},
    {.names = "kimi-k2", .step = {KIMI}, .covers = true},
    {.names = NULL},
};

/* ---- by name ---- */

static bool has_name(const char *names, const char *name, size_t n)
{
    while (*names) {
        size_t k = strcspn(names, " ");
        if (k == n && !memcmp(names, name, n)) return true;
        names += k + (names[k] == ' ');
    }
    return false;
}

nib_code nib_pre_by_name(const nib_pre_rule **out, const char *name, size_t n, nib_err *err)
{
    *out = NULL;
    for (const nib_pre_rule *r = nib_pre_rules; r->names; r++)
        if (n && has_name(r->names, name, n)) {
            *out = r;
            return NIB_OK;
        }
    char known[400];
    size_t at = 0;
    for (const nib_pre_rule *r = nib_pre_rules; r->names && at < sizeof known; r++)
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%.*s", at ? ", " : "",
                               (int)strcspn(r->names, " "), r->names);
    return nib_fail(err, NIB_EFORMAT, "pre-tokenizer '%.*s' is not known; known are %s",
                    (int)(n < 60 ? n : 60), name, known);
}

nib_code nib_pre_splitter(nib_splitter *s, const nib_pre_rule *rule, bool prefix_space,
                          nib_err *err)
{
    nib_code rc = prefix_space ? nib_splitter_add_space(s, err) : NIB_OK;
    for (size_t i = 0; i < NIB_PRE_STEPS_MAX && rule->step[i] && !rc; i++)
        rc = nib_splitter_add_regex(s, NIB_DIALECT_ONIGURUMA, rule->step[i], err);
    return rc ? rc : nib_splitter_add_bytes(s, err);
}

/* ---- by description ---- */

/* Spellings that mean the same in every splitter of the table. */
static const char *const SAME[][2] = {
    {"\r", "\\r"},
    {"\n", "\\n"},
    {" ?[^(\\s|[.,!?\u2026\u3002\uFF0C\u3001\u0964\u06D4\u060C])]+",
     BLOOM}, /* a class in a class */
    {"]?+", "]?"},
    {"]++", "]+"},
    {"}++", "}+"},
    {"\\p{N}{1}|", "\\p{N}|"},
    {"[\\r\\n]*+", "[\\r\\n]*"},
    {"\\s*[\\r\\n]|", "\\s*[\\r\\n]+|"},
    {"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])", "(?i:'s|'t|'re|'ve|'m|'ll|'d)"},
    {"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])", "(?i:'s|'t|'re|'ve|'m|'ll|'d)"},
    {"'(?i:[sdmt]|ll|ve|re)", "(?i:'s|'t|'re|'ve|'m|'ll|'d)"},
    {"'(?:[sdmt]|ll|ve|re)", "'s|'t|'re|'ve|'m|'ll|'d"},
};

/* `s` with every `from` replaced; the caller frees. */
static char *replace(const char *s, const char *from, const char *to)
{
    size_t n_from = strlen(from), n_to = strlen(to), n = strlen(s), hits = 0;
    for (const char *p = s; (p = strstr(p, from)); p += n_from) hits++;
    char *out = nib_alloc(n + hits * n_to + 1, 1), *q = out;
    if (!out) return NULL;
    for (const char *p; (p = strstr(s, from)); s = p + n_from) {
        memcpy(q, s, (size_t)(p - s));
        q += p - s;
        memcpy(q, to, n_to);
        q += n_to;
    }
    memcpy(q, s, strlen(s) + 1);
    return out;
}

/* Canonical spelling; the caller frees. A single white space that \s+(?!\S) leaves is a piece of
 * its own, whether the expression goes on with \s+, with \s, or leaves it as a gap. */
static char *canonical(const char *regex)
{
    char *s = nib_strdup(regex);
    for (size_t i = 0; s && i < sizeof SAME / sizeof *SAME; i++) {
        char *t = replace(s, SAME[i][0], SAME[i][1]);
        nib_free(s);
        s = t;
    }
    if (!s) return NULL;
    const char *more = nib_ends_with(s, "|\\s+(?!\\S)") ? "|\\s+"
                       : nib_ends_with(s, "|\\s")       ? "+"
                                                        : "";
    size_t n = strlen(s);
    char *t = nib_grow(s, n + 1, n + strlen(more) + 1, 1);
    if (!t) {
        nib_free(s);
        return NULL;
    }
    memcpy(t + n, more, strlen(more) + 1);
    return t;
}

/* The expressions of a splitter in canonical spelling, as the rules have them. */
typedef struct {
    char *step[NIB_SPLIT_STEPS_MAX];
    size_t n;
    bool matches_only; /* some step keeps its matches and drops the gaps */
    bool odd;          /* something that no rule has                     */
} listing;

static nib_code add_line(listing *l, char *text, nib_err *err)
{
    if (!text) return nib_fail_nomem(err, "pre-tokenizer");
    l->step[l->n++] = text;
    return NIB_OK;
}

static nib_code list_steps(listing *l, const nib_splitter *s, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < s->n && !rc; i++) {
        const nib_split_step *x = &s->step[i];
        if (x->kind == NIB_SPLIT_BYTES && i + 1 < s->n) rc = add_line(l, nib_strdup(BYTES), err);
        if (x->kind == NIB_SPLIT_METASPACE || (x->kind == NIB_SPLIT_SPACE && i)) l->odd = true;
        if (x->kind != NIB_SPLIT_AT) continue;
        /* A class of single characters whose matches join is a run of them. */
        const bool runs = x->behavior == NIB_BEHAVIOR_CONTIGUOUS && !x->invert &&
                          !strcmp(x->pattern, NIB_SPLIT_PUNCTUATION);
        if (x->behavior == NIB_BEHAVIOR_REMOVED && x->invert)
            l->matches_only = true;
        else if ((x->behavior != NIB_BEHAVIOR_ISOLATED || x->invert) && !runs)
            l->odd = true;
        if (x->dialect == NIB_DIALECT_LITERAL) l->odd = true;
        rc = add_line(l, runs ? nib_strdup(FALCON_PUNCT) : canonical(x->pattern), err);
    }
    if (!nib_splitter_has(s, NIB_SPLIT_BYTES)) l->odd = true;
    return rc;
}

static bool is_list(const listing *l, const char *const *step)
{
    for (size_t i = 0; i < l->n; i++)
        if (i == NIB_PRE_STEPS_MAX || !step[i] || strcmp(l->step[i], step[i])) return false;
    return l->n == NIB_PRE_STEPS_MAX || !step[l->n];
}

static bool is_rule(const listing *l, const nib_pre_rule *r)
{
    return !l->odd && (!l->matches_only || r->covers) && is_list(l, r->step);
}

static void free_list(listing *l)
{
    for (size_t i = 0; i < l->n; i++) nib_free(l->step[i]);
}

nib_code nib_pre_is(bool *same, const nib_pre_rule *rule, const nib_splitter *s, nib_err *err)
{
    listing l = {0};
    nib_code rc = list_steps(&l, s, err);
    *same = !rc && is_rule(&l, rule);
    free_list(&l);
    return rc;
}

nib_code nib_pre_of_splitter(const nib_pre_rule **out, const nib_splitter *s, bool ignore_merges,
                             nib_err *err)
{
    listing l = {0};
    nib_code rc = list_steps(&l, s, err);
    *out = NULL;
    for (const nib_pre_rule *r = nib_pre_rules; r->names && !rc; r++) {
        if (!is_rule(&l, r) && (l.odd || !r->file[0] || !is_list(&l, r->file))) continue;
        if (!*out || r->ignore_merges == ignore_merges) *out = r;
        if (r->ignore_merges == ignore_merges) break;
    }
    free_list(&l);
    return rc;
}

void nib_pre_describe(char *buf, size_t size, const nib_splitter *s)
{
    size_t at = 0;
    snprintf(buf, size, "not at all");
    for (size_t i = 0; i < s->n && at < size; i++)
        if (s->step[i].kind == NIB_SPLIT_AT && s->step[i].pattern)
            at +=
                (size_t)snprintf(buf + at, size - at, "%s'%s'", at ? ", " : "", s->step[i].pattern);
}
