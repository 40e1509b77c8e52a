/* SPDX-License-Identifier: MIT */
/* The rules of file types against what llama.cpp chose: tests/golden/gguf_mix. */
#include "run/plan/file_type.h"

#include "base/name.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { TENSORS_MAX = 16, LINE_MAX_BYTES = 2048 };

static const char *golden;

typedef struct {
    char name[64];
    unsigned cols, dims;
} tensor;

typedef struct {
    char name[64], arch[32];
    unsigned layers, heads, kv_heads, experts;
    tensor tensor[TENSORS_MAX]; /* by name */
    size_t n;
} model;

/* "IQ3_S" or "Q4_K[0-2],IQ3_S[3-23]". */
static bool type_at(char *type, const char *cell, unsigned layer)
{
    for (;;) {
        unsigned first = 0, last = UINT32_MAX;
        int n = 0;
        if (sscanf(cell, "%15[A-Z0-9_]%n", type, &n) != 1) return false;
        cell += n;
        if (sscanf(cell, "[%u-%u]%n", &first, &last, &n) == 2) cell += n;
        if (layer >= first && layer <= last) return true;
        if (*cell++ != ',') return false;
    }
}

/* The cell of a tensor in a plan's line: " attn_q=..." */
static const char *cell_of(const char *plan, const char *name)
{
    char key[80];
    const char *from = !strncmp(name, "blk.*.", 6) ? name + 6 : name;
    snprintf(key, sizeof key, " %.*s=", (int)(strlen(from) - strlen(".weight")), from);
    const char *at = strstr(plan, key);
    return at ? at + strlen(key) : NULL;
}

static void check_tensor(nib_file_type_mix *m, const model *c, const tensor *t, unsigned layer,
                         const char *plan)
{
    char full[96], want[16];
    const char *why, *cell = cell_of(plan, t->name), *star = strchr(t->name, '*');
    if (!cell) fail_msg("%s: no %s in '%s'", c->name, t->name, plan);
    assert_true(type_at(want, cell, layer));
    if (star)
        snprintf(full, sizeof full, "blk.%u%s", layer, star + 1);
    else
        snprintf(full, sizeof full, "%s", t->name);
    if (!nib_file_type_quantizable(full, (int)t->dims)) return;
    const nib_type type = nib_file_type_fit(nib_file_type_choose(m, full, t->cols, &why), t->cols);
    assert_true(type < NIB_TYPE_COUNT);
    if (!nib_name_same(nib_codec_get(type)->name, want))
        fail_msg("%s, %s%s: %s is %s (%s), llama.cpp has %s", c->name, m->file_type->name,
                 m->has_importance ? " with importances" : "", full, nib_codec_get(type)->name, why,
                 want);
}

static nib_file_type_mix mix_of(const model *c, const char *type)
{
    nib_err err = {0};
    char name[32];
    nib_file_type_mix m = {.arch = c->arch,
                           .n_layer = c->layers,
                           .n_head = c->heads,
                           .n_head_kv = c->kv_heads,
                           .n_expert = c->experts,
                           .has_importance = strchr(type, '+') != NULL};
    snprintf(name, sizeof name, "%.*s", (int)strcspn(type, "+"), type);
    for (size_t i = 0; i < c->n; i++) {
        if (nib_file_type_counts_as_v(c->tensor[i].name)) m.n_attn_v = c->layers;
        m.has_output |= !strcmp(c->tensor[i].name, "output.weight");
    }
    if (nib_file_type_find(&m.file_type, name, &err)) fail_msg("%s", err.msg);
    return m;
}

/* In the file's order: outside the blocks, then block by block. */
static void check_plan(const model *c, const char *type, unsigned id, const char *plan)
{
    nib_file_type_mix m = mix_of(c, type);
    assert_int_equal(m.file_type->id, id);
    for (size_t i = 0; i < c->n; i++)
        if (strncmp(c->tensor[i].name, "blk.", 4)) check_tensor(&m, c, &c->tensor[i], 0, plan);
    for (unsigned l = 0; l < c->layers; l++)
        for (size_t i = 0; i < c->n; i++)
            if (!strncmp(c->tensor[i].name, "blk.", 4)) check_tensor(&m, c, &c->tensor[i], l, plan);
}

/* Somebody's format in there cannot do without importances, or has no stand-in. */
static void check_refused(const model *c, const char *type, const char *why)
{
    bool wants = false, fits = true;
    if (strstr(why, "invalid output file type")) return; /* which we write */
    nib_file_type_mix m = mix_of(c, type);
    for (unsigned l = 0; l < c->layers; l++)
        for (size_t i = 0; i < c->n; i++) {
            char full[96];
            const char *star = strchr(c->tensor[i].name, '*'), *unused;
            if (!star) continue;
            snprintf(full, sizeof full, "blk.%u%s", l, star + 1);
            const nib_type t = nib_file_type_choose(&m, full, c->tensor[i].cols, &unused);
            const nib_type fit = nib_file_type_fit(t, c->tensor[i].cols);
            fits = fits && fit < NIB_TYPE_COUNT;
            wants =
                wants || (fit < NIB_TYPE_COUNT && nib_file_type_needs_importance(&m, full, fit));
        }
    if (strstr(why, "imatrix") ? !wants : fits) fail_msg("%s, %s: not refused", c->name, type);
}

static void as_llama_quantize_chooses(void **state)
{
    (void)state;
    char line[LINE_MAX_BYTES], type[32];
    model c = {.n = 0};
    size_t plans = 0, refused = 0;
    FILE *f = fopen(golden, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        unsigned id;
        int n;
        tensor t;
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "case", 4)) {
            c.n = 0;
            assert_int_equal(sscanf(line, "case %63s %31s %u %u %u %u", c.name, c.arch, &c.layers,
                                    &c.heads, &c.kv_heads, &c.experts),
                             6);
        } else if (sscanf(line, "tensor %63s %u %u", t.name, &t.cols, &t.dims) == 3) {
            assert_true(c.n < TENSORS_MAX);
            c.tensor[c.n++] = t;
        } else if (sscanf(line, "plan %31s %u%n", type, &id, &n) == 2) {
            check_plan(&c, type, id, line + n);
            plans++;
        } else if (sscanf(line, "refused %31s%n", type, &n) == 1) {
            check_refused(&c, type, line + n);
            refused++;
        } else {
            fail_msg("'%s'", line);
        }
    }
    fclose(f);
    assert_int_equal(plans, 438);
    assert_int_equal(refused, 50);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_llama_quantize_chooses)};
    if (argc < 2) return 1;
    golden = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
