/* SPDX-License-Identifier: MIT */
/* calib/sample.h - which windows of which texts a run is to see, as it is asked for. */
#ifndef NIB_CALIB_SAMPLE_H
#define NIB_CALIB_SAMPLE_H

#include "base/log.h"
#include "calib/text.h"
#include "infer/model.h"

typedef struct {
    const nib_text_spec *text; /* [n_texts], borrowed */
    size_t n_texts;
    size_t n_ctx, samples; /* tokens of a window, windows; 0: as many as is usual */
    uint64_t seed;
    bool chat; /* the texts are conversations, for the model's chat template */
} nib_sample;

/* Tokens of a window: s->n_ctx, or when 0 usual_ctx, or the model's context if shorter. */
size_t nib_sample_ctx(const nib_sample *s, const nib_model *m, size_t usual_ctx);
/* Pick s->samples of such windows (usual_samples when 0). Says on `log` what it took. */
NIB_MUST_USE nib_code nib_sample_pick(nib_windows *w, const nib_sample *s, const nib_model *m,
                                      const nib_tokenizer *tok, size_t usual_ctx,
                                      size_t usual_samples, nib_log *log, nib_err *err);

#endif
