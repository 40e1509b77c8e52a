/* SPDX-License-Identifier: MIT */
/* formats/source.h - an opened model, whatever it is stored in: named tensors, read on demand.
 *
 * A source is a Hugging Face folder (safetensors, one file or sharded), a single .safetensors file,
 * or a GGUF file (one or split). In folders of a packed checkpoint format (packed_format.h) each
 * group of tensors that holds one weight is presented as that weight. Opening reads and checks all
 * headers, so that what follows can trust them; weights are read later, by rows, with pread into
 * the caller's memory. After opening nothing in a source changes: any number of threads may read
 * from it. */
#ifndef NIB_FORMATS_SOURCE_H
#define NIB_FORMATS_SOURCE_H

#include "base/json.h"
#include "base/mem.h"
#include "formats/packed_format.h"
#include "quant/codec.h"

enum { NIB_MAX_DIMS = 8 };

typedef enum { NIB_SOURCE_HF, NIB_SOURCE_SAFETENSORS, NIB_SOURCE_GGUF } nib_source_kind;

typedef struct nib_tensor {
    const char *name; /* as in the file; owned by the source                                */
    const nib_codec *codec;
    int n_dims;                   /* 0 = a scalar, one element                              */
    uint64_t shape[NIB_MAX_DIMS]; /* outermost first, as in safetensors: [out, in]; shape[n_dims-1]
                                     is the contiguous row                                  */
    uint64_t offset;              /* of the data, from the start of its file                */
    uint64_t bytes;
    float plus,
        times; /* a view, given by whoever reads more in it than is stored: every value is  */
               /* (stored + plus) * times, times 0 for 1. Both 0 in a source's own list    */
    uint64_t row_step,
        col_step; /* a view of every so many elements of what is stored, from `offset` on: [r][c] */
                  /* is element r * row_step + c * col_step. Both 0: rows one after the other  */
    bool neg_exp; /* a view: every value is -exp of what is stored                         */
    uint32_t file; /* index into the source's files                          */
    const struct nib_tensor
        *part;      /* [n_parts] views: a stack, the rows of all parts one below the    */
    size_t n_parts; /* other; all of as many columns. Has no offset or file of its own  */
    const struct nib_tensor *of; /* a view: row r is row of_row + r * of_step of this tensor, or */
    uint64_t of_row, of_step;    /* where it is turned, with of_step 0, column r of as many of    */
                                 /* its rows from of_row on as the view has columns              */
    const uint32_t
        *of_col; /* of such a view: column c is column of_col[c]; NULL: they are the same */
    const struct nib_packed *packed; /* NULL, or what several tensors make up: packed_weight.h;  */
                                     /* offset and file are the first's, bytes those of all      */
    const float *factor;  /* of GGUF's "X.weight" beside an "X.scale": the values of the first    */
    uint64_t factor_rows; /* so many rows are times factor[0], those of the next factor[1] ...;   */
                          /* what is read as weights is so. NULL: there is none                   */
    bool is_factor;       /* it is such an "X.scale", and is in its weight's values               */
} nib_tensor;

/* Can nib_source_read_rows() read it as weights? */
bool nib_tensor_readable(const nib_tensor *t);

/* Are its bytes, as they lie, what it means? Not of a view that computes, of packed integers, of a
 * weight with a factor, or of a stack whose parts are in several formats. */
bool nib_tensor_is_plain(const nib_tensor *t);

/* How engines round the input of the linear layer that this is the weight of, in folders of models
 * whose inputs are integers (W8A8) or small floats; NULL: they don't. Borrowed from the source. */
const nib_act_quant *nib_tensor_act(const nib_tensor *t);
/* Are both its inputs and itself 8-bit integers, a scale for each row? */
bool nib_tensor_int8(const nib_tensor *t);

/* Contiguous elements per row: the last dimension (1 for a scalar). */
uint64_t nib_tensor_cols(const nib_tensor *t);
/* Product of the other dimensions. */
uint64_t nib_tensor_rows(const nib_tensor *t);
uint64_t nib_tensor_elems(const nib_tensor *t);
/* "[2048, 256]" into buf; returns buf. */
char *nib_tensor_shape_str(const nib_tensor *t, char *buf, size_t n);

/* View of rows [row, row + n) of a tensor that lies as one piece, as a matrix of that many rows;
 * the name is borrowed. */
nib_tensor nib_tensor_slice(const nib_tensor *t, uint64_t row, uint64_t n, const char *name);

/* View of every `step`-th row of a tensor from `row` on, n of them, whatever it is stored in. */
nib_tensor nib_tensor_rows_of(const nib_tensor *t, uint64_t row, uint64_t n, uint64_t step,
                              const char *name);
/* View of a tensor's columns in another order: column c is column order[c]. */
nib_tensor nib_tensor_columns_of(const nib_tensor *t, const uint32_t *order, const char *name);
/* View of rows [row, row + n) of a tensor whose rows become columns: [its columns][n]. */
nib_tensor nib_tensor_turned(const nib_tensor *t, uint64_t row, uint64_t n, const char *name);
/* A stack of parts, which are borrowed, as a matrix. */
nib_tensor nib_tensor_stack(const nib_tensor *part, size_t n, const char *name);

/* View of rows and columns of a tensor of single floats that lies as one piece: [r][c] is its
 * element first + r * row_step + c * col_step; all of them lie in it. */
nib_tensor nib_tensor_strided(const nib_tensor *t, uint64_t first, uint64_t rows, uint64_t cols,
                              uint64_t row_step, uint64_t col_step, const char *name);

typedef struct nib_source nib_source;

/* Open and validate. `path`: a folder with config.json and safetensors (hf_weights.h has which), a
 * .safetensors file, a model.safetensors.index.json, or a .gguf file (of a split one: the first
 * shard). The kind is
 * found from the contents. On failure *out is NULL and err names file, tensor and rule. */
