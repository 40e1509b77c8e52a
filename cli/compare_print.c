/* SPDX-License-Identifier: MIT */
/* cli/compare_print.c - see compare_print.h. Tests: tests/cases/commands. */
#include "cli/compare_print.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char FLOOR[] = "(the base, rounded to BF16)";

/* ---- tables ---- */

static void print_size(const nib_comparison *c, const nib_report_text *t, size_t i, int width)
{
    const nib_report_model *m = &c->model[i];
    const nib_compare_line *l = &t->line[i];
    printf("%-*s  ", width, m->name);
    if (m->bytes)
        printf("%8.1f  %7.3f  %8.1f", (double)m->bytes / 1e6, m->bits, nib_report_speed(t, i));
    else
        printf("%8s  %7s  %8s", "-", "-", "-");
    printf("  %9.4f +/- %-7.4f", l->ppl, l->ppl_error);
    if (i)
        printf("  %+7.3f +/- %5.3f %%", nib_report_increase(l),
               100 * exp(l->change) * l->change_error);
    else
        printf("  (the base)");
    if (strcmp(m->activations, "f32")) printf("  activations %s", m->activations);
    putchar('\n');
}

static void print_divergence(const char *name, const nib_compare_line *l, int width)
{
    printf("%-*s  %8.6f +/- %8.6f  %8.6f  %8.6f  %8.5f  %8.5f  %8.5f  %8.5f  %6.2f %%  %6.2f %%\n",
           width, name, l->kl, l->kl_error, l->kl_back, l->kl_median, l->kl_90, l->kl_99, l->kl_999,
           l->kl_max, 100 * l->same_top, 100 * l->same_first[NIB_TOPS - 1]);
}

static void print_text(const nib_comparison *c, const nib_kv_opts *kv, const nib_report_text *t,
                       int width)
{
    const nib_compare_result *r = &t->r;
    if (c->n_texts > 1) printf("%s: ", t->name);
    printf("protocol %s, context %zu, %zu chunks, %zu of %zu tokens scored",
           nib_ppl_protocol_name(r->protocol), r->n_ctx, r->n_chunks, r->n_scored, r->n_tokens);
    nib_kv_print(kv);
    printf("\n%-*s  %8s  %7s  %8s  %-21s  %s\n", width, "model", "MB", "bits/w", "tokens/s",
           "perplexity", "change");
    for (size_t i = 0; i < c->n_models; i++) print_size(c, t, i, width);
    if (c->n_models < 2 && !c->floor) return;
    printf("\n%-*s  %-21s  %8s  %8s  %8s  %8s  %8s  %8s  %8s  %8s\n", width, "KL divergence",
           "mean", "reverse", "median", "90 %", "99 %", "99.9 %", "maximum", "same top", "top 5");
    for (size_t i = 1; i < c->n_models; i++) print_divergence(c->model[i].name, &t->line[i], width);
    if (c->floor) print_divergence(FLOOR, &t->line[c->n_models], width);
}

void nib_print_comparison(const nib_comparison *c, const nib_kv_opts *kv)
{
    int width = c->floor ? (int)sizeof FLOOR - 1 : 13;
    for (size_t i = 0; i < c->n_models; i++) {
        int n = (int)strlen(c->model[i].name);
        if (n > width) width = n;
    }
    for (size_t i = 0; i < c->n_texts; i++) {
        if (i) putchar('\n');
        print_text(c, kv, &c->text[i], width);
    }
}

/* ---- JSON ---- */

static bool add_sureness(nib_json *j, const nib_compare_line *l)
{
    nib_json *list = nib_json_add_array(j, "by_sureness");
    bool ok = list;
    for (size_t b = 0; b < NIB_SURE_BINS && ok; b++) {
        const nib_compare_sure *s = &l->sure[b];
        nib_json *bin = nib_json_add_object(list, NULL);
        ok = bin && nib_json_add_num(bin, "from", nib_sure_from[b]) &&
             nib_json_add_num(bin, "tokens", (double)s->n) &&
             (!s->n || (nib_json_add_num(bin, "mean_kl", s->kl) &&
                        nib_json_add_num(bin, "top_share", s->same_top)));
    }
    return ok;
}

