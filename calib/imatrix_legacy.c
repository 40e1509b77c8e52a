/* SPDX-License-Identifier: MIT */
/* calib/imatrix_legacy.c - see imatrix_legacy.h. Tests: tests/calib/test_imatrix.c. */
#include "calib/imatrix_legacy.h"

#include "base/rd.h"

#include <string.h>

static nib_code read_entry(nib_imatrix *m, nib_rd *r, nib_err *err)
{
    int32_t n_name = nib_rd_i32(r);
    if (r->bad || n_name <= 0 || n_name > NIB_IMATRIX_LEGACY_NAME_MAX)
        return nib_fail(err, NIB_EFORMAT, "entry %zu: name of %d bytes (1 to %d allowed)", m->n,
                        n_name, NIB_IMATRIX_LEGACY_NAME_MAX);
    const char *name = (const char *)nib_rd_bytes(r, (uint64_t)n_name);
    if (!name || memchr(name, 0, (size_t)n_name))
        return nib_fail(err, NIB_EFORMAT, "entry %zu: the name is cut short or holds a NUL", m->n);
    int32_t calls = nib_rd_i32(r), n_val = nib_rd_i32(r);
    if (r->bad || n_val <= 0 || (size_t)n_val > nib_rd_left(r) / 4)
        return nib_fail(err, NIB_EFORMAT,
                        "entry '%.*s': %d values, but %zu bytes are left in the file", (int)n_name,
                        name, n_val, nib_rd_left(r));
    nib_imatrix_entry *e;
    nib_code rc = nib_imatrix_add(m, name, (size_t)n_name, (size_t)n_val, 1, &e, err);
    if (rc) return rc;
    for (size_t j = 0; j < e->cols; j++)
        e->in_sum2[j] = (double)nib_rd_f32(r) * NIB_IMATRIX_LEGACY_CHUNK;
    e->counts[0] = (double)(calls > 0 ? calls : 1) * NIB_IMATRIX_LEGACY_CHUNK;
    return NIB_OK;
}

/* Chunks that the largest count stands for. */
static uint32_t count_chunks(const nib_imatrix *m)
{
    double most = 0;
    for (size_t i = 0; i < m->n; i++)
        if (m->entry[i].counts[0] > most) most = m->entry[i].counts[0];
    return (uint32_t)(most / NIB_IMATRIX_LEGACY_CHUNK);
}

static nib_code read_tail(nib_imatrix *m, nib_rd *r, nib_err *err)
{
    if (!nib_rd_left(r)) return NIB_OK;
    int32_t chunks = nib_rd_i32(r), n_name = nib_rd_i32(r);
    if (r->bad || chunks < 0 || n_name < 0 || (size_t)n_name != nib_rd_left(r))
        return nib_fail(err, NIB_EFORMAT, "%zu bytes after the last entry are no data set name",
                        nib_rd_left(r));
    m->chunk_count = (uint32_t)chunks;
    return n_name ? nib_imatrix_add_dataset(m, (const char *)r->p, (size_t)n_name, err) : NIB_OK;
}

nib_code nib_imatrix_parse_legacy(nib_imatrix *m, const char *data, size_t n, nib_err *err)
{
    nib_rd r = {(const uint8_t *)data, (const uint8_t *)data + n, false};
    int32_t n_entries = nib_rd_i32(&r);
    if (r.bad || n_entries <= 0 || (size_t)n_entries > n / 16)
        return nib_fail(err, NIB_EFORMAT,
                        "not an importance matrix: neither GGUF nor the legacy layout");
    nib_code rc = NIB_OK;
    m->chunk_size = NIB_IMATRIX_LEGACY_CHUNK;
    while (m->n < (size_t)n_entries && !rc) rc = read_entry(m, &r, err);
    if (!rc) rc = read_tail(m, &r, err);
    if (!rc && !m->chunk_count) m->chunk_count = count_chunks(m);
    return rc;
}
