/* SPDX-License-Identifier: MIT */
/* infer/sliding.h - inside infer/: which layers attend to a sliding window of tokens, as
 * configurations say it. */
#ifndef NIB_INFER_SLIDING_H
#define NIB_INFER_SLIDING_H

#include "infer/model.h"

/* hp->window and hp->sliding of a model of class `hf_class`; hp->n_layer is known. Keys as
 * Transformers understands them: "sliding_window", "use_sliding_window", "max_window_layers",
 * "layer_types", and the class's defaults where they are absent. NIB_EFORMAT: a key has no sensible
 * value, or two contradict each other. */
NIB_MUST_USE nib_code nib_sliding_from_hf(nib_hparams *hp, const char *hf_class,
                                          const nib_json *cfg, nib_err *err);

/* The same from "{arch}.attention.sliding_window" (0: none) and ".sliding_window_pattern": a flag
 * for each layer, or a period n of which every n-th layer sees all (1: every one, 0: none). Without
 * a pattern the architecture's period counts. */
NIB_MUST_USE nib_code nib_sliding_from_gguf(nib_hparams *hp, const nib_arch *a,
                                            const nib_gguf_kvs *kvs, nib_err *err);

/* Those keys, where a layer slides. NIB_EINVAL: llama.cpp knows the architecture's windows, but
 * none that lie as this model's. */
NIB_MUST_USE nib_code nib_sliding_to_gguf(const nib_hparams *hp, const nib_arch *a,
                                          nib_gguf_kvs *kvs, nib_err *err);

#endif
