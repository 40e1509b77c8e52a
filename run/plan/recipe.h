/* SPDX-License-Identifier: MIT */
/* run/plan/recipe.h - what the user wants of a quantization: plain data, strings borrowed. */
#ifndef NIB_RUN_PLAN_RECIPE_H
#define NIB_RUN_PLAN_RECIPE_H

#include "calib/kv_ranges.h"
#include "calib/ranges.h"
#include "formats/packed_format.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of a tensor's name in a plan: folders have longer ones than GGUF files. */
enum { NIB_PLAN_NAME_MAX = 255 };

/* Which representable values the weights of the blocks take. */
typedef enum {
    NIB_METHOD_RTN,  /* the nearest, as the format's reference encoder has it */
    NIB_METHOD_GPTQ, /* those that keep the layers' outputs: run/solve/solve.h      */
    NIB_METHOD_HQQ,  /* the nearest, under parameters that quant/hqq.h fits         */
    NIB_METHOD_COUNT,
} nib_method;

/* What is done to a block before that: an exact rescaling of channels (run/solve/rescale.h). */
typedef enum {
    NIB_TRANSFORM_NONE,
    NIB_TRANSFORM_AWQ,
    NIB_TRANSFORM_SMOOTHQUANT,
} nib_transform;

typedef enum {
    NIB_FORMAT_GGUF,  /* a file for llama.cpp                                           */
    NIB_FORMAT_DIR,   /* a packed folder for Transformers, vLLM and others: run/write/write_folder.h
                       */
    NIB_FORMAT_PLAIN, /* a folder as models are published, not quantized: run/write/write_plain.h */
} nib_format;

typedef struct {
    nib_format format;
    /* Of a folder: the members below that are GGUF's must then be unset; scale_type is chosen for
     * each tensor. */
    nib_packing layout;
    const char *out;  /* file or folder to write; NULL: only plan                                */
    const char *type; /* file type, "q4_k_m"; NULL: q4_k_m; of a plain folder f32, f16 or bf16   */
    const char *const *overrides; /* [n_overrides] "REGEX:KEY=VALUE,...": run/plan/override.h    */
    const char *const *tensor_types; /* [n_tensor_types] "REGEX=TYPE": the same                */
    size_t n_overrides, n_tensor_types;
    const char *protect_blocks; /* "K" or "K:HOW": the same; NULL: none                         */
    /* Format of the output matrix and of the token embedding, of a compressed-tensors folder
     * "w8a16" and the like; NULL: as the file type has it, of a folder what it is. A folder where
     * the embedding serves as output matrix has two if one is named, or left, beside it. */
    const char *output_type, *embedding_type;
    const char *pre; /* GGUF's name of the pre-tokenizer; NULL: the one that fits                 */
    nib_method method;
    nib_transform transform;
    /* Of this model's inputs, borrowed, for a layout with NIB_ACT_TENSOR and without a transform;
     * NULL: the run measures them. */
    const nib_ranges *ranges;
    /* Of this model's keys and values, borrowed: scales of them go into a compressed-tensors
     * folder; NULL: none do. */
    const nib_kv_ranges *kv_ranges;
    nib_int_scales scales; /* of groups of less than 8 bits; folders                          */
    bool pure;             /* every tensor in the base format: no mix, no stand-ins        */
    bool leave_output;     /* the output matrix keeps the format it has                    */
    bool force;            /* an existing target is replaced                               */
    bool importances_come; /* the plan will be made anew, with importances                 */
    uint64_t split_max;    /* bytes of tensors in one file; 0: one file, of folders 5 GB   */
    /* Every tensor keeps its values, and the formats are those that hold them (run/plan/convert.h);
     * method and transform are then not looked at, and `type` is the format of the weights that are
     * quantized. */
    bool convert;
    bool requantize; /* of convert: what no format holds is rounded, which otherwise is an error */
    bool bits_given, group_given, sym_given; /* of convert: in layout; others are the source's */
    bool in_order; /* of convert: no index of columns, where the source has one                */
    /* What goes into the output about where it comes from; NULL: nothing. */
    struct nib_provenance *provenance;
} nib_recipe;

#endif
