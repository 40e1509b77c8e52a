/* SPDX-License-Identifier: MIT */
/* run/plan/plan.h - everything that a quantization will do, decided before anything is written.
 *
 * A plan is pure data: what each tensor of the output is made from, its format and why, and what
 * the whole will need. Making one reads no weights and finds every mistake that can be known early.
 */
#ifndef NIB_RUN_PLAN_PLAN_H
#define NIB_RUN_PLAN_PLAN_H

#include "base/arena.h"
#include "base/ctx.h"
#include "calib/imatrix.h"
#include "infer/model.h"
#include "quant/codec_int.h"
#include "run/plan/file_type.h"
#include "run/plan/recipe.h"

/* Where the bytes of a tensor of the output come from. */
typedef enum {
    NIB_ACTION_ENCODE, /* the source's values, in the format of the output                       */
    NIB_ACTION_COPY,   /* the source's bytes as they are                                         */
    NIB_ACTION_STAGE,  /* made block by block; they wait in a file (formats/solved_file.h)       */
    NIB_ACTION_GENERATE, /* values that no tensor of the source holds */
} nib_action;

/* In which order the output has the source's rows. */
typedef struct {
    uint32_t head; /* rows of a head; 0: the source's                                */
    uint32_t n_head,
        n_head_kv; /* of a joint projection by groups of heads, which is taken apart; */
                   /* 0: pairs of a head's rows are put side by side, or back         */
    bool back;
} nib_row_order;

/* Row of the source that row r of the output is. */
static inline uint64_t nib_row_order_source(const nib_row_order *o, uint64_t r)
{
    if (!o->head) return r;
    if (o->n_head) return nib_joint_source_row(r, o->head, o->n_head, o->n_head_kv);
    return o->back ? nib_rope_paired_row(r, o->head) : nib_rope_source_row(r, o->head);
}

typedef struct {
    char name[NIB_PLAN_NAME_MAX + 1]; /* in the output                                     */
    const nib_tensor *src;            /* NULL: generated, from `values`                     */
    const float *values;              /* [cols], borrowed from the model                    */
    uint64_t rows, cols;              /* cols: contiguous                                   */
    const nib_codec *codec;           /* to be written in                                   */
    nib_action action;                /* where its bytes come from                          */
    bool fallback;                    /* a stand-in for a format whose blocks do not fit    */
    bool embedding_or_output;         /* embedding or output matrix                         */
    nib_row_order order;
    bool exact;   /* of convert: the values are the source's            */
    bool carried; /* staged, but not solved or rounded: run/write/write_carried.h */
    const uint32_t *row_from, *col_from; /* of carried ones: row (column) r is this one of the    */
                                         /* source, before `order`; NULL: the same              */
    const uint32_t *outer;   /* of carried ones: columns in the order of their groups; NULL      */
    nib_place place;         /* role and layer; none: a buffer that nobody reads   */
    nib_method method;       /* of a weight of the blocks                          */
    uint64_t solved_at;      /* staged: where in that file                         */
    nib_packed_parts layout; /* of folders: how it is packed; no parts: it is not  */
    nib_act_range range;     /* of its input, where the recipe has ranges          */
    const float *factor;     /* [matrices] what engines multiply beside the format: in GGUF a    */
                             /* tensor of its own, "X.scale", of folders here alone; NULL: none  */
    float *own_factor;       /* the same, where the run finds it: run/plan/own_factors.h; or NULL */
    bool is_factor;          /* that tensor, generated                             */
    char label[24];          /* the name of its number format, for codec->name    */
    const float *importance; /* [matrices][cols] or NULL                                     */
    uint64_t bytes;
    char reason[112];
} nib_plan_tensor;

/* Is it the matrix that ids are looked up in, or the one that makes the logits? */
static inline bool nib_plan_of_vocabulary(const nib_plan_tensor *t)
{
    return (t->place.role == NIB_ROLE_TOKEN_EMBD || t->place.role == NIB_ROLE_OUTPUT) &&
           !t->place.bias;
}

/* Of a stack of experts or heads, how many matrices lie one below the other; else 1. */
static inline size_t nib_plan_matrices(const nib_plan_tensor *t)
{
    const bool stack = (nib_role_is_expert(t->place.role) && t->place.expert == NIB_EXPERTS_ALL) ||
                       t->place.role == NIB_ROLE_ATTN_K_B || t->place.role == NIB_ROLE_ATTN_V_B;
    return stack && t->src ? (size_t)t->src->shape[0] : 1;
}

typedef struct {
    size_t tensors;
    uint64_t weights, bytes;
} nib_type_total;

/* Where in the plan the tensor of a place is. */
typedef struct {
    uint64_t key; /* of the place */
    size_t at;
} nib_plan_index;

