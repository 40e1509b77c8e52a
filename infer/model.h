/* SPDX-License-Identifier: MIT */
/* infer/model.h - what a model is: architecture, hyper-parameters, and which tensor plays which
 * role.
 *
 * One table row per architecture (infer/arch.c) says what a block computes, step by step, and which
 * names Hugging Face and GGUF use. Everything else in the program speaks of roles and layers.
 * Adding an architecture is adding a row. */
#ifndef NIB_INFER_MODEL_H
#define NIB_INFER_MODEL_H

#include "base/arena.h"
#include "base/log.h"
#include "formats/gguf.h"
#include "formats/source.h"
#include "infer/step.h"

/* "attn_q"; not of NIB_ROLE_NONE. */
const char *nib_role_name(nib_role r);
/* Is its weight a matrix of a block? */
bool nib_role_is_linear(nib_role r);

/* A tensor's name without the prefix of its block and the ".weight" at the end. */
typedef struct {
    nib_role role;
    const char *stem;
} nib_role_stem;

/* A tensor of a checkpoint that holds several weights one below the other: all rows of the first
 * role's, then the second's; of roles of experts so for each expert, [expert][rows][columns]. Its
 * name may do without ".weight". */
typedef struct {
    const char *stem;
    nib_role role[3]; /* [n] */
    size_t n;
    bool by_input; /* stored [expert][columns][rows of all], not [expert][rows][columns] */
    bool mixed;    /* the roles take turns by rows: one of the first, one of the second  */
    bool bias;     /* it holds their biases, [expert][rows]                              */
} nib_fused;

/* A number of an architecture's own, above 0: its key in config.json, where null is none, and after
 * "{arch}." in GGUF metadata. */
typedef struct {
    size_t field; /* offset in nib_hparams, a float    */
    const char *hf, *gguf;
    float standard; /* where config.json lacks the key   */
    float none;     /* does nothing: null, and where GGUF lacks it */
} nib_arch_setting;

/* A whole number of an architecture's own, or one that others have under another key. */
typedef struct {
    size_t field;          /* offset in nib_hparams, a uint32_t                                   */
    const char *hf, *gguf; /* NULL: there is no key there                                         */
    uint32_t standard;     /* where the key is absent                                             */
    uint32_t max;
} nib_arch_number;

/* What goes between two linears. */
typedef enum {
    NIB_ACT_SILU,
    NIB_ACT_GELU_TANH,
    NIB_ACT_GELU,
    NIB_ACT_RELU,
    NIB_ACT_RELU_SQUARED,
    NIB_ACT_GELU_QUICK
} nib_activation;

/* How a router's scores become shares of experts. */
typedef enum {
    NIB_ROUTE_SOFTMAX,  /* softmax over all                                               */
    NIB_ROUTE_SELECTED, /* softmax over those that are chosen                             */
    NIB_ROUTE_SIGMOID,  /* sigmoid of each, plus a bias where they are chosen             */
    NIB_ROUTE_INPUT,    /* sigmoid of each, and it scales what the expert reads           */
} nib_routing;

/* Rows of one name or class differ by a condition. */
typedef enum { NIB_WHEN_ANY, NIB_WHEN, NIB_WHEN_NOT } nib_when;

