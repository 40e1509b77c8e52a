/* SPDX-License-Identifier: MIT */
/* formats/packed_format_impl.h - inside formats/: what a checkpoint format provides to
 * packed_format.c, and what the formats share. */
#ifndef NIB_FORMATS_PACKED_FORMAT_IMPL_H
#define NIB_FORMATS_PACKED_FORMAT_IMPL_H

#include "formats/packed_config.h"

enum {
    NIB_PACKING_COLS_MAX = 1 << 24, /* of a group, and of either side of a weight */
    NIB_LAYER_NAME_MAX = 160,       /* of those that are written                  */
    NIB_LAYER_REGEX_MAX = 320,
};

/* One kind of layout; see the functions of packed_format.h and packed_config.h. */
typedef struct {
    const char *method, *config_file;
    bool config_twice;
    const char *const *suffix;          /* [NIB_PART_ROLES] */
    const char *weight_suffix;          /* NULL: ".weight" */
    unsigned char tail[NIB_PART_ROLES]; /* see nib_packing_tail() */
    const unsigned char *bits;          /* that layers can have, ascending, then 0 */
    nib_type codes; /* of the part CODES, where its suffix alone does not tell; F32: it does */
    const char *uniform;
    nib_type (*scale_type)(nib_type weight);
    /* Check the format and add the parts; format, out, in, group and groups are set. */
    nib_code (*make)(nib_packed_parts *l, nib_err *err);
    bool (*measure)(const nib_packing *f, const uint64_t shape[2], uint64_t *out, uint64_t *in);
    /* See nib_packing_state(); NULL: no text. */
    nib_code (*state)(nib_packing *f, uint64_t *out, uint64_t *in, const char *text, size_t n,
                      nib_err *err);
    /* See nib_packing_facts(); NULL: there are no such parts. */
    nib_code (*facts)(nib_packing *f, uint64_t *out, uint64_t *in, const nib_packing_fact *v,
                      nib_err *err);
    nib_int_grid grid;
    bool floats;        /* codes are small floats, and ... */
    nib_act_number act; /* what inputs are rounded to, if they are */
    /* Levels of codes that are no integers, and how scales are found; NULL: they are. */
    void (*grid_of)(nib_int_codec *c, const nib_packed_parts *l);
    /* Into zeroed bytes. */
    nib_code (*pack)(uint8_t *dst, const nib_packed_parts *l, const nib_packing_values *v,
                     nib_err *err);
    /* Fill in r->n rows; r->bytes is large enough for the parts' strips of them, one after the
     * other. */
    nib_code (*read)(nib_packing_rows *r, const nib_packed_parts *l, const nib_packing_from *from,
                     size_t row, nib_err *err);
    /* Values of rows whose codes are no integers; NULL: they are. */
    void (*decode)(float *dst, const nib_packed_parts *l, const nib_packing_rows *r);
    /* See nib_packing_levels(); NULL: there is no such table. */
    bool (*levels)(float *level, const nib_packed_parts *l);
    /* NULL: the format has one version. */
    nib_code (*settle)(nib_packed_parts *l, bool *changed, const nib_packing_from *from,
                       nib_err *err);
    nib_code (*config_read)(nib_packing_rules *rules, const nib_json *config, nib_err *err);
    bool (*config_write)(nib_json *config, const nib_packing *f, const nib_packing_note *note);
} nib_packing_ops;

extern const nib_packing_ops nib_packing_gptq, nib_packing_awq, nib_packing_ct_packed,
    nib_packing_ct_int, nib_packing_bnb4, nib_packing_bnb8, nib_packing_fp8, nib_packing_mxfp4,
    nib_packing_hqq, nib_packing_fp8_tensor, nib_packing_fp8_vllm, nib_packing_fp8_stack,
    nib_packing_fbgemm, nib_packing_ct_fp8, nib_packing_ct_nvfp4, nib_packing_ct_mxfp4,
    nib_packing_ct_mxfp8;
const nib_packing_ops *nib_packing_ops_of(nib_packing_kind kind);

/* Add a part after the others; n_dims 1 or 2. */
void nib_packing_add(nib_packed_parts *l, nib_part_role role, nib_type type, int n_dims,
                     uint64_t rows, uint64_t cols);
