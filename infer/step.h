/* SPDX-License-Identifier: MIT */
/* infer/step.h - a transformer block as data: a list of coarse steps over named buffers.
 *
 * A step is one kernel call. What the rest of the program wants to know of a block is derived from
 * its list and written nowhere else: which linear layers read the same input, what can absorb the
 * inverse of a scale of its channels, which rows the rotation pairs, what shape a weight has, and
 * what must be there. Lists of architectures: infer/arch.c. */
#ifndef NIB_INFER_STEP_H
#define NIB_INFER_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a tensor is for. Roles of experts come last. */
typedef enum {
    NIB_ROLE_NONE, /* 0, so that a zeroed place is none */
    /* once per model */
    NIB_ROLE_TOKEN_EMBD,
    NIB_ROLE_POS_EMBD,  /* learned positions, added to the embedding */
    NIB_ROLE_EMBD_NORM, /* of the embedding                          */
    NIB_ROLE_EMBD_IN,   /* from the embedding's width to the model's, and ... */
    NIB_ROLE_EMBD_OUT,  /* ... back again, before the output matrix           */
    NIB_ROLE_OUTPUT_NORM,
    NIB_ROLE_OUTPUT,     /* absent when tied: the embedding serves */
    NIB_ROLE_ROPE_FREQS, /* GGUF only: divisors of the rotation angles */
    NIB_ROLE_ROPE_LONG,  /* the same for contexts longer than the original one, ... */
    NIB_ROLE_ROPE_SHORT, /* ... and for others                                      */
    /* once per block */
    NIB_ROLE_ATTN_NORM,
    NIB_ROLE_ATTN_NORM_2, /* of attention alone, where ATTN_NORM is the other branch's */
    NIB_ROLE_ATTN_Q,
    NIB_ROLE_ATTN_K,
    NIB_ROLE_ATTN_V,
    NIB_ROLE_ATTN_QKV,  /* all three as one linear */
    NIB_ROLE_ATTN_GATE, /* how much of linear attention's output is taken, of each channel        */
    NIB_ROLE_SSM_IN,    /* HF only: that and queries, keys and values, by key heads               */
    NIB_ROLE_SSM_BA,    /* HF has beta and alpha as one, by key heads                             */
    NIB_ROLE_SSM_BETA,  /* how much a token changes the state                                     */
    NIB_ROLE_SSM_ALPHA, /* how much of the state stays                                            */
    NIB_ROLE_SSM_CONV,
    NIB_ROLE_SSM_DT,
    NIB_ROLE_SSM_A,
    NIB_ROLE_SSM_NORM,
    NIB_ROLE_SSM_OUT,
    NIB_ROLE_ATTN_Q_A, /* into a latent vector of queries, and ... */
    NIB_ROLE_ATTN_Q_A_NORM,
    NIB_ROLE_ATTN_Q_B,  /* ... out of it                                                  */
    NIB_ROLE_ATTN_KV_A, /* into one of keys and values, and what is turned of all keys ... */
    NIB_ROLE_ATTN_KV_A_NORM,
    NIB_ROLE_ATTN_KV_B, /* ... and out of it: for each head its key, its value             */
    NIB_ROLE_ATTN_K_B,  /* GGUF only: of that the keys, [head][latent][key], and ...       */
    NIB_ROLE_ATTN_V_B,  /* ... the values, [head][value][latent]                           */
    NIB_ROLE_ATTN_Q_NORM,
    NIB_ROLE_ATTN_K_NORM,
    NIB_ROLE_ATTN_SINKS, /* a score for each head that no key has */
    NIB_ROLE_ATTN_OUTPUT,
    NIB_ROLE_ATTN_POST_NORM,
    NIB_ROLE_FFN_NORM,
    NIB_ROLE_FFN_GATE,
    NIB_ROLE_FFN_UP,
    NIB_ROLE_FFN_DOWN,
    NIB_ROLE_FFN_POST_NORM,
    NIB_ROLE_FFN_ROUTER,
    NIB_ROLE_FFN_ROUTER_BIAS, /* added to scores while experts are chosen     */
    NIB_ROLE_FFN_SHARED_GATE, /* how much of the shared expert a token takes  */
    NIB_ROLE_FFN_GATE_SHEXP,  /* of the expert that all tokens go to          */
    NIB_ROLE_FFN_UP_SHEXP,
    NIB_ROLE_FFN_DOWN_SHEXP,
    /* once per expert */
    NIB_ROLE_FFN_GATE_EXPS,
    NIB_ROLE_FFN_UP_EXPS,
    NIB_ROLE_FFN_DOWN_EXPS,
    NIB_ROLE_COUNT,
    NIB_ROLE_FIRST = NIB_ROLE_TOKEN_EMBD,
    NIB_ROLE_FIRST_BLOCK = NIB_ROLE_ATTN_NORM,
    NIB_ROLE_FIRST_EXPERT = NIB_ROLE_FFN_GATE_EXPS,
} nib_role;