typedef struct nib_arch {
    const char *name; /* GGUF's general.architecture: "llama", "qwen2", "qwen3"              */
    const char *hf_classes[8];     /* values of config.json's architectures[0]; NULL-terminated */
    const nib_role_stem *hf_stems; /* [n_hf_stems] of tensors with other names than most have     */
    size_t n_hf_stems;
    const char *hf_blocks; /* before a block's number; NULL: "model.layers"                       */
    bool rope_interleaved; /* GGUF's q/k rows are in adjacent-pair order (HF: half split)        */
    bool rope_adjacent;    /* they are so in both                                                 */
    float rope_part;       /* of a head, from its first column on, is turned; 0: all of it        */
    bool no_rope;          /* positions are not turned at all                                     */
    bool alibi;            /* scores fall with the distance                                       */
    uint32_t first_position; /* row of the first one among learned positions            */
    bool no_output_norm;     /* blocks end with a norm, so that there is none behind them */
    bool layer_norm;         /* norms take off the mean                                 */
    bool plain_norms;        /* norms have no weights                                   */
    bool qkv_by_head;        /* Hugging Face's joint q, k, v is so for each head        */
    bool hf_by_input;        /* Hugging Face's linears are stored [in][out]             */
    bool ff_of_width;        /* the feed-forward width is 4 times the width by default  */
    bool no_gguf;            /* llama.cpp does not know it                              */
    bool sliding_unscaled;   /* sliding layers turn without the scaling of the others   */
    bool text_part;          /* config.json has the text model's keys in "text_config"  */
    const char *text_type;   /* the row is for such a "model_type" of these; NULL: any   */
    const char *text_class;  /* and its windows are this class's                         */
    bool deepstack;          /* features of images go into so many blocks               */
    bool yarn_not_truncated; /* its rotation's corner pairs are no whole numbers        */
    bool sliding_turn;       /* sliding layers alone are turned                         */
    bool turns_windowless;   /* ... but all of a model without a window                  */
    bool rope_switch;        /* GGUF has a key that says that no layer is turned         */
    bool rope_alpha;         /* "alpha" of dynamic rotary scaling is a factor of the base */
    bool no_head_dim_key;    /* GGUF has no key for the size of a head                  */
    bool always_window_key;  /* GGUF has a window of 0 where there is none              */
    uint32_t chunk;          /* sliding layers see chunks, of so many tokens by default; those  */
                             /* that see all are tempered, and they alone. 0: no chunks         */
    bool scale_by_yarn;      /* scores also have the square of YaRN's magnitude         */
    bool unit_heads;         /* norms of heads without a weight, unless "use_qk_norm" is false  */
    nib_routing routing;
    bool routing_keys;    /* GGUF has keys for it                                                 */
    bool share_norm;      /* shares add up to 1, of configurations that do not say                */
    uint32_t n_shared;    /* experts that the shared one stands for, where there is no key for it */
    bool expert_ff_is_ff; /* an expert is as wide as "intermediate_size" says                     */
    bool writes_expert_ff; /* ... and GGUF says it twice */
    nib_when when; /* the row is for models of which this is so or not: ...                */
    const char *when_hf, *when_gguf; /* a key that is neither null, false nor 0; a tensor of GGUF */
    const char *when_not_1; /* and it is not so where this key of config.json is 1; or NULL      */
    bool when_standard; /* where the key is absent                                              */
    const nib_arch_number *numbers; /* [n_numbers] */
    size_t n_numbers;
    const char *hf_prefix[3][2]; /* first parts of names, and what stands for them */
    const char *hf_skip[4]; /* tensors of other parts of the model: their names begin so         */
    bool writes_rope_dim;   /* GGUF key rope.dimension_count, vocab_size                          */
    nib_activation act;     /* of gates; of configurations that do not say                        */
    bool norm_plus_one;     /* Hugging Face stores norms as what they differ from 1 by            */
    bool scaled_embd;       /* the embedding's rows are multiplied by the root of their width     */
    bool tied;              /* unless the configuration says otherwise                            */
    bool query_scale;       /* scores have a scale of their own (query_pre_attn_scalar)           */
    const nib_arch_setting *settings; /* [n_settings] */
    size_t n_settings;
    float norm_eps; /* of configurations that do not say; 0: they have to, or 1e-5 of norms     */
                    /* with a mean                                                             */
    uint32_t head_dim; /* the same; 0: the width's share of a head                           */
    float rope_base, rope_base_sliding; /* the same; 0: 10000, and the same for all layers       */
    uint32_t wide_layers; /* llama.cpp scales scores of a model of so many blocks by the root of */
                          /* the width's share of a head, not of the head's size                */
    const char *const *config_keys, *const
                                        *gguf_keys; /* further ones read for this alone, or NULL */
    uint32_t no_rope_interval; /* every such layer has no rotation, unless config.json says */
    /* otherwise, for which GGUF has no key; 0: all have one            */
    uint32_t sliding_period; /* GGUF: every such layer sees all, the others slide; 0: all slide  */
    const nib_fused *fused;  /* [n_fused] */
    size_t n_fused;
    bool experts;          /* blocks are mixtures of experts                                     */
    bool gguf_share_norm;  /* llama.cpp makes the shares of a token's experts add up to 1; it has */
                           /* no key for it                                                      */
    nib_steps block;       /* what a block computes                                              */
    nib_steps dense_block; /* with experts: of the blocks that have none                         */
    nib_steps linear_block, linear_dense_block; /* the same of layers of linear attention        */
    nib_steps other_act_block; /* in place of `block`, where the activation is not `act`          */
    bool tiled_heads; /* GGUF has value heads of linear attention by their number in a group      */
} nib_arch;

