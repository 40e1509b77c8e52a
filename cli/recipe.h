/* SPDX-License-Identifier: MIT */
/* cli/recipe.h - the recipe of 'nibble batch': a JSON file (docs/batch.schema.json).
 *
 *     { "model": "MODEL",                    folder or file
 *       "name": "Name-7B", "folder": "out",  of the outputs
 *       "calibration": { "text": "FILE", "samples": 128, ..., "imatrix": "FILE" },
 *       "outputs": [ { "type": "q4_k_m", "imatrix": true }, { "preset": "ladder" }, ... ],
 *       "evaluation": { "text": "FILE", "max-kl": 0.01, ... } }
 *
 * Keys of an output are the options of 'nibble quantize', those of the calibration its options of
 * sample text, and those of the evaluation the options of 'nibble compare': each object is read by
 * the rows of that command, so that what one understands the other does. Files are relative to the
 * recipe. Errors name the recipe, the line, and the key with the nearest known one. */
#ifndef NIB_CLI_RECIPE_H
#define NIB_CLI_RECIPE_H

#include "base/arena.h"
#include "cli/opts.h"
#include "run/batch.h"

typedef struct {
    nib_batch batch;
    bool evaluates;        /* the options of 'compare' are set: it is to run on the outputs */
    const char *reference; /* of the evaluation: the model */
    char *text;            /* of the recipe */
    size_t n_text;
    nib_json *root;
    nib_arena keep;
} nib_batch_recipe;

/* How all is run, as the command line says it; not a recipe's business. */
typedef struct {
    bool resume, dry_run, force, json;
} nib_recipe_run;

/* Read it. Nothing but the recipe is opened. NIB_EINVAL: something is wrong with it. Free it in
 * either case; what its batch points to lives as long. */
NIB_MUST_USE nib_code nib_recipe_load(nib_batch_recipe *r, const char *path,
                                      const nib_recipe_run *how, nib_err *err);
void nib_recipe_free(nib_batch_recipe *r);

#endif
