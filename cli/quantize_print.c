/* SPDX-License-Identifier: MIT */
/* cli/quantize_print.c - see quantize_print.h. Tests: tests/cases/commands. */
#include "cli/quantize_print.h"

#include "cli/io.h"

#include <stdio.h>
#include <string.h>

static void print_table(const nib_plan *p)
{
    char shape[64];
    int width = 6;
    for (size_t i = 0; i < p->n; i++) {
        int n = (int)strlen(p->tensor[i].name);
        if (n > width) width = n;
    }
    printf("%-*s %-16s %-8s %-8s %9s  %s\n", width, "tensor", "shape", "from", "to", "MB", "why");
    for (size_t i = 0; i < p->n; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        if (t->src)
            nib_tensor_shape_str(t->src, shape, sizeof shape);
        else
            snprintf(shape, sizeof shape, "[%llu]", (unsigned long long)t->cols);
        nib_print_text(t->name, strlen(t->name));
        printf("%*s %-16s %-8s %-8s %9.3f  %s%s%s%s\n", width - (int)strlen(t->name), "", shape,
               t->src ? t->src->codec->name : "-", t->codec->name, (double)t->bytes / 1e6,
               t->reason, nib_plan_solves(p, t) ? ", solved" : "",
               t->importance ? ", with importances" : "", t->order.head ? ", rows reordered" : "");
    }
    putchar('\n');
}

void nib_print_totals(const nib_plan *p)
{
    const nib_output_files *l = &p->layout;
    printf("%s, %zu tensors:", p->label, p->n);
    const char *comma = "";
    for (int i = 0; i < NIB_TYPE_COUNT; i++) {
        if (!p->by_type[i].tensors) continue;
        printf("%s %zu %s", comma, p->by_type[i].tensors, nib_codec_get((nib_type)i)->name);
        comma = ",";
    }
    printf("\n%.1f M weights, %.3f bits per weight (%.3f without embedding and output matrix)\n",
           (double)p->weights / 1e6, p->bits_per_weight, p->bits_per_weight_inner);
    if (p->n_fallback)
        printf("%zu tensors in a stand-in format, because their rows are not whole blocks "
               "(--dry-run lists them)\n",
               p->n_fallback);
    if (l->n_files > 1)
        printf("%zu files, %.1f MB\n", l->n_files, (double)l->total_bytes / 1e6);
    else
        printf("%s%s%.1f MB\n", p->recipe.out ? p->recipe.out : "", p->recipe.out ? ": " : "",
               (double)l->total_bytes / 1e6);
}

void nib_print_plan(const nib_plan *p)
{
    print_table(p);
    nib_print_totals(p);
    printf("about %.0f MB of memory", (double)p->peak_memory / 1e6);
    if (p->disk_free != UINT64_MAX) printf(", %.1f GB of disk free", (double)p->disk_free / 1e9);
    putchar('\n');
}

nib_code nib_print_result(const nib_plan *p, const nib_quantize_result *r,
                          const nib_solve_report *solved, nib_err *err)
{
    nib_json *j = nib_plan_json(p);
    bool ok = j != NULL;
    if (r)
        ok = ok && nib_json_add_num(j, "seconds", r->seconds) &&
             nib_json_add_num(j, "zero_importance_blocks", (double)r->zero_importance_blocks) &&
             nib_json_add_num(j, "rows_without_zero", (double)r->rows_without_zero);
    if (solved) ok = ok && nib_solve_report_json(j, solved);
    return nib_print_json(j, ok, err);
}

void nib_print_solved(const nib_solve_report *r, const char *ranges)
{
    double rtn = 0, solved = 0;
    for (size_t i = 0; i < r->n; i++) rtn += r->line[i].rtn, solved += r->line[i].solved;
    printf("%zu windows of %zu tokens", r->windows, r->n_ctx);
    if (r->n_rescaled) printf(", %zu inputs of linear layers rescaled", r->n_rescaled);
    if (r->n)
        printf(", %zu weights solved with an output error %.0f %% below rounding to nearest with "
               "importances",
               r->n, rtn > 0 ? 100 * (1 - solved / rtn) : 0);
    if (ranges) printf(", ranges by %s", ranges);
    putchar('\n');
    if (r->kl.n)
        printf("on %zu held-out window%s: KL divergence %.5f +/- %.5f, same top token %.2f %%\n",
               r->held_out, r->held_out == 1 ? "" : "s", r->kl.kl, r->kl.error,
               100 * r->kl.same_top);
    if (r->from_stats)
        puts(
            "no windows were held out of the statistics; 'nibble compare' measures the divergence");
}