size_t nib_arch_count(void);
const nib_arch *nib_arch_at(size_t i);

typedef enum {
    NIB_ROPE_PLAIN,
    NIB_ROPE_LINEAR,
    NIB_ROPE_LLAMA3,
    NIB_ROPE_DYNAMIC,
    NIB_ROPE_YARN,
    NIB_ROPE_LONGROPE
} nib_rope_scaling;

/* Largest values taken from a file: far above any model, far below what would overflow. */
enum {
    NIB_EXPERTS_MAX = 1 << 12,
    NIB_LAYERS_MAX = 1 << 14,
    NIB_HEADS_MAX = 1 << 14,
    NIB_WIDTH_MAX = 1 << 24, /* any side of a matrix */
    NIB_ROPE_PAIRS_MAX = 512,
};

/* Epsilon of the norms of latent vectors, whatever that of the others is. */
#define NIB_LATENT_EPS 1e-6f

/* Llama 3's scaling of the rotary embedding. */
typedef struct {
    float factor, low_freq, high_freq;
    uint32_t n_ctx_orig;
} nib_rope_llama3;

/* YaRN's, and what the other kinds have in common with it. */
typedef struct {
    float beta_fast, beta_slow;
    bool not_truncated;
    float mscale, mscale_all; /* 0: not given                                   */
    float attn_factor;        /* of cosine and sine; 0: as the method has it     */
    uint32_t n_ctx_orig;
} nib_rope_yarn;

