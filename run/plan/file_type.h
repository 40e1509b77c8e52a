/* SPDX-License-Identifier: MIT */
/* run/plan/file_type.h - GGUF file types ("q4_k_m") and which tensor gets which number format in
 * them.
 *
 * A file type is a base format and rules that spend more bits where it pays: the output matrix, the
 * value projections, some layers' down projections. The rules are llama-quantize's, so that a file
 * of a given type is made of the same formats whoever wrote it. Pure functions of names and
 * hyper-parameters; the user's own wishes (overrides, --pure) are the plan's business. */
#ifndef NIB_RUN_PLAN_FILE_TYPE_H
#define NIB_RUN_PLAN_FILE_TYPE_H

#include "quant/codec.h"

typedef struct {
    const char *name;  /* "q4_k_m" */
    const char *alias; /* "q4_k"; NULL: none */
    uint32_t id;       /* general.file_type */
    nib_type base;     /* format of every tensor that no rule names */
    bool experts_only; /* and only experts; the rest is q8_0 */
} nib_file_type;

/* By name or alias, without regard to case. NIB_EINVAL lists the known ones. */
NIB_MUST_USE nib_code nib_file_type_find(const nib_file_type **out, const char *name, nib_err *err);
size_t nib_file_type_count(void);
const nib_file_type *nib_file_type_at(size_t i);

/* What the rules look at, and how far they have come. Zero the counters, fill the rest, then ask
 * for the tensors in the file's order. */
typedef struct {
    const nib_file_type *file_type;
    const char *arch;    /* "llama" */
    uint32_t n_layer;    /* block_count */
    uint32_t n_head;     /* of layer 0, as is the next */
    uint32_t n_head_kv;  /* 0: unknown */
    uint32_t n_expert;   /* 0: dense */
    bool has_output;     /* there is an output.weight; else the embedding serves as one */
    bool has_importance; /* an importance matrix with at least one entry was given */
    uint32_t n_attn_v;   /* how many tensors nib_file_type_counts_as_v() */
    uint32_t i_attn_v;   /* of these, answered so far */
    uint32_t i_ffn_down; /* down projections answered so far, and the others */
    uint32_t i_ffn_gate, i_ffn_up;
} nib_file_type_mix;

/* A value projection, or one fused with it. */
bool nib_file_type_counts_as_v(const char *name);

/* False for tensors that keep the format they have: vectors, norms, routers, position tables.
 * n_dims is without outermost dimensions of 1. */
bool nib_file_type_quantizable(const char *name, int n_dims);

/* Does this tensor serve as the output matrix? */
bool nib_file_type_is_output(const nib_file_type_mix *m, const char *name);
bool nib_file_type_is_embedding(const char *name);

/* Format of a quantizable tensor with rows of `cols` weights, by the rules alone. Advances the
 * counters. *why is a constant clause for the plan. */
nib_type nib_file_type_choose(nib_file_type_mix *m, const char *name, uint64_t cols,
                              const char **why);

/* `type` if rows of `cols` weights are whole blocks of it, else its stand-in with smaller blocks,
 * f16 as the last. NIB_TYPE_COUNT: there is no stand-in. */
nib_type nib_file_type_fit(nib_type type, uint64_t cols);

/* The next format with more bits, of the same family where there is one; q8_0 and the formats that
 * are not quantized stay as they are. */
nib_type nib_file_type_higher(nib_type type);

/* In files of this type that tensor is worthless without importances. */
bool nib_file_type_needs_importance(const nib_file_type_mix *m, const char *name, nib_type type);

#endif
