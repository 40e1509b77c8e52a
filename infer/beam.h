/* SPDX-License-Identifier: MIT */
/* infer/beam.h - beam search: of all texts that a beam of likely ones leads to, the likeliest. */
#ifndef NIB_INFER_BEAM_H
#define NIB_INFER_BEAM_H

#include "infer/generate.h"

/* As Transformers' generate() with num_beams, length_penalty 1, early_stopping false: how->beams
 * texts go side by side, each step keeps the best of what they can become; one that a token of
 * how->stop ends is scored by the mean log-probability of its tokens, that one included; over when
 * as many are ended as there are beams and none that goes on has a mean as good as theirs, or at
 * how->most tokens. Otherwise than there, one of the beams is always the text that greedy decoding
 * gives, which a beam may lose: so the result is never worse than that. Of how->sampling nothing is
 * used. `d` has how->beams sequences and holds nothing, or the beginning of the prompt in the
 * first. NIB_EINVAL: more beams than tokens. */
NIB_MUST_USE nib_code nib_beam_search(nib_generated *out, nib_decoder *d, const int32_t *prompt,
                                      size_t n_prompt, const nib_generation *how, nib_err *err);

#endif
