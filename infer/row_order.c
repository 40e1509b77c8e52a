/* SPDX-License-Identifier: MIT */
/* infer/row_order.c - rows of attention's matrices, which folders and GGUF have in different
 * orders. Tests: tests/infer/test_model.c. */
#include "infer/model.h"

uint64_t nib_rope_source_row(uint64_t row, uint32_t head_dim)
{
    uint64_t head = row / head_dim, in = row % head_dim;
    return head * head_dim + in % 2 * (head_dim / 2) + in / 2;
}

uint64_t nib_rope_paired_row(uint64_t row, uint32_t head_dim)
{
    uint64_t head = row / head_dim, in = row % head_dim;
    return head * head_dim + in % (head_dim / 2) * 2 + in / (head_dim / 2);
}

uint64_t nib_joint_source_row(uint64_t row, uint32_t head_dim, uint32_t n_head, uint32_t n_head_kv)
{
    const uint64_t per_kv = n_head / n_head_kv, head = row / head_dim, in = row % head_dim;
    uint64_t group = head / per_kv, nth = head % per_kv; /* of a query */
    if (head >= n_head) {
        group = (head - n_head) % n_head_kv;
        nth = per_kv + (head - n_head) / n_head_kv;
    }
    return (group * (per_kv + 2) + nth) * head_dim + in;
}
