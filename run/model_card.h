/* SPDX-License-Identifier: MIT */
/* run/model_card.h - the section of a model card that a publisher of quantized files needs: what
 * the Hub reads in front (base_model, base_model_relation), and a table of files.
 *
 * One card serves many outputs: a later one adds its row to the table of the card that is there, or
 * replaces its own. The rest of the card is the publisher's. */
#ifndef NIB_RUN_MODEL_CARD_H
#define NIB_RUN_MODEL_CARD_H

#include "run/plan/plan.h"

typedef struct {
    const char *base_model; /* "ORG/NAME" */
    const nib_plan *plan;   /* carried out */
    double kl;              /* mean divergence from the original; below 0: not measured */
} nib_model_card;

/* Make the card, or change the one at `path`. NIB_EINVAL: what is there has no such table. */
NIB_MUST_USE nib_code nib_model_card_write(const char *path, const nib_model_card *c, nib_err *err);

#endif
