/* SPDX-License-Identifier: MIT */
/* formats/hf_weights.c - see hf_weights.h. Tests: tests/formats/test_hf.c. */
#include "formats/hf_weights.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES_MAX = 1 << 16 };

static const char WEIGHTS[] = ".safetensors", INDEX[] = ".safetensors.index.json";

/* ---- lists of names ---- */

typedef struct {
    char **v; /* [n] owned */
    size_t n, cap;
} names;

static void names_free(names *l)
{
    for (size_t i = 0; i < l->n; i++) nib_free(l->v[i]);
    nib_free(l->v);
    *l = (names){0};
}

static nib_code names_add(names *l, const char *name, nib_err *err)
{
    if (l->n == NAMES_MAX) return nib_fail(err, NIB_EFORMAT, "more than %d files", NAMES_MAX);
    if (l->n == l->cap) {
        const size_t cap = l->cap ? 2 * l->cap : 16;
        char **grown = nib_grow(l->v, l->cap, cap, sizeof *grown);
        if (!grown) return nib_fail_nomem(err, "file names");
        l->v = grown;
        l->cap = cap;
    }
    if (!(l->v[l->n] = nib_strdup(name))) return nib_fail_nomem(err, "file names");
    l->n++;
    return NIB_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static nib_code list_folder(names *l, const char *dir, nib_err *err)
{
    nib_code rc = NIB_OK;
    DIR *d = opendir(dir);
    if (!d) return nib_fail_sys(err, errno, "%s", dir);
    for (struct dirent *e; !rc && (e = readdir(d));)
        if (e->d_name[0] != '.') rc = names_add(l, e->d_name, err);
    closedir(d);
    if (rc) return nib_wrap(err, "%s", dir);
    qsort(l->v, l->n, sizeof *l->v, by_name);
    return NIB_OK;
}

/* ---- what the names say ---- */

static bool begins_with(const char *s, const char *start)
{
    return !strncmp(s, start, strlen(start));
}

/* Weights of a model in Hugging Face's form, as far as a name can say. */
static bool is_weights(const char *name)
{
    return nib_ends_with(name, WEIGHTS) && !begins_with(name, "adapter_") &&
           !begins_with(name, "consolidated");
}

/* "NAME-00002-of-00003.safetensors": the 2, the 3, and the length of NAME. */
static bool parse_shard(const char *name, size_t *stem, unsigned *number, unsigned *of)
{
    static const char form[] = "-00000-of-00000.safetensors";
    const size_t n = strlen(name), k = sizeof form - 1;
    if (n <= k) return false;
    *stem = n - k;
    for (size_t i = 0; i < k; i++) {
        const char c = name[*stem + i];
        if (form[i] == '0' ? c < '0' || c > '9' : c != form[i]) return false;
    }
    *number = (unsigned)strtoul(name + *stem + 1, NULL, 10);
    *of = (unsigned)strtoul(name + *stem + sizeof "-00000-of-" - 1, NULL, 10);
    return true;
}

/* Sorted names of several files, without an index: are they all the shards of one model? */
static nib_code check_shards(const names *l, const char *dir, nib_err *err)
{
    size_t stem, first_stem = 0;
    unsigned number, of, first_of = 0;
    for (size_t i = 0; i < l->n; i++) {
        const char *name = l->v[i];
        const bool shard = parse_shard(name, &stem, &number, &of);
        if (!i && shard) first_stem = stem, first_of = of;
        if (!shard || stem != first_stem || of != first_of || strncmp(name, l->v[0], stem))
            return nib_fail(err, NIB_EFORMAT,
                            "%s: holds several safetensors files, '%s' and '%s', and no index "
                            "that says which belong to the model",
                            dir, l->v[0], i ? name : l->v[1]);
        if (number != i + 1) break;
        if (i + 1 == l->n && l->n == of) return NIB_OK;
    }
    return nib_fail(err, NIB_EFORMAT,
                    "%s: of the %u files of the model, '%s' and so on, %zu are there", dir,
                    first_of, l->v[0], l->n);
}

/* ---- folders without weights ---- */

static const char *find(const names *l, const char *start, const char *end)
{
    for (size_t i = 0; i < l->n; i++)
        if (begins_with(l->v[i], start) && nib_ends_with(l->v[i], end)) return l->v[i];
    return NULL;
}

/* What is there in their place. */
static nib_code explain(const names *l, const char *dir, nib_err *err)
{
    static const struct {
        const char *start, *end, *says;
    } kinds[] = {
        {"adapter_", "",
         "is of an adapter (LoRA), which is no model: merge it into its base model first, in PEFT "
         "by merge_and_unload(), and give the folder of that"},
        {"consolidated", "",
         "is in the publisher's own form, which nibble does not read: give the folder in Hugging "
         "Face's form, with model.safetensors"},
        {"", ".gguf", "is a model by itself: give the file"},
        {"", ".bin",
         "holds pickled PyTorch weights, which nibble does not read: save the model as "
         "safetensors, "
         "in Transformers by from_pretrained() and save_pretrained()"},
        {"", ".pt",
         "holds pickled PyTorch weights, which nibble does not read: convert it to "
         "safetensors first"},
        {"", ".pth",
         "holds pickled PyTorch weights, which nibble does not read: convert it to "
         "safetensors first"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const char *name = find(l, kinds[i].start, kinds[i].end);
        if (name)
            return nib_fail(err, NIB_EFORMAT, "%s: holds no safetensors of a model; '%s' %s", dir,
                            name, kinds[i].says);
    }
    return nib_fail(err, NIB_EFORMAT, "%s: holds neither %s nor %s", dir, NIB_HF_SINGLE,
                    NIB_HF_INDEX);
}

/* ---- together ---- */

static nib_code take(nib_hf_weights *w, names *l, bool (*belongs)(const char *), nib_err *err)
{
    w->file = nib_calloc(l->n, sizeof *w->file);
    if (!w->file) return nib_fail_nomem(err, "file names");
    for (size_t i = 0; i < l->n; i++) {
        if (!belongs(l->v[i])) continue;
        w->file[w->n++] = l->v[i];
        l->v[i] = NULL;
    }
    return NIB_OK;
}

static bool is_index(const char *name)
{
    return nib_ends_with(name, INDEX);
}

/* Neither file of the usual name is there. */
static nib_code find_others(nib_hf_weights *w, names *l, const char *dir, nib_err *err)
{
    size_t indexes = 0, weights = 0;
    for (size_t i = 0; i < l->n; i++) {
        indexes += is_index(l->v[i]);
        weights += is_weights(l->v[i]);
    }
    if (!indexes && !weights) return explain(l, dir, err);
    nib_code rc = take(w, l, indexes == 1 ? is_index : is_weights, err);
    if (rc) return rc;
    if (indexes == 1) {
        w->index = w->file[0];
        w->n = 0;
        return NIB_OK;
    }
    const names taken = {w->file, w->n, 0};
    size_t stem;
    unsigned number, of = 1;
    const bool alone = w->n == 1 && (!parse_shard(w->file[0], &stem, &number, &of) || of == 1);
    return alone ? NIB_OK : check_shards(&taken, dir, err);
}

nib_code nib_hf_find_weights(nib_hf_weights *w, const char *dir, nib_err *err)
{
    names l = {0};
    *w = (nib_hf_weights){0};
    nib_code rc = list_folder(&l, dir, err);
    for (int which = 0; which < 2 && !rc; which++) {
        const char *name = which ? NIB_HF_INDEX : NIB_HF_SINGLE;
        if (!bsearch(&name, l.v, l.n, sizeof name, by_name)) continue;
        char *copy = nib_strdup(name);
        if (!copy || !(w->file = nib_calloc(1, sizeof *w->file))) {
            nib_free(copy);
            rc = nib_fail_nomem(err, "file names");
        } else if (which) {
            w->index = copy;
        } else {
            w->file[w->n++] = copy;
        }
        goto done;
    }
    if (!rc) rc = find_others(w, &l, dir, err);
done:
    names_free(&l);
    return rc;
}

void nib_hf_weights_free(nib_hf_weights *w)
{
    for (size_t i = 0; i < w->n; i++) nib_free(w->file[i]);
    nib_free(w->file);
    nib_free(w->index);
    *w = (nib_hf_weights){0};
}
