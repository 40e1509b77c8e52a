/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_spm.c - a tokenizer from a SentencePiece model (tokenizer.model).
 *
 * The file is a protocol buffer, sentencepiece_model.proto: fields of a number and a wire type
 * (0 a varint, 1 eight bytes, 2 a length and bytes, 5 four bytes). What is not listed below is
 * passed over. Pieces have scores; merges are made of those as SentencePiece merges: the best piece
 * first (tokenizer_merges.c).
 *
 * Tests: tests/infer/test_tokenizer_golden.c. */
#include "infer/tokenizer_gguf.h"
#include "infer/tokenizer_hf.h"

enum { MODEL_UNIGRAM = 1, MODEL_BPE = 2 };

/* ---- the file ---- */

typedef struct {
    const unsigned char *p, *end;
    bool bad; /* something does not fit; what is read from then on is 0 */
} reader;

static uint64_t read_varint(reader *r)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (r->p == r->end) break;
        const unsigned char b = *r->p++;
        v |= (uint64_t)(b & 0x7F) << shift;
        if (!(b & 0x80)) return v;
    }
    r->bad = true;
    return 0;
}

/* A field: its number, and its value as a number or as bytes. */
typedef struct {
    uint64_t number, value;
    const unsigned char *p;
    size_t n;
} field;

/* The next field; false at the end, and where the rest is none. */
static bool next_field(reader *r, field *f)
{
    *f = (field){0};
    if (r->bad || r->p == r->end) return false;
    const uint64_t tag = read_varint(r);
    f->number = tag >> 3;
    const size_t left = (size_t)(r->end - r->p);
    switch (tag & 7) {
    case 0: f->value = read_varint(r); break;
    case 1: f->n = 8; break;
    case 5: f->n = 4; break;
    case 2: {
        const uint64_t n = read_varint(r);
        if (n > (size_t)(r->end - r->p)) r->bad = true;
        f->n = r->bad ? 0 : (size_t)n;
        break;
    }
    default: r->bad = true;
    }
    if (f->n > left || r->bad) {
        r->bad = true;
        return false;
    }
    f->p = r->p;
    r->p += f->n;
    return true;
}

typedef struct {
    uint64_t model_type;
    bool byte_fallback, suffix;
    int32_t unk, bos, eos, pad; /* -1: none */
    nib_str charsmap;
    bool dummy_prefix, remove_spaces;
} spec;

static int32_t to_id(uint64_t v)
{
    const int64_t id = (int64_t)v;
    return id >= 0 && id < NIB_VOCAB_MAX ? (int32_t)id : -1;
}

static void read_trainer(spec *s, reader *r)
{
    field f;
    while (next_field(r, &f)) switch (f.number) {
        case 3: s->model_type = f.value; break;
        case 24: s->suffix = f.value; break;
        case 35: s->byte_fallback = f.value; break;
        case 40: s->unk = to_id(f.value); break;
        case 41: s->bos = to_id(f.value); break;
        case 42: s->eos = to_id(f.value); break;
        case 43: s->pad = to_id(f.value); break;
        default: break;
        }
}

static void read_normalizer(spec *s, reader *r)
{
    field f;
    while (next_field(r, &f)) switch (f.number) {
        case 2: s->charsmap = (nib_str){(const char *)f.p, f.n}; break;
        case 3: s->dummy_prefix = f.value; break;
        case 4: s->remove_spaces = f.value; break;
        default: break;
        }
}

typedef struct {
    nib_str text;
    float score;
    uint64_t type;
} piece;

static piece read_piece(reader *r)
{
    piece x = {{"", 0}, 0, NIB_TOKEN_NORMAL};
    field f;
    while (next_field(r, &f)) {
        if (f.number == 1) x.text = (nib_str){(const char *)f.p, f.n};
        if (f.number == 2 && f.n == 4) memcpy(&x.score, f.p, 4);
        if (f.number == 3) x.type = f.value;
    }
    return x;
}

/* Calls `take` for each piece; fills in the specification. */
typedef nib_code piece_fn(void *arg, const piece *x, nib_err *err);