typedef enum {
    NIB_OP_NORM,      /* to = norm of a, times the weight (+ bias)                              */
    NIB_OP_LINEAR,    /* to = W a (+ bias), or to += it                                         */
    NIB_OP_PART,      /* to = the columns of a joint register `a` that are this one's           */
    NIB_OP_KEYS,      /* to = of each head its key in `a`, then b                               */
    NIB_OP_HEAD_NORM, /* norm of each head of `to`, in place; without a weight where the model  */
                      /* has unit_heads, and in layers that are turned                          */
    NIB_OP_ROPE,      /* each head of `to` is turned by its position, in place                  */
    NIB_OP_CLIP,      /* to = to between -c and c, in place: clip_qkv                           */
    NIB_OP_TEMPER,    /* queries `to` are scaled by their position, in place                    */
    NIB_OP_ATTEND,    /* to = attention of the queries `a` over NIB_REG_K and NIB_REG_V; the    */
                      /* weight, if any, is the sinks                                           */
    NIB_OP_CONVOLVE,  /* to = silu of its convolution with the tokens before, in place          */
    NIB_OP_STEP_SIZE, /* to = log(1 + exp(to + the weight)), in place                           */
    NIB_OP_DECAY,     /* to = exp(the weight times to), in place                                */
    NIB_OP_DELTA,     /* to = linear attention of what is in `a`, by the gated delta rule, with */
                      /* beta in b and the decay in NIB_REG_LA                                  */
    NIB_OP_GLU,       /* to = act(a) * b                                                        */
    NIB_OP_GLU_CLAMP, /* to = a' sigmoid(1.702 a') (b' + 1), a' at most 7, b' from -7 to 7      */
    NIB_OP_ACT,       /* to = act(a)                                                            */
    NIB_OP_RELU,      /* to = max(a, 0)                                                         */
    NIB_OP_SIGMOID,   /* to = a sigmoid(b), b a value for the row or for each column            */
    NIB_OP_ADD,       /* to = a + b, b scaled where the model scales its branches                */
    NIB_OP_ROUTE,     /* of the scores in `to`, which experts each token goes to and how much of */
                      /* their outputs it takes; `to` is used up                                 */
    NIB_OP_MIX,       /* the last step of an expert: to += the token's share of its output a     */
} nib_op;

/* The buffers of a block, a row for each token. */
typedef enum {
    NIB_REG_X,   /* the residual stream: the block's input and output    [n_embd]             */
    NIB_REG_H,   /* what a norm made of it                               [n_embd]             */
    NIB_REG_F,   /* the same, where the feed-forward layer has another   [n_embd]             */
    NIB_REG_Q,   /* queries, and what attention makes of them            [n_head][head_dim]   */
    NIB_REG_K,   /*                                                      [n_head_kv][head_dim] */
    NIB_REG_V,   /*                                                    [n_head_kv][value_dim] */
    NIB_REG_QKV, /* all three                                                               */
    NIB_REG_QG,  /* of each head its query, its gate                     [n_head][2 head_dim] */
    NIB_REG_AG,  /* gates of what attention makes of queries                                */
    NIB_REG_LI,  /* linear attention: all that is made of its input by key heads            */
    NIB_REG_L,   /* queries, keys, values                               [channels]           */
    NIB_REG_LZ,  /* gates of its output, and the gated output           [n_lin_v][lin_v_dim] */
    NIB_REG_LBA, /* beta and alpha by key heads                                              */
    NIB_REG_LB,  /* beta                                                 [n_lin_v]            */
    NIB_REG_LA,  /* alpha, and the decay that it becomes                 [n_lin_v]            */
    NIB_REG_LO,  /* its output                                          [n_lin_v][lin_v_dim] */
    NIB_REG_QA,  /* latent queries                                       [q_rank]             */
    NIB_REG_KVA, /* latent keys and values, and what is turned of keys   [kv_rank + rope_dim] */
    NIB_REG_C,   /* ... the first of these                               [kv_rank]            */
    NIB_REG_P,   /* ... and the second                                   [rope_dim]           */
    NIB_REG_KV,  /* of each head its key without what is turned, its value                    */
    NIB_REG_O,   /* what attention makes of queries, where values have another size           */
    NIB_REG_G,   /* gate, and the gated product                          [n_ff]               */
    NIB_REG_U,   /* up                                                   [n_ff]               */
    NIB_REG_GU,  /* both                                                                      */
    NIB_REG_Y,   /* what a branch will add to the residual stream        [n_embd]             */
    NIB_REG_R,   /* scores of the experts                                [n_expert]           */
    NIB_REG_SG,  /* gate and gated product of the shared expert          [n_ff_shared]        */
    NIB_REG_SU,  /* up of the shared expert                              [n_ff_shared]        */
    NIB_REG_S,   /* how much of the shared expert a token takes          [1]                  */
    NIB_REG_EG,  /* gate and gated product inside an expert             [n_ff_expert]        */
    NIB_REG_EU,  /* up inside an expert                                 [n_ff_expert]        */
    NIB_REG_EY,  /* an expert's output                                  [n_embd]             */
    NIB_REG_COUNT
} nib_reg;

