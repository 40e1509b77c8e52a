/* SPDX-License-Identifier: MIT */
/* infer/pretok_rules.c - the splitters that models use: data only.
 *
 * Expressions stand as the models' tokenizer.json files spell them, in the canonical form that
 * pretok.c brings equivalent spellings to. The order of rows matters twice: of rows with equal
 * steps the first with the wanted ignore_merges is chosen, and its first name is the one written.
 */
#include "infer/pretok.h"

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

const nib_pretok_rule nib_pretok_rules[] = {
    {.names = "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
     .step = {LLAMA3},
     .ignore_merges = true,
     .add_bos = true,
     .covers = true},
    {.names = "dbrx smaug-bpe glm4 chatglm-bpe", .step = {LLAMA3}, .covers = true},
    {.names = "qwen2", .step = {QWEN2}, .nfc = true, .covers = true},
    {.names = "deepseek-r1-qwen megrez stablelm2 hunyuan solar-open grok-2 kormo",
     .step = {QWEN2},
     .covers = true},
    {.names = "qwen35", .step = {QWEN35}, .nfc = true, .covers = true},
    {.names = "gpt-2 phi-2 mpt olmo jais exaone4 a.x-4.0 mellum modern-bert gigachat trillion "
              "granite-docling",
     .step = {GPT2},
     .covers = true},
    {.names = "smollm starcoder refact command-r codeshell exaone minerva-7b",
     .step = {"\\p{N}", GPT2}},
    {.names = "falcon", .step = {"[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"}},
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
    {.names = NULL},
};
