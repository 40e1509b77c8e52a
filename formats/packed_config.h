/* SPDX-License-Identifier: MIT */
/* formats/packed_config.h - the configuration of a packed folder, which says how each layer is
 * packed.
 *
 * A layer goes by its name in the files, that of its weight without ".weight":
 * "model.layers.0.mlp.down_proj". */
#ifndef NIB_FORMATS_PACKED_CONFIG_H
#define NIB_FORMATS_PACKED_CONFIG_H

#include "base/json.h"
#include "base/regex.h"
#include "formats/packed_format.h"

/* The checkpoint format as users, and "quant_method", have it: "gptq". */
const char *nib_packing_method(nib_packing_kind kind);
bool nib_packing_knows(const char *method);
/* The file that held the configuration before it went into config.json; NULL: there was none. And
 * is it still to be written, for older readers? */
const char *nib_packed_config_file(nib_packing_kind kind);
bool nib_packed_config_twice(nib_packing_kind kind);

/* The next larger number of bits that layers can have in such a folder; 0: none. */
unsigned nib_packing_next_bits(nib_packing_kind kind, unsigned bits);
/* Why all its layers have the same bits and groups, in words; NULL: they need not. */
const char *nib_packing_uniform(nib_packing_kind kind);

/* ---- reading ---- */

enum { NIB_PACKING_RULES_MAX = 1 << 16 };

typedef enum {
    NIB_RULE_NAME,       /* of the layer with this name                                    */
    NIB_RULE_REGEX,      /* of layers whose name begins with what the expression describes */
    NIB_RULE_EMBEDDINGS, /* of the class of embeddings, by the names that these have      */
    NIB_RULE_LINEAR,     /* of the class of all others */
    NIB_RULE_ALL,
} nib_rule_kind;

typedef struct {
    nib_rule_kind kind;
    const char *text; /* borrowed */
    nib_regex *regex; /* of REGEX */
    bool packed;      /* false: the layer is left as it was */
    nib_packing format;
} nib_packing_rule;

/* Start with {0}. The first rule that speaks of a layer decides. */
typedef struct {
    nib_packing_rule *v; /* [n] */
    size_t n, cap;
} nib_packing_rules;

void nib_packing_rules_free(nib_packing_rules *r);
/* Add one after the others; `text` is borrowed, and says nothing from EMBEDDINGS on. f NULL: left
 * as it was. */
NIB_MUST_USE nib_code nib_packing_rules_add(nib_packing_rules *r, nib_rule_kind kind,
                                            const char *text, const nib_packing *f, nib_err *err);
/* How that layer is packed, borrowed; NULL: no rule says that it is. */
NIB_MUST_USE nib_code nib_packing_rules_find(const nib_packing **out, const nib_packing_rules *r,
                                             const char *layer, nib_err *err);

/* Read the object `quantization_config`, or that of the file of its own; the rules borrow from it
 * and are the caller's to free, after a failure too. NIB_EFORMAT names the key. Dtypes of scales
 * are the tensors' to say. */
NIB_MUST_USE nib_code nib_packed_config_read(nib_packing_rules *rules, const char *method,
                                             const nib_json *config, nib_err *err);

/* ---- writing ---- */

enum { NIB_FUSED_MAX = 3 };

/* Layers that are not packed as the others are: one, or all those that engines fuse into one. */
typedef struct {
    const char *parent;               /* "model.layers.0.self_attn."                 */
    const char *layer[NIB_FUSED_MAX]; /* [n] "q_proj" ...                            */
    size_t n;                         /* at least 1                                  */
    const char *fused;                /* "qkv_proj", what engines make of them; NULL */
    const nib_packing *format;        /* NULL: left as they were                     */
} nib_packing_exception;

/* What a configuration says beside the format. */
typedef struct {
    double damp; /* of the solver */
    bool true_sequential;
    bool kv_cache,
        kv_per_head;    /* the folder has scales for keys and values, for each head its own */
    const char *output; /* the output matrix's layer */
    /* How embedding and output matrix are packed, both the same where they are one; NULL: they are
     * not, as in all folders but compressed-tensors'. */
    const nib_packing *embedding, *head;
    const nib_packing_exception *exception; /* [n_exceptions] */
    size_t n_exceptions;
} nib_packing_note;

/* Write it into an empty object: f, the format of all other layers, and the note; false: no memory.
 */
NIB_MUST_USE bool nib_packed_config_write(nib_json *config, const nib_packing *f,
                                          const nib_packing_note *note);

#endif