typedef struct {
    uint32_t n_layer, n_ctx_train, n_embd, n_ff;
    uint32_t n_embd_in; /* width of the embedding and of the output matrix */
    uint32_t n_head, n_head_kv, head_dim;
    uint32_t value_dim; /* of a head's values                                          */
    uint32_t q_rank;    /* of latent queries; 0: there are none                        */
    uint32_t kv_rank;   /* of latent keys and values; 0: none. With them the last      */
                        /* columns of a head are turned, which all keys have in common */
    uint32_t key_dim;   /* of a head of these, without what is turned                  */
    uint32_t n_lin_k, n_lin_v, lin_k_dim, lin_v_dim; /* heads of linear attention, and their size */
    uint32_t lin_taps;                               /* of the convolution                        */
    uint32_t lin_inner;                              /* width of its output                       */
    uint32_t full_interval; /* GGUF: every such layer sees all; others are of linear attention    */
    bool rope_halves;       /* HF: its pairs are halves, of a class that has them adjacent */
    uint32_t n_vocab;       /* rows of the embedding */
    float norm_eps;
    float rope_base;
    nib_rope_scaling rope_scaling;
    float rope_factor; /* linear */
    nib_rope_llama3 llama3;
    nib_rope_yarn yarn;
    uint32_t rope_dim; /* columns of a head that are turned                        */
    float rope_long[NIB_ROPE_PAIRS_MAX], rope_short[NIB_ROPE_PAIRS_MAX]; /* longrope's divisors */
    int32_t sections[4]; /* pairs that turn by time, height, width of an image: equal in text */
    uint32_t n_deepstack;
    float temper, temper_floor; /* TEMPER: queries times 1 + temper ln(1 + floor(p / floor))    */
    uint32_t temper_length;     /* the floor, where it has a key of its own; p counts from 1    */
    bool chunked;               /* a window is a chunk: tokens see their own, from its first on */
    bool unit_heads;            /* HEAD_NORM without a weight does something, in turned layers  */
    bool layer_norm;
    bool alibi;          /* scores fall with the distance                                        */
    bool alibi_rounded;  /* ... by numbers rounded to bf16, and they are scaled as scores are    */
    float clip_qkv;      /* queries, keys and values are from minus this to it; 0: as they are   */
    bool scale_by_layer; /* the scale of scores is divided by the layer's number, from 1 on      */
    uint32_t n_ff_shared, n_shared; /* width of the shared expert; experts that it stands for   */
    uint32_t n_group, n_group_used; /* groups of experts, and those that count for a token      */
    float share_scale;              /* of the shares of experts                                 */
    uint32_t n_dense_first;         /* so many blocks have no experts                           */
    uint32_t n_next;                /* blocks behind the last that propose further tokens       */
    uint32_t n_expert_step;         /* every such block has, the others have not; 0: no rule    */
    nib_routing routing;
    float rope_base_sliding;   /* of sliding layers, unscaled there; 0: they turn as others do */
    float rope_factor_sliding; /* ... or their positions are divided by it; 0: they are not    */
    bool no_output_norm;       /* the norm behind the blocks is left out                       */
    nib_activation act;
    float embd_scale;     /* of the embedding's rows; 1: none                             */
    float attn_scale;     /* of scores                                                    */
    float residual_scale; /* of what an ADD step puts to the residual stream              */
    float logit_divisor;  /* of logits                                                    */
    float logit_scale;    /* and a factor of them                                         */
    float attn_softcap, logit_softcap; /* c tanh(x / c); 0: none                         */
    bool tied;                         /* no output matrix of its own                          */
    bool head_dim_given; /* the configuration states it, rather than n_embd / n_head */
    uint32_t window;     /* tokens that a sliding layer's queries see, the own included; 0: none */
    uint8_t sliding[NIB_LAYERS_MAX / 8]; /* one bit a layer: does it slide? */
    uint8_t no_rope[NIB_LAYERS_MAX / 8]; /* one bit a layer: has it no rotation? */
    uint8_t dense[NIB_LAYERS_MAX / 8];   /* one bit a layer: has it no experts, where others do? */
    uint8_t linear[NIB_LAYERS_MAX / 8];  /* one bit a layer: is its attention linear?            */
    uint32_t n_expert, n_expert_used;    /* of a block, and for a token; 0: no experts           */
    uint32_t n_ff_expert;                /* width inside an expert                               */
    bool share_norm;                     /* the shares of a token's experts add up to 1 */
} nib_hparams;

/* Tokens that a query of this layer sees at most, its own included; 0: all before it. */
static inline uint32_t nib_layer_window(const nib_hparams *hp, uint32_t layer)
{
    return hp->sliding[layer / 8] >> layer % 8 & 1 ? hp->window : 0;
}

static inline bool nib_layer_turns(const nib_hparams *hp, uint32_t layer)
{
    return !(hp->no_rope[layer / 8] >> layer % 8 & 1);
}

static inline bool nib_layer_is_linear(const nib_hparams *hp, uint32_t layer)
{
    return hp->linear[layer / 8] >> layer % 8 & 1;
}

static inline bool nib_layer_is_dense(const nib_hparams *hp, uint32_t layer)
{
    return !hp->n_expert || hp->dense[layer / 8] >> layer % 8 & 1;
}

/* What a tensor is. */
typedef struct {
    uint32_t layer;
    nib_role role;
    uint32_t expert; /* of roles of experts: which one, or NIB_EXPERTS_ALL; else 0 */
    bool bias;
} nib_place;