/* What a model has beside the base. */
static bool add_line(nib_json *j, const nib_compare_line *l)
{
    const struct {
        const char *key;
        double value;
    } of[] = {{"nll_change", l->change},
              {"nll_change_error", l->change_error},
              {"kl", l->kl},
              {"kl_error", l->kl_error},
              {"kl_max", l->kl_max},
              {"kl_p99.9", l->kl_999},
              {"kl_p99", l->kl_99},
              {"kl_p90", l->kl_90},
              {"kl_median", l->kl_median},
              {"kl_reverse", l->kl_back},
              {"kl_reverse_error", l->kl_back_error},
              {"rms_dp", l->rms_dp},
              {"same_top", l->same_top},
              {"same_top_error", l->same_top_error},
              {"same_top_2", l->same_first[1]},
              {"same_top_3", l->same_first[2]},
              {"same_top_4", l->same_first[3]},
              {"same_top_5", l->same_first[4]}};
    bool ok = true;
    for (size_t i = 0; i < sizeof of / sizeof of[0] && ok; i++)
        ok = nib_json_add_num(j, of[i].key, of[i].value);
    return ok && add_sureness(j, l);
}

static bool add_model(nib_json *models, const nib_comparison *c, const nib_report_text *t, size_t i)
{
    const nib_report_model *m = &c->model[i];
    const nib_compare_line *l = &t->line[i];
    nib_json *j = nib_json_add_object(models, NULL);
    if (!j || !nib_json_add_str(j, "model", m->name) ||
        !nib_json_add_str(j, "activations", m->activations) ||
        (m->bytes && (!nib_json_add_num(j, "bytes", (double)m->bytes) ||
                      !nib_json_add_num(j, "bits_per_weight", m->bits) ||
                      !nib_json_add_num(j, "tokens_per_second", nib_report_speed(t, i)))) ||
        !nib_json_add_num(j, "nll", l->nll) || !nib_json_add_num(j, "perplexity", l->ppl) ||
        !nib_json_add_num(j, "perplexity_error", l->ppl_error))
        return false;
    return i == 0 || add_line(j, l);
}

static bool add_text(nib_json *texts, const nib_comparison *c, const nib_kv_opts *kv,
                     const nib_report_text *t)
{
    const nib_compare_result *r = &t->r;
    nib_json *j = nib_json_add_object(texts, NULL), *models = NULL, *floor = NULL;
    bool ok = j && nib_json_add_str(j, "name", t->name) &&
              (!t->path || nib_json_add_str(j, "text", t->path)) &&
              nib_json_add_str(j, "protocol", nib_ppl_protocol_name(r->protocol)) &&
              nib_json_add_num(j, "context", (double)r->n_ctx) &&
              nib_json_add_num(j, "tokens", (double)r->n_tokens) &&
              nib_json_add_num(j, "chunks", (double)r->n_chunks) &&
              nib_json_add_num(j, "scored", (double)r->n_scored) &&
              nib_json_add_num(j, "seconds", r->seconds) && nib_kv_add_json(j, kv) &&
              (models = nib_json_add_array(j, "models"));
    for (size_t i = 0; i < c->n_models && ok; i++) ok = add_model(models, c, t, i);
    if (ok && c->floor)
        ok = (floor = nib_json_add_object(j, "noise_floor")) &&
             add_line(floor, &t->line[c->n_models]);
    return ok;
}

bool nib_comparison_to_json(nib_json *to, const nib_comparison *c, const nib_kv_opts *kv)
{
    nib_json *texts = nib_json_add_array(to, "texts");
    bool ok = texts;
    for (size_t i = 0; i < c->n_texts && ok; i++) ok = add_text(texts, c, kv, &c->text[i]);
    return ok;
}