typedef struct {
    const nib_model *model;         /* borrowed */
    nib_recipe recipe;              /* strings borrowed */
    const nib_file_type *file_type; /* NULL when a folder is written      */
    const char *label;              /* of what is written: "q4_k_m", "int4-g128" */
    char label_text[32];            /* it points here when a folder is written: do not move */
    nib_int_codec *group;           /* [n] folders: formats of the tensors, where packed */
    nib_plan_tensor *tensor;        /* [n] in the order of the file */
    nib_tensor *view; /* of weights that the file holds scaled, or under other names        */
    nib_arena memory; /* of names and orders */
    nib_gguf_tensor *record; /* [n] the same for the writer, names borrowed from `tensor` */
    size_t n;
    nib_plan_index *index; /* [n_index] by place */
    size_t n_index;
    nib_gguf_kvs *kvs;       /* the file's metadata */
    nib_output_files layout; /* paths and sizes of the files to be, of either format */
    float *importance;       /* storage */
    float *error; /* [n] relative error of each tensor, once it is written (run/write/measure.h); */
                  /* below 0: not known                                                          */

    nib_type_total by_type[NIB_TYPE_COUNT];
    uint64_t weights, bytes; /* all tensors */
    double bits_per_weight;
    double bits_per_weight_inner; /* without embedding and output matrix; 0 when nothing is left */
    uint64_t peak_memory;         /* of the process: so far, and what the run will add */
    uint64_t solved_bytes; /* of the tensors that wait in the side file (formats/solved_file.h) */
    uint64_t disk_free;    /* where the output goes; UINT64_MAX: unknown */
    size_t n_fallback;
    size_t n_solved;          /* tensors that the solver makes */
    size_t n_carried;         /* staged ones that are carried over */
    size_t n_rounded;         /* staged ones that no solver makes: run/write/write_rounded.h    */
    size_t n_with_importance; /* tensors encoded with importances */
    size_t n_without_importance; /* could have used them, but the file has no entry */
    bool requantized;            /* some tensor was quantized before */
    bool factors_found;          /* those of own_factor              */
} nib_plan;

/* Does the solver make this tensor? What else is staged is rounded or carried over afterwards. */
static inline bool nib_plan_solves(const nib_plan *p, const nib_plan_tensor *t)
{
    return p->n_solved && t->action == NIB_ACTION_STAGE && !t->carried &&
           !nib_plan_of_vocabulary(t);
}

/* imatrix may be NULL. Model, recipe strings and imatrix must outlive the plan. Odd but harmless
 * wishes are warned about on ctx->log. On failure *p is empty. */
NIB_MUST_USE nib_code nib_plan_make(nib_plan *p, const nib_recipe *recipe, const nib_model *model,
                                    const nib_imatrix *imatrix, const nib_ctx *ctx, nib_err *err);
/* Is there room on the disk for all that carrying it out needs at once, with so many bytes of
 * activations that do not stay in memory? */
NIB_MUST_USE nib_code nib_plan_room(const nib_plan *p, uint64_t spilled, nib_err *err);
void nib_plan_free(nib_plan *p);

/* The tensor of a place; NULL: there is none. For this the tensors are in order and indexed. */
const nib_plan_tensor *nib_plan_find(const nib_plan *p, nib_place at);
NIB_MUST_USE nib_code nib_plan_make_index(nib_plan *p, nib_err *err);
/* Matrix i of the nib_plan_matrices(t) of a tensor, as a tensor of its own. */
void nib_plan_matrix(nib_plan_tensor *out, const nib_plan *p, const nib_plan_tensor *t, size_t i);
/* One expert's weight as a tensor of its own, which of a GGUF file is a part of one; false: there
 * is none. */
bool nib_plan_expert(nib_plan_tensor *out, const nib_plan *p, nib_place at);

/* Sums over the tensors, whose bytes are known, and places in the side file. */
void nib_plan_add_up(nib_plan *p);

/* Is t a norm or a bias of a block, which the recipe's rescaling may divide? */
bool nib_plan_rescales(const nib_plan *p, const nib_plan_tensor *t);

/* Does the run find the ranges of inputs itself, on sample text? run/plan/plan_folder.c. */
bool nib_plan_measures_ranges(const nib_plan *p);

/* What makes a folder a model. */
#define NIB_FOLDER_MARK "config.json"

/* Can the folder be written? run/plan/plan_folder.c. */
NIB_MUST_USE nib_code nib_folder_check(const nib_plan *p, nib_err *err);

/* nib_plan_make() for folders, run/plan/plan_folder.c; called by it, and it cleans up. */
NIB_MUST_USE nib_code nib_plan_dir(nib_plan *p, const nib_imatrix *imatrix, const nib_ctx *ctx,
                                   nib_err *err);

/* nib_plan_make() for plain folders, run/plan/plan_plain.c; called by it, and it cleans up. */
NIB_MUST_USE nib_code nib_plan_plain(nib_plan *p, const nib_imatrix *imatrix, const nib_ctx *ctx,
                                     nib_err *err);

/* Put a folder's tensors into order: what is outside the blocks, then block by block, by name. */
void nib_plan_sort(nib_plan *p);
/* The layout of a folder's files: tensors in the order of the plan, their bytes known, no file
 * beyond the recipe's limit unless one tensor alone is; run/plan/plan_shards.c. */
NIB_MUST_USE nib_code nib_plan_shards(nib_plan *p, nib_err *err);

/* Give each tensor that is rounded with importances those of the matrix (NULL: none), and say how
 * many lack them; run/plan/plan_importance.c. NIB_EFORMAT: a matrix of another model. */
NIB_MUST_USE nib_code nib_plan_importances(nib_plan *p, const nib_imatrix *imatrix,
                                           const nib_ctx *ctx, nib_err *err);

/* The metadata of the output; run/write/gguf_metadata.c. From a Hugging Face folder: made from its
 * configuration and tokenizer; from GGUF: copied. Needs all of the plan but kvs and layout. */
NIB_MUST_USE nib_code nib_export_metadata(nib_gguf_kvs **out, const nib_plan *p,
                                          const nib_imatrix *imatrix, nib_err *err);

/* The plan as data for programs; NULL when memory is short. The caller frees it. */
nib_json *nib_plan_json(const nib_plan *p);

#endif
