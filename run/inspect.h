/* SPDX-License-Identifier: MIT */
/* run/inspect.h - what is in a model folder, a model file or an importance matrix. */
#ifndef NIB_RUN_INSPECT_H
#define NIB_RUN_INSPECT_H

#include "base/json.h"

#include <stdbool.h>

/* A tree for printing or for programs; the caller frees it.
 *
 *   path, kind ("huggingface", "safetensors", "gguf", "imatrix"), files, bytes
 *   models:   tensors, weights, bits_per_weight, types { NAME: tensors, weights, bytes },
 *             model { architecture and hyper-parameters } or not_runnable (the reason),
 *             metadata (GGUF; of arrays: element type, count, the first few)
 *   imatrix:  entries, chunk_count, chunk_size, datasets
 *   with_tensors adds tensor_list: of each tensor or entry the name and what else is known. */
NIB_MUST_USE nib_code nib_inspect(nib_json **out, const char *path, bool with_tensors,
                                  nib_err *err);

#endif