NIB_MUST_USE nib_code nib_source_open(nib_source **out, const char *path, nib_err *err);
void nib_source_close(nib_source *s); /* accepts NULL */

nib_source_kind nib_source_get_kind(const nib_source *s);
/* Folders whose configuration says that they are quantized by a method that is not known here: its
 * name ("hqq"); else NULL. Their tensors are listed as they lie. */
const char *nib_source_unknown_method(const nib_source *s);
/* Packed layers that are read as another version of their format than the configuration says,
 * because their numbers leave no doubt (GPTQ's symmetric zero points). */
size_t nib_source_settled(const nib_source *s);
const char *nib_source_path(const nib_source *s); /* as given to open */
size_t nib_source_n_files(const nib_source *s);
const char *nib_source_file(const nib_source *s, size_t i); /* path of file i */

/* Tensors in the order of file and offset. Borrowed from the source. */
size_t nib_source_count(const nib_source *s);
const nib_tensor *nib_source_at(const nib_source *s, size_t i);
const nib_tensor *nib_source_find(const nib_source *s, const char *name); /* NULL: none; hashed */

/* Raw bytes [offset, offset+n) of a tensor into dst; of a packed one the bytes of its parts, one
 * after the other. */
NIB_MUST_USE nib_code nib_source_read(const nib_source *s, const nib_tensor *t, uint64_t offset,
                                      void *dst, size_t n, nib_err *err);
/* Rows [row, row + n) decoded to f32 into dst[n][cols]. `raw` is reused work memory for the packed
 * bytes, one per thread. */
NIB_MUST_USE nib_code nib_source_read_rows(const nib_source *s, const nib_tensor *t, uint64_t row,
                                           uint64_t n, float *dst, nib_buf *raw, unsigned cpu,
                                           nib_err *err);

/* What `raw` comes to hold for n rows, in bytes. */
uint64_t nib_tensor_rows_memory(const nib_tensor *t, uint64_t n);

/* The same rows as integers, of a nib_tensor_int8(): weight[r][c] = scale[r] *
 * code[r][c], exactly the f32 value that nib_source_read_rows() gives; code[n][cols], scale[n]. */
NIB_MUST_USE nib_code nib_source_read_codes(const nib_source *s, const nib_tensor *t, uint64_t row,
                                            uint64_t n, int8_t *code, float *scale, nib_buf *raw,
                                            nib_err *err);

/* How a tensor that holds integers has its columns in groups. */
typedef struct {
    uint64_t group, groups; /* columns of a group; groups of a row                           */
    const uint32_t *g_idx;  /* [cols] the group of each column, borrowed; NULL: c / group      */
    const nib_packing *packing; /* of packed ones, borrowed; NULL: blocks of GGUF              */
} nib_int_groups;

/* Is every value of it scale * (code - zero), with a scale for some columns of a row: packed
 * integers, and those of GGUF's formats without codebook and minimum? Not of stacks, whose parts
 * are asked one by one. */
bool nib_tensor_ints(const nib_tensor *t, nib_int_groups *g);

/* Rows [row, row + n) of such a tensor as integers, codes counted from 0; *r points into `raw`. */
NIB_MUST_USE nib_code nib_source_read_ints(nib_packing_rows *r, const nib_source *s,
                                           const nib_tensor *t, uint64_t row, uint64_t n,
                                           nib_buf *raw, nib_err *err);

/* What a packed tensor, or one of NVFP4's blocks, is made of, for who multiplies with codes as they
 * are. */
typedef struct {
    uint64_t group, groups;
    const uint32_t *g_idx; /* as in nib_int_groups */
    unsigned bits;
    bool integers;    /* scale * (code - zero); otherwise scale * level[code] */
    float level[256]; /* [1 << bits] */
} nib_coded;

/* false: it is neither, or its values are not of that form. */
bool nib_tensor_coded(nib_coded *c, const nib_tensor *t);
/* The layout of a packed tensor that is no view; NULL: it is something else. Borrowed. */
const nib_packed_parts *nib_tensor_parts(const nib_tensor *t);
/* nib_source_read_ints() of such a tensor; r->zero means something for integers alone. */
NIB_MUST_USE nib_code nib_source_read_coded(nib_packing_rows *r, const nib_source *s,
                                            const nib_tensor *t, uint64_t row, uint64_t n,
                                            nib_buf *raw, nib_err *err);

/* Hugging Face folders: the parsed JSON file of that name ("config.json", "tokenizer.json",
 * "tokenizer_config.json", "generation_config.json", "chat_template.json", "quantize_config.json",
 * "quant_config.json", "hf_quant_config.json", "tekken.json"), owned by the source and parsed on
 * first use at open; NULL when the folder has none or the source is of another kind. */
const nib_json *nib_source_json(const nib_source *s, const char *name);
/* Hugging Face folders: text of a small file beside the weights: "chat_template.jinja", and
 * tool_use and rag in "additional_chat_templates/NAME.jinja"; borrowed; NULL when there is none. */
const char *nib_source_text(const nib_source *s, const char *name);
/* The same of files that hold any bytes: "tokenizer.model", "tiktoken.model", "qwen.tiktoken",
 * "hy.tiktoken"; *n of them. */
const char *nib_source_bytes(const nib_source *s, const char *name, size_t *n);

/* GGUF sources: the metadata; NULL for other kinds. See formats/gguf.h. */
struct nib_gguf_kvs;
const struct nib_gguf_kvs *nib_source_kvs(const nib_source *s);

/* The folder that the source's files lie in; the caller frees it; NULL: no memory. */
char *nib_source_folder(const nib_source *s);

#endif
