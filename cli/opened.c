/* SPDX-License-Identifier: MIT */
/* cli/opened.c - see opened.h. Tests: tests/cases/inputs. */
#include "cli/opened.h"

void nib_warn_odd_model(const nib_model *m, nib_log *log)
{
    const char *path = nib_source_path(m->src);
    const size_t settled = nib_source_settled(m->src);
    nib_config_warn_unknown(m->src, log);
    if (settled)
        nib_warn(
            log,
            "%s: the zero points of %zu symmetric layers are not stored as 'checkpoint_format' "
            "says, so they would be read one off; they are read as 'sym': true has it",
            path, settled);
    if (m->head_differs)
        nib_warn(log,
                 "%s: config.json says 'tie_word_embeddings': true, but there is an output matrix "
                 "with other values than the embedding's; it is used",
                 path);
    if (m->has_next_blocks)
        nib_info(log,
                 "%s: the blocks behind the last one, which propose further tokens, are left out",
                 path);
    if (m->has_cache_scales)
        nib_info(log, "%s: scales of a key/value cache are left out: nibble keeps it in f32", path);
}

nib_code nib_opened_open(nib_opened *o, const char *path, nib_log *log, nib_err *err)
{
    *o = (nib_opened){0};
    nib_code rc = nib_source_open(&o->src, path, err);
    if (!rc) rc = nib_model_open(&o->model, o->src, err);
    if (!rc) nib_warn_odd_model(&o->model, log);
    return rc ? rc : nib_tokenizer_open(&o->tok, o->src, err);
}

void nib_opened_close(nib_opened *o)
{
    nib_tokenizer_close(o->tok);
    nib_model_close(&o->model);
    nib_source_close(o->src);
    *o = (nib_opened){0};
}