static nib_code read_model(spec *s, const void *data, size_t n, piece_fn *take, void *arg,
                           nib_err *err)
{
    reader r = {data, (const unsigned char *)data + n, false};
    field f;
    nib_code rc = NIB_OK;
    *s = (spec){.model_type = MODEL_UNIGRAM,
                .unk = 0,
                .bos = 1,
                .eos = 2,
                .pad = -1,
                .dummy_prefix = true,
                .remove_spaces = true};
    while (!rc && next_field(&r, &f)) {
        reader in = {f.p, f.p + f.n, false};
        if (f.number == 1) {
            const piece x = read_piece(&in);
            if (x.type < NIB_TOKEN_NORMAL || x.type > NIB_TOKEN_BYTE || x.score != x.score)
                rc = nib_fail(err, NIB_EFORMAT, "piece '%.*s' of type %llu with a score of %g",
                              nib_shown(x.text), x.text.p, (unsigned long long)x.type,
                              (double)x.score);
            else
                rc = take(arg, &x, err);
        } else if (f.number == 2) {
            read_trainer(s, &in);
        } else if (f.number == 3) {
            read_normalizer(s, &in);
        }
        r.bad = r.bad || in.bad;
    }
    if (!rc && r.bad) rc = nib_fail(err, NIB_EFORMAT, "not a SentencePiece model");
    return rc;
}

/* ---- the tokenizer ---- */

typedef struct {
    nib_token_list *l;
    uint64_t n;
} listing;

static nib_code list_piece(void *arg, const piece *x, nib_err *err)
{
    listing *to = arg;
    const uint64_t id = to->n++;
    char *copy = nib_arena_str(&to->l->arena, x->text.p, x->text.n); /* with a NUL behind */
    const bool added = x->text.n && (x->type == NIB_TOKEN_CONTROL || x->type == NIB_TOKEN_UNKNOWN ||
                                     x->type == NIB_TOKEN_USER);
    if (!copy) return nib_fail_nomem(err, "vocabulary");
    const nib_str text = {copy, x->text.n};
    nib_code rc = nib_list_put(to->l, text, id, (uint8_t)x->type, (double)x->score, err);
    if (rc || !added) return rc;
    return nib_list_add(to->l,
                        (nib_listed_added){.text = text,
                                           .id = id,
                                           .special = x->type != NIB_TOKEN_USER,
                                           .normalized = x->type == NIB_TOKEN_USER,
                                           .spelled = x->type == NIB_TOKEN_USER},
                        err);
}

/* Steps as SentencePiece has them. A newer Transformers puts the bar in front of the whole input
 * alone
 * ("legacy": false), where older ones did it behind each special token too. */
static nib_code set_steps(nib_tokenizer *t, const spec *s, const nib_json *config, nib_err *err)
{
    bool legacy = true, prefix = s->dummy_prefix;
    nib_json_bool(nib_json_get(config, "legacy"), &legacy);
    nib_json_bool(nib_json_get(config, "add_prefix_space"), &prefix);
    nib_gguf_words w = {.model = NIB_WORDS_T5,
                        .space_prefix = prefix,
                        .suffix = s->suffix,
                        .remove_spaces = s->remove_spaces,
                        .map = s->charsmap.n ? s->charsmap.p : NULL,
                        .n_map = s->charsmap.n};
    nib_code rc = nib_gguf_decoder(&t->decoder, &w, err);
    if (rc) return rc;
    if (legacy || !prefix || w.map || w.remove_spaces || w.suffix)
        return nib_gguf_normalizer(&t->normalizer, &w, err);
    static const char first[] =
        "{\"type\":\"Metaspace\",\"prepend_scheme\":\"first\",\"split\":false}";
    nib_json *j;
    if ((rc = nib_json_parse(&j, first, strlen(first), err))) return rc;
    rc = nib_splitter_read(&t->splitter, j, err);
    nib_json_free(j);
    return rc;
}

