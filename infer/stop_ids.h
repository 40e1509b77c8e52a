/* SPDX-License-Identifier: MIT */
/* infer/stop_ids.h - the tokens that end what a model says. */
#ifndef NIB_INFER_STOP_IDS_H
#define NIB_INFER_STOP_IDS_H

#include "infer/tokenizer.h"

/* Into *out, each once: the tokenizer's EOS; of a folder the "eos_token_id", one or a list, of
 * generation_config.json, or of config.json where that has none; of GGUF the keys of EOS, of the
 * end of a turn and of a message, and, as llama.cpp does, control tokens with the texts that models
 * use for these. NIB_EFORMAT: a key holds something else than ids of the vocabulary. */
NIB_MUST_USE nib_code nib_stop_ids(nib_ids *out, const nib_source *src, const nib_tokenizer *tok,
                                   nib_err *err);
bool nib_ids_hold(const nib_ids *v, int32_t id);

#endif