/* Flags of a step. */
enum {
    NIB_STEP_ADD = 1,    /* LINEAR: adds to `to`                                              */
    NIB_STEP_BIAS = 2,   /* LINEAR: the bias must be there; elsewhere one is taken where found */
    NIB_STEP_EXPERT = 4, /* one of a run of steps that each expert does for the tokens that were  */
                         /* routed to it, with weights of its own; the run ends with MIX          */
    NIB_STEP_OPTIONAL = 8, /* left out where the model has no such weight                     */
    NIB_STEP_F64 = 16,     /* LINEAR: summed in f64, where what follows makes much of its errors */
};

typedef struct {
    nib_op op;
    nib_role weight; /* the weight it uses, or none                      */
    nib_reg to, a, b;
    unsigned flags;
} nib_step;

typedef struct {
    const nib_step *step;
    size_t n;
} nib_steps;

enum {
    NIB_STEPS_MAX = 48,  /* of a block                                       */
    NIB_READERS_MAX = 8, /* linears that read one input                      */
    NIB_INPUTS_MAX = 16  /* distinct inputs of the linears of a block        */
};

/* Linears that read one input, and what may absorb the inverse of a scale of the input's channels,
 * so that the block computes the same: a norm, or the linear whose outputs the channels are, up to
 * a product with something else. */
typedef struct {
    nib_role reader[NIB_READERS_MAX]; /* [n_readers] in the order of the steps                   */
    size_t n_readers;
    size_t n_experts; /* so many of them, the last ones, are roles of experts, which read it for  */
                      /* the tokens that are routed to them                                     */
    size_t first, last; /* indices of the steps that read it                                    */
    nib_role producer;  /* NIB_ROLE_NONE: nothing can absorb a scale                              */
    bool by_heads;      /* the producer makes values: each of its heads reaches the channels of   */
                        /* all query heads that share it                                          */
} nib_input;

typedef struct {
    nib_input input[NIB_INPUTS_MAX]; /* [n] in the order of the steps */
    size_t n;
} nib_inputs;

/* Is it a role that each expert has a weight for? */
static inline bool nib_role_is_expert(nib_role r)
{
    return r >= NIB_ROLE_FIRST_EXPERT;
}

/* The inputs of a block's linears. */
void nib_steps_inputs(nib_inputs *out, const nib_steps *s);

/* Index of the first and of the last step that reads the input of this linear. */
size_t nib_steps_first_reader(const nib_steps *s, nib_role linear);
size_t nib_steps_last_reader(const nib_steps *s, nib_role linear);

/* Does the step read a register that is not there? */
bool nib_step_reads_other(const nib_step *s, const bool there[NIB_REG_COUNT]);

/* What becomes of the output of a linear. */
typedef struct {
    bool scores; /* a query or a key: what counts is their product        */
    bool turned; /* the rotation pairs its rows                           */
} nib_output_use;

nib_output_use nib_steps_output(const nib_steps *s, nib_role linear);

/* Linears whose rows are the channels of this one's input, up to functions of each channel alone:
 * an order of the channels goes into their rows, and out of this one's columns. 0: there are none,
 * or somebody else reads the input too. Otherwise 1 or 2, in role[]. */
size_t nib_steps_channels_of(nib_role role[2], const nib_steps *s, nib_role linear);

/* The linear that makes the values whose attention is this one's input, read by nobody else: an
 * order of the channels inside a head goes into the rows of that head of values, and out of the
 * columns of all query heads that share it. NIB_ROLE_NONE: there is none. */
nib_role nib_steps_values_of(const nib_steps *s, nib_role linear);

/* The step that uses this weight; NULL: none does. */
const nib_step *nib_steps_find(const nib_steps *s, nib_role weight);

/* Where each step's result lies: at[i] values into a row's share of the work memory. What is no
 * longer read makes room. NIB_REG_X has no place there: it is the caller's. width[r] is a
 * register's values for a row. Returns the values of a row. */
size_t nib_steps_layout(size_t at[NIB_STEPS_MAX], const nib_steps *s,
                        const size_t width[NIB_REG_COUNT]);

#endif