#define NIB_EXPERTS_ALL UINT32_MAX /* the weights of all experts, one below the other */

/* A weight and its optional bias. */
typedef struct {
    const nib_tensor *weight, *bias; /* NULL: not there */
    const nib_tensor *gguf;          /* the weight as GGUF has it, where that is another; NULL */
    nib_tensor *expert; /* [n_expert] parts of a weight that each expert has a part in */
} nib_param;

/* A tensor as the model reads it: of a Hugging Face folder each expert's weight for itself. */
typedef struct {
    nib_place place;
    const nib_tensor *tensor;
} nib_placed;

typedef struct {
    const nib_source *src; /* borrowed: outlives the model */
    const nib_arch *arch;
    nib_hparams hp;
    bool rope_interleaved; /* of the weights in this source */
    bool qkv_by_head;      /* the same                      */
    bool tiled_heads;      /* the same                      */
    float *rope_factors;   /* [rope_dim/2] divisors of the angles, owned; NULL = all 1. From llama3
                              scaling in the configuration or from GGUF's rope_freqs; linear
                              scaling is apart from them */
    nib_arena memory;      /* of views of parts of tensors, and their names                       */
    nib_placed *placed;    /* [n_placed] in the order of the source                               */
    size_t n_placed, room;
    nib_param global[NIB_ROLE_COUNT]; /* by role, global ones */
    nib_param *block;                 /* [n_layer * NIB_ROLE_COUNT], by layer and role */
    bool head_differs; /* tied by its configuration, but with an output matrix of other values, */
                       /* which is the one that is used                                         */
    bool has_next_blocks;  /* blocks behind the last one, which nobody runs      */
    bool has_cache_scales; /* scales of an 8-bit key/value cache, which nobody reads */
} nib_model;

/* Hyper-parameters and architecture alone, from config.json or GGUF metadata; all but n_vocab of a
 * GGUF, which is the embedding's rows. Part of nib_model_open. */
NIB_MUST_USE nib_code nib_config_read(nib_hparams *hp, const nib_arch **arch, const nib_source *src,
                                      nib_err *err);

/* Warn of each key of a config.json that is in no list of known ones and is neither null, false nor
 * empty. Those that sound as if a model computed with them are errors of nib_config_read. */
void nib_config_warn_unknown(const nib_source *src, nib_log *log);

/* The scale of scores that llama.cpp takes: where GGUF has no key for it, it may be another. */
float nib_usual_attn_scale(const nib_hparams *hp, const nib_arch *a);

/* Read the configuration, find every tensor, check every shape. Errors name the key or tensor, what
 * was expected and found; an unknown architecture error lists the known ones. Tensors that no role
 * takes are an error too, but for the known harmless ones (rotary_emb.inv_freq and the like). */
NIB_MUST_USE nib_code nib_model_open(nib_model *m, const nib_source *src, nib_err *err);
void nib_model_close(nib_model *m); /* the source stays open */

static inline const nib_param *nib_model_param(const nib_model *m, uint32_t layer, nib_role r)
{
    return r < NIB_ROLE_FIRST_BLOCK ? &m->global[r] : &m->block[(size_t)layer * NIB_ROLE_COUNT + r];
}

/* The architecture's list of steps that uses the weight; NULL: none does. */
const nib_steps *nib_arch_steps_of(const nib_arch *a, nib_role r);
/* What block `layer` computes. */
const nib_steps *nib_model_steps(const nib_model *m, uint32_t layer);
/* Values of a row of each register. */
void nib_model_widths(size_t width[NIB_REG_COUNT], const nib_hparams *hp);

/* Is it the weight of a norm that Hugging Face's class stores as what it differs from 1 by? */
bool nib_model_adds_one(const nib_model *m, nib_place p);

/* Does llama.cpp multiply what this weight makes by a factor in a tensor beside it (since spring
 * 2026)? It loads factors of other architectures, too, and computes without them. */
