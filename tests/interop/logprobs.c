/* SPDX-License-Identifier: MIT */
/* logprobs - what nibble makes of a text, as JSON for a comparison with another engine.
 *
 *   logprobs MODEL TEXT N STRINGS
 *
 * "ids": the first N tokens of file TEXT, special ones in front as the model wants them. For each
 * but the last, in "logprob" the log-probability of the token that follows, in "top" the TOP most
 * probable ones as [id, log-probability]. "strings": ids of each string of the JSON array in file
 * STRINGS, nothing added to them. */
#include "base/cpu.h"
#include "base/file.h"
#include "base/json.h"
#include "base/linalg.h"
#include "base/par.h"
#include "infer/graph.h"
#include "infer/tokenizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOP = 3, TEXT_BYTES_MAX = 64 << 20 };

typedef struct {
    nib_source *src;
    nib_model model;
    nib_tokenizer *tok;
    nib_ids ids; /* of the text */
    float *logprob;
    float (*top_logprob)[TOP];
    int32_t (*top_id)[TOP];
} job;

/* Order-preserving insertion of one candidate into the best TOP so far. */
static void offer(int32_t *id, float *value, int32_t new_id, float new_value)
{
    for (int k = 0; k < TOP; k++) {
        if (id[k] >= 0 && value[k] >= new_value) continue;
        for (int m = TOP - 1; m > k; m--) id[m] = id[m - 1], value[m] = value[m - 1];
        id[k] = new_id, value[k] = new_value;
        return;
    }
}

static void take_logits(void *arg, size_t row, const float *logits, size_t n_vocab)
{
    job *j = arg;
    float max = logits[0];
    double sum = 0;
    for (size_t i = 1; i < n_vocab; i++)
        if (logits[i] > max) max = logits[i];
    for (size_t i = 0; i < n_vocab; i++) sum += exp((double)logits[i] - max);
    float base = max + (float)log(sum);
    j->logprob[row] = logits[j->ids.id[row + 1]] - base;
    for (int k = 0; k < TOP; k++) j->top_id[row][k] = -1;
    for (size_t i = 0; i < n_vocab; i++)
        offer(j->top_id[row], j->top_logprob[row], (int32_t)i, logits[i] - base);
}

static nib_code evaluate(job *j, const nib_ctx *ctx, nib_err *err)
{
    size_t n = j->ids.n, n_embd = j->model.hp.n_embd;
    nib_graph *g = NULL;
    float *x = nib_alloc(n, n_embd * sizeof *x);
    size_t *rows = nib_alloc(n, sizeof *rows);
    nib_code rc = NIB_OK;
    if (!x || !rows) {
        rc = nib_fail_nomem(err, "activations");
        goto done;
    }
    for (size_t i = 0; i < n; i++) rows[i] = i;
    if ((rc = nib_graph_new(&g, &j->model, ctx, 1, n, false, err))) goto done;
    if ((rc = nib_graph_embed(g, j->ids.id, n, x, err))) goto done;
    for (uint32_t l = 0; l < j->model.hp.n_layer; l++)
        if ((rc = nib_graph_block(g, l, x, 1, n, 0, NULL, err))) goto done;
    rc = nib_graph_logits(g, x, rows, n - 1, take_logits, j, NULL, err);
done:
    nib_graph_free(g);
    nib_free(x);
    nib_free(rows);
    return rc;
}

static void print_ids(const int32_t *id, size_t n)
{
    printf("[");
    for (size_t i = 0; i < n; i++) printf("%s%d", i ? "," : "", id[i]);
    printf("]");
}

static void print_evaluation(const job *j)
{
    size_t n = j->ids.n - 1;
    printf("{\"ids\":");
    print_ids(j->ids.id, j->ids.n);
    printf(",\n\"logprob\":[");
    for (size_t i = 0; i < n; i++) printf("%s%.6f", i ? "," : "", (double)j->logprob[i]);
    printf("],\n\"top\":[");
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < TOP; k++)
            printf("%s[%d,%.6f]%s",
                   k   ? ","
                   : i ? ",["
                       : "[",
                   j->top_id[i][k], (double)j->top_logprob[i][k], k == TOP - 1 ? "]" : "");
    printf("]");
}

static nib_code print_strings(const job *j, const char *path, nib_err *err)
{
    nib_json *list = NULL;
    nib_ids ids = {0};
    nib_code rc = nib_json_load(&list, path, TEXT_BYTES_MAX, err);
    printf(",\n\"strings\":[");
    for (const nib_json *s = nib_json_first(list); s && !rc; s = nib_json_next(s)) {
        const char *text;
        if (!nib_json_str(s, &text)) {
            rc = nib_fail(err, NIB_EFORMAT, "%s: an item is no string", path);
            break;
        }
        ids.n = 0;
        rc = nib_tokenizer_encode(j->tok, text, strlen(text), 0, &ids, err);
        if (s != nib_json_first(list)) printf(",\n");
        print_ids(ids.id, ids.n);
    }
    printf("]}\n");
    nib_ids_free(&ids);
    nib_json_free(list);
    return rc;
}

static nib_code run(job *j, char **argv, const nib_ctx *ctx, nib_err *err)
{
    nib_code rc;
    char *text = NULL;
    size_t n_text, n = (size_t)strtoul(argv[3], NULL, 10);
    if ((rc = nib_source_open(&j->src, argv[1], err))) return rc;
    if ((rc = nib_model_open(&j->model, j->src, err))) return rc;
    if ((rc = nib_tokenizer_open(&j->tok, j->src, err))) return rc;
    if ((rc = nib_file_slurp(&text, &n_text, argv[2], TEXT_BYTES_MAX, err))) return rc;
    rc = nib_tokenizer_encode(j->tok, text, n_text, NIB_TOK_ADD_SPECIAL, &j->ids, err);
    nib_free(text);
    if (rc) return rc;
    if (n < 2 || j->ids.n < n)
        return nib_fail(err, NIB_EINVAL, "%s has %zu tokens, asked for %zu (at least 2)", argv[2],
                        j->ids.n, n);
    j->ids.n = n;
    j->logprob = nib_alloc(n, sizeof *j->logprob);
    j->top_logprob = nib_alloc(n, sizeof *j->top_logprob);
    j->top_id = nib_alloc(n, sizeof *j->top_id);
    if (!j->logprob || !j->top_logprob || !j->top_id) return nib_fail_nomem(err, "results");
    if ((rc = evaluate(j, ctx, err))) return rc;
    print_evaluation(j);
    return print_strings(j, argv[4], err);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: logprobs MODEL TEXT N STRINGS\n");
        return 2;
    }
    nib_linalg_init();
    nib_err err = {0};
    nib_ctx ctx = {.threads = nib_par_cores(), .cpu = nib_cpu_detect()};
    job j = {0};
    nib_code rc = run(&j, argv, &ctx, &err);
    if (rc) fprintf(stderr, "logprobs: %s\n", err.msg);
    nib_ids_free(&j.ids);
    nib_free(j.logprob);
    nib_free(j.top_logprob);
    nib_free(j.top_id);
    nib_tokenizer_close(j.tok);
    nib_model_close(&j.model);
    nib_source_close(j.src);
    return rc ? 1 : 0;
}
