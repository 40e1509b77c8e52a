/* SPDX-License-Identifier: MIT */
/* calib/sample.c - see sample.h. Tests: tests/run/test_job.c, tests/cases/commands. */
#include "calib/sample.h"

size_t nib_sample_ctx(const nib_sample *s, const nib_model *m, size_t usual_ctx)
{
    if (s->n_ctx) return s->n_ctx;
    return usual_ctx < m->hp.n_ctx_train ? usual_ctx : m->hp.n_ctx_train;
}

nib_code nib_sample_pick(nib_windows *w, const nib_sample *s, const nib_model *m,
                         const nib_tokenizer *tok, size_t usual_ctx, size_t usual_samples,
                         nib_log *log, nib_err *err)
{
    nib_code rc =
        nib_windows_pick(w, s->text, s->n_texts, tok, s->chat, nib_sample_ctx(s, m, usual_ctx),
                         s->samples ? s->samples : usual_samples, s->seed, err);
    if (rc) return rc;
    if (w->n < s->samples)
        nib_warn(log, "the texts give %zu windows of %zu tokens in their proportions, not %zu",
                 w->n, w->n_ctx, s->samples);
    nib_info(log, "%zu of %zu windows of %zu tokens", w->n, w->n_available, w->n_ctx);
    return NIB_OK;
}
