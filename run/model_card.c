/* SPDX-License-Identifier: MIT */
/* run/model_card.c - see model_card.h. */
#include "run/model_card.h"

#include "base/file.h"
#include "base/str.h"

#include <stdio.h>
#include <string.h>

enum { CARD_MAX = 16 << 20, ROW_MAX = 600, HEAD_MAX = 2000 };

/* The table's lines stand between these. */
static const char begin[] = "<!-- nibble: files -->\n", end[] = "<!-- nibble: end of files -->\n";

/* "| [NAME](NAME) |": rows are told apart by what they begin with. */
static void put_row(char row[ROW_MAX], const nib_model_card *c)
{
    const nib_plan *p = c->plan;
    const nib_output_files *l = &p->layout;
    const bool file = p->recipe.format == NIB_FORMAT_GGUF;
    const char *name = nib_path_base(file ? l->file_path[0] : p->recipe.out);
    char parts[32] = "", kl[32] = "not measured";
    if (l->n_files > 1) snprintf(parts, sizeof parts, " (%zu files)", l->n_files);
    if (c->kl >= 0) snprintf(kl, sizeof kl, "%.5f", c->kl);
    snprintf(row, ROW_MAX, "| [%.200s](%.200s)%s | %s | %.2f | %.2f GB | %s |\n", name, name, parts,
             p->label, p->bits_per_weight, (double)l->total_bytes / 1e9, kl);
}

/* A card of this one row. */
static void put_card(char card[HEAD_MAX + ROW_MAX], const nib_model_card *c, const char *row)
{
    const bool gguf = c->plan->recipe.format == NIB_FORMAT_GGUF;
    snprintf(card, HEAD_MAX + ROW_MAX,
             "---\n"
             "base_model: %.200s\n"
             "base_model_relation: quantized\n"
             "%s"
             "tags:\n"
             "- nibble\n"
             "---\n\n"
             "# %.200s, quantized\n\n"
             "Made of [%.200s](https://huggingface.co/%.200s) with nibble %s. How, and from which "
             "files, each says itself: `nibble inspect`, `nibble verify`.\n\n"
             "%s"
             "| file | format | bits per weight | size | KL divergence |\n"
             "|---|---|---|---|---|\n"
             "%s%s",
             c->base_model, gguf ? "library_name: gguf\n" : "library_name: transformers\n",
             nib_path_base(c->base_model), c->base_model, c->base_model, NIB_VERSION, begin, row,
             end);
}

/* The line of the table that begins as `row` does, up to its second '|'; NULL: there is none. */
static char *find_row(char *table, const char *stop, const char *row)
{
    const size_t n = (size_t)(strstr(row, ")") - row) + 1;
    for (char *line = table; line < stop; line = strchr(line, '\n') + 1)
        if (!strncmp(line, row, n)) return line;
    return NULL;
}

/* The card that is there, with the row in its place. */
static nib_code change(char **out, char *card, const char *path, const char *row, nib_err *err)
{
    char *table = strstr(card, begin), *stop = table ? strstr(table, end) : NULL;
    if (!stop)
        return nib_fail(err, NIB_EINVAL,
                        "%s: is there and has no table of files between '%.*s' and '%.*s'; add "
                        "these lines, or name another file",
                        path, (int)(sizeof begin - 2), begin, (int)(sizeof end - 2), end);
    char *old = find_row(table, stop, row), *at = old ? old : stop;
    const char *rest = old ? strchr(old, '\n') + 1 : stop;
    const size_t room = strlen(card) + strlen(row) + 1;
    if (!(*out = nib_alloc(room, 1))) return nib_fail_nomem(err, "a model card");
    snprintf(*out, room, "%.*s%s%s", (int)(at - card), card, row, rest);
    return NIB_OK;
}

nib_code nib_model_card_write(const char *path, const nib_model_card *c, nib_err *err)
{
    char row[ROW_MAX], fresh[HEAD_MAX + ROW_MAX], *card = NULL, *changed = NULL;
    size_t n;
    put_row(row, c);
    if (!nib_file_exists(path)) {
        put_card(fresh, c, row);
        return nib_file_save(path, fresh, strlen(fresh), false, err);
    }
    nib_code rc = nib_file_slurp(&card, &n, path, CARD_MAX, err);
    if (!rc) rc = change(&changed, card, path, row, err);
    if (!rc) rc = nib_file_save(path, changed, strlen(changed), true, err);
    nib_free(changed);
    nib_free(card);
    return rc;
}
