/* SPDX-License-Identifier: MIT */
/* infer/prompt_cache.h - the keys and values of a prompt, in a file for the next one that begins in
 * the same way.
 *
 * Little-endian: "nibbleKV", u32 version 1, u32 layers, u64 whose keys they are, u64 bytes of a row
 * of keys, u64 of values, u64 n tokens, i32 id[n]; for each layer n rows of keys, then n of values,
 * as they lie in memory; u64 checksum of all before it. In formats of KIVI rows of keys are those
 * of whole groups, and behind the rows of either are the youngest NIB_KV_RECENT, or n, as they
 * were, in f32. "Whose" is the model's fingerprint, the format of the rows and the angles that keys
 * are turned by, which may depend on the length of the context. */
#ifndef NIB_INFER_PROMPT_CACHE_H
#define NIB_INFER_PROMPT_CACHE_H

#include "infer/decoder.h"

/* Take over what the file holds of the beginning of id[n], n - 1 tokens at most, so that one is
 * left to compute; the decoder, which is new, has that length then. In formats of KIVI it is all
 * but the file's last NIB_KV_BACK or nothing, where the file is longer than NIB_KV_RECENT. A file
 * that is not there is none. *held: tokens that prompt and file have in common. NIB_EFORMAT:
 * another file, of another model, or damaged. */
NIB_MUST_USE nib_code nib_prompt_cache_load(nib_decoder *d, const char *path, uint64_t model,
                                            const int32_t *id, size_t n, size_t *held,
                                            nib_err *err);
/* Write the n tokens of sequence 0, id[n], which are all that the decoder has read; a file that is
 * there is replaced. */
NIB_MUST_USE nib_code nib_prompt_cache_save(nib_decoder *d, const char *path, uint64_t model,
                                            const int32_t *id, size_t n, nib_err *err);

#endif