bool nib_gguf_has_factor(const nib_arch *a, nib_role r);

/* The tensor of a place, as the model reads it; NULL: there is none. */
static inline const nib_tensor *nib_model_tensor(const nib_model *m, nib_place p)
{
    const nib_param *at = nib_model_param(m, p.layer, p.role);
    if (nib_role_is_expert(p.role) && p.expert != NIB_EXPERTS_ALL)
        return at->expert && !p.bias ? &at->expert[p.expert] : NULL;
    return p.bias ? at->bias : at->weight;
}

/* How the inputs of its linear layers are rounded, in words: "int8 per token", "int8 per tensor" or
 * "int8 per token and tensor"; "f32": they are not. */
const char *nib_model_activations(const nib_model *m);

/* Role of a tensor; false, and an empty place, when no role takes it. */
bool nib_model_place(const nib_model *m, const nib_tensor *t, nib_place *out);
/* The same from a name alone, as checkpoints of an architecture have it (NULL: GGUF's), in the
 * letter of the tables: the layer may be beyond the model's. */
bool nib_place_parse(const char *name, const nib_arch *hf, nib_place *out);
/* The number of the block that a tensor's name says it is of; UINT32_MAX: it says none. */
uint32_t nib_block_of_name(const char *name, const nib_arch *hf);
/* Have its tensors a number in their names, as checkpoints of the architecture have them? */
bool nib_role_is_numbered(const nib_arch *hf, nib_role r);
/* Of a name in a folder: which weights the tensor holds, and the first one's place; NULL: it is not
 * a fused one. */
const nib_fused *nib_place_fused(const nib_arch *a, const char *name, nib_place *first);
/* GGUF name of a place that is not empty: "blk.3.attn_q.weight" into buf (at least 64 bytes). */
void nib_place_gguf_name(nib_place p, char *buf, size_t n);
/* HF name: "model.layers.3.self_attn.q_proj.weight". */
void nib_place_hf_name(const nib_arch *a, nib_place p, char *buf, size_t n);

/* The architecture keys ({arch}.block_count ...) and general.architecture of a GGUF file. */
NIB_MUST_USE nib_code nib_model_to_gguf(const nib_model *m, nib_gguf_kvs *kvs, nib_err *err);

/* The members of a config.json that describe the model, into an object: those of the class that
 * computes the same as its GGUF architecture. NIB_EFORMAT: it has none. infer/config_hf.c. */
NIB_MUST_USE nib_code nib_model_to_hf(const nib_model *m, nib_json *cfg, nib_err *err);

/* Pair i turns by so much from one position to the next, in contexts of n_ctx tokens. `divisor`:
 * [rope_dim / 2], or NULL. Cosine and sine are multiplied by *magnitude. infer/rope.c. */
double nib_rope_step(const nib_hparams *hp, const float *divisor, uint32_t i, size_t n_ctx,
                     double *magnitude);
double nib_rope_magnitude(const nib_hparams *hp);
/* YaRN's, of a factor. */
double nib_yarn_magnitude(double factor, double mscale);

/* Llama 3's divisors of the rotation angles by hp->llama3 into out[rope_dim / 2]. */
void nib_llama3_factors(const nib_hparams *hp, float *out);

/* Where row `row` of a q or k projection (n_head heads) in GGUF's adjacent-pair order comes from in
 * the half-split order: head*D + 2j+s <- head*D + s*D/2 + j. */
uint64_t nib_rope_source_row(uint64_t row, uint32_t head_dim);
/* And the other way round: where a row in half-split order comes from in pair order. */
uint64_t nib_rope_paired_row(uint64_t row, uint32_t head_dim);
/* Where row `row` of a joint projection in GGUF's order, all queries, all keys, all values, comes
 * from in that by groups of a key and value head: its queries, the key, the value. */
uint64_t nib_joint_source_row(uint64_t row, uint32_t head_dim, uint32_t n_head, uint32_t n_head_kv);

#endif