static nib_code make_bpe(nib_tokenizer *t, const spec *s, const nib_token_list *l, nib_err *err)
{
    nib_bpe b = {0};
    const nib_word_chars_opts opts = {.unk = t->special[NIB_UNK],
                                      .fuse_unk = true,
                                      .byte_fallback = s->byte_fallback,
                                      .by_score = true};
    float *score = nib_calloc(t->vocab.n, sizeof *score);
    if (!score) return nib_fail_nomem(err, "scores");
    for (size_t i = 0; i < t->vocab.n; i++) score[i] = (float)l->score[i];
    nib_code rc = nib_merges_from_scores(&t->vocab, &b, score, err);
    if (!rc) rc = nib_word_chars_new(&t->model, &t->vocab, &b, &opts, score, err);
    nib_bpe_fini(&b);
    nib_free(score);
    return rc;
}

static nib_code make_model(nib_tokenizer *t, const spec *s, const nib_token_list *l, nib_err *err)
{
    if (s->model_type == MODEL_BPE) return make_bpe(t, s, l, err);
    if (s->model_type == MODEL_UNIGRAM)
        return nib_word_unigram_new(&t->model, &t->vocab, l->score, t->special[NIB_UNK],
                                    s->byte_fallback, false, err);
    return nib_fail(err, NIB_EFORMAT,
                    "a SentencePiece model of type %llu; supported are 1, Unigram, and 2, BPE",
                    (unsigned long long)s->model_type);
}

static void set_special(nib_tokenizer *t, int which, int32_t id)
{
    if (id >= 0 && (size_t)id < t->vocab.n) t->special[which] = id;
}

static nib_code from_spm(nib_tokenizer *t, nib_token_list *l, const nib_source *src,
                         const void *data, size_t n, nib_err *err)
{
    spec s;
    listing to = {l, 0};
    nib_code rc = read_model(&s, data, n, list_piece, &to, err);
    if (!rc) rc = set_steps(t, &s, nib_source_json(src, "tokenizer_config.json"), err);
    if (!rc) rc = nib_list_vocab(t, l, src, err);
    if (rc) return rc;
    set_special(t, NIB_UNK, s.unk);
    set_special(t, NIB_BOS, s.bos);
    set_special(t, NIB_EOS, s.eos);
    set_special(t, NIB_PAD, s.pad);
    nib_list_specials(t, src);
    if ((rc = make_model(t, &s, l, err))) return rc;
    if ((rc = nib_list_set_added(t, l, err))) return rc;
    const bool bpe = s.model_type == MODEL_BPE;
    return nib_hf_around(t, src, NULL, bpe, !bpe, err);
}

nib_code nib_tokenizer_from_spm(nib_tokenizer *t, const nib_source *src, const void *data, size_t n,
                                nib_err *err)
{
    nib_token_list l = {0};
    nib_code rc = from_spm(t, &l, src, data, n, err);
    nib_list_fini(&l);
    return rc ? nib_wrap(err, "tokenizer.model") : NIB_OK;
}

/* ---- scores for a tokenizer.json ---- */

typedef struct {
    const nib_vocab *v;
    float *score;
    size_t n;
    bool same;
} comparison;

static nib_code compare_piece(void *arg, const piece *x, nib_err *err)
{
    comparison *c = arg;
    const size_t id = c->n++;
    (void)err;
    if (id >= c->v->n || c->v->text[id].n != x->text.n ||
        memcmp(c->v->text[id].p, x->text.p, x->text.n) != 0)
        c->same = false;
    else
        c->score[id] = x->score;
    return NIB_OK;
}

/* llama.cpp's converter gives this to added tokens. */
static const float ADDED_SCORE = -1000;

nib_code nib_spm_scores(const nib_vocab *v, const void *data, size_t n, float *score, bool *found,
                        nib_err *err)
{
    spec s;
    comparison c = {v, score, 0, true};
    for (size_t i = 0; i < v->n; i++) score[i] = ADDED_SCORE;
    nib_code rc = read_model(&s, data, n, compare_piece, &c, err);
    *found = !rc && c.same && c.n && s.model_type == MODEL_BPE;
    return rc;
}
