/* SPDX-License-Identifier: MIT */
/* infer/resident.c - see resident.h. Tests: tests/infer/test_linear_few.c. */
#include "infer/resident.h"

#include "base/par.h"

#include <unistd.h>

enum { PIECE = 4 << 20, FIRST_ROOM = 256 };

void nib_resident_free(nib_resident *r)
{
    for (size_t i = 0; i < r->room; i++) nib_free(r->entry[i].bytes);
    nib_free(r->entry);
    *r = (nib_resident){0};
}

static nib_resident_entry *find(const nib_resident *r, const nib_tensor *t)
{
    size_t i = ((uintptr_t)t >> 4) * 0x9E3779B97F4A7C15u >> 20;
    for (i &= r->room - 1; r->entry[i].tensor && r->entry[i].tensor != t;
         i = (i + 1) & (r->room - 1)) {
    }
    return &r->entry[i];
}

/* At most half of the table is in use. */
static nib_code make_room(nib_resident *r, nib_err *err)
{
    nib_resident old = *r;
    if (2 * (r->n + 1) <= r->room) return NIB_OK;
    r->room = old.room ? 2 * old.room : FIRST_ROOM;
    r->entry = nib_calloc(r->room, sizeof *r->entry);
    if (!r->entry) {
        *r = old;
        return nib_fail_nomem(err, "the table of weights");
    }
    for (size_t i = 0; i < old.room; i++)
        if (old.entry[i].tensor) *find(r, old.entry[i].tensor) = old.entry[i];
    nib_free(old.entry);
    return NIB_OK;
}

static uint64_t half_of_memory(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size / 2 : 0;
}

typedef struct {
    const nib_source *src;
    const nib_tensor *t;
    uint8_t *to;
} reading;

static nib_code read_piece(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const reading *r = arg;
    (void)thread;
    return nib_source_read(r->src, r->t, begin, r->to + begin, end - begin, err);
}

static bool is_wanted(nib_resident *r, const nib_tensor *t)
{
    if (!r->most) r->most = half_of_memory();
    return nib_tensor_is_plain(t) && t->codec->decode && t->bytes <= SIZE_MAX &&
           t->bytes <= r->most && r->bytes <= r->most - t->bytes;
}

nib_code nib_resident_get(nib_resident *r, const nib_source *src, const nib_tensor *t, int threads,
                          const uint8_t **bytes, nib_err *err)
{
    nib_code rc = make_room(r, err);
    if (rc) return rc;
    nib_resident_entry *e = find(r, t);
    *bytes = e->bytes;
    if (e->tensor) return NIB_OK;
    if (is_wanted(r, t)) {
        reading now = {src, t, nib_alloc((size_t)t->bytes, 1)};
        if (!now.to) return nib_fail_nomem(err, "weights");
        if ((rc = nib_par_for(threads, (size_t)t->bytes, PIECE, read_piece, &now, err))) {
            nib_free(now.to);
            return rc;
        }
        *bytes = e->bytes = now.to;
        r->bytes += t->bytes;
    }
    e->tensor = t;
    r->n++;
    return NIB_OK;
}