/* For floats in groups of just so many columns, of which rows are whole ones. */
NIB_MUST_USE nib_code nib_packing_check_groups(const nib_packed_parts *l, uint64_t group,
                                               nib_err *err);
/* A member scale_type of nib_packing_ops: exponents, of any weight. */
nib_type nib_packing_exponents(nib_type weight);
/* Where it is in the packed layer, which has it. */
uint8_t *nib_packing_at(uint8_t *packed, const nib_packed_parts *l, nib_part_role role);

/* ---- streams of b-bit fields in little-endian 32-bit words ---- */

/* OR field i into a zeroed stream whose words are `stride` words apart. */
void nib_put_field(uint8_t *words, size_t stride, size_t i, unsigned bits, uint32_t v);
/* The field that begins at bit `at`. */
uint32_t nib_get_bits(const uint8_t *words, size_t stride, size_t at, unsigned bits);
/* The first n fields. */
void nib_get_fields(uint8_t *dst, size_t n, const uint8_t *words, size_t stride, unsigned bits);

/* ---- parts ---- */

/* v as so many bytes, little-endian. */
void nib_put_uint(uint8_t *dst, size_t bytes, uint64_t v);
/* Number i of some scales; false: it is too large for their dtype. */
NIB_MUST_USE bool nib_put_scale(uint8_t *dst, nib_type type, size_t i, float scale);
/* Scale i of the layer, which is one of weight row `row`'s. */
NIB_MUST_USE nib_code nib_pack_scale(uint8_t *packed, const nib_packed_parts *l, size_t i,
                                     float scale, size_t row, nib_err *err);
/* Is the zero point of a group of that row one that can be stored? */
NIB_MUST_USE nib_code nib_check_zero(int32_t zero, int32_t low, int32_t high, size_t row,
                                     nib_err *err);
void nib_pack_g_idx(uint8_t *packed, const nib_packed_parts *l, const uint32_t *outer);

/* The range of the inputs, where the format has one for all of them. */
NIB_MUST_USE nib_code nib_pack_input_range(uint8_t *packed, const nib_packed_parts *l,
                                           nib_act_range range, nib_err *err);
/* n scales of any dtype that scales have; E8M0's NaN is NaN. */
void nib_get_scales(float *dst, const uint8_t *src, nib_type type, size_t n);
/* Columns of a group times its scale, in x[r->n][l->in]. */
void nib_scale_groups(float *x, const nib_packed_parts *l, const nib_packing_rows *r);

/* Bytes [first, first + n) of each row of a part, one row after the other. */
NIB_MUST_USE nib_code nib_packing_strip(const nib_packing_from *from, const nib_packed_parts *l,
                                        nib_part_role role, size_t first, size_t n, uint8_t *dst,
                                        nib_err *err);
/* Rows [row, row + n) of a part. */
NIB_MUST_USE nib_code nib_packing_lines(const nib_packing_from *from, const nib_packed_parts *l,
                                        nib_part_role role, size_t row, size_t n, uint8_t *dst,
                                        nib_err *err);
/* Scales that are stored as [groups, out]. */
NIB_MUST_USE nib_code nib_read_group_scales(nib_packing_rows *r, const nib_packed_parts *l,
                                            const nib_packing_from *from, size_t row, nib_err *err);

/* ---- configurations ---- */

/* The member of either name. */
const nib_json *nib_json_either(const nib_json *j, const char *key, const char *other);
/* A flag that may be missing: *out stays as it is. */
NIB_MUST_USE nib_code nib_config_flag(bool *out, const nib_json *config, const char *key,
                                      nib_err *err);
/* Add the names of the layers that are not packed as an array; with `fused` also those of what
 * engines make of them, for engines that know no others. */
NIB_MUST_USE bool nib_config_unpacked(nib_json *to, const char *key, const nib_packing_note *note,
                                      bool fused);
/* `before` and a regular expression for the names of exactly these layers, and for the name of what
 * engines make of them: not all engines look for the parts' names. At most n bytes, at least
 * NIB_LAYER_REGEX_MAX. */
void nib_config_regex(char *buf, size_t n, const char *before, const nib_packing_exception *e);
/* Columns of a group, or -1 for whole rows, which becomes 0. */
NIB_MUST_USE nib_code nib_config_group(uint64_t *out, const nib_json *v, nib_err *err);

#endif
