/* SPDX-License-Identifier: MIT */
/* make_outliers - write the twin of a model that is harder to quantize (see outliers.h).
 *
 *   make_outliers [--channels N] [--seed N] [--dtype f32|bf16] FOLDER OUT
 *
 * A tool of the tests: its options are parsed plainly, without the program's option tables. */
#include "base/cpu.h"
#include "base/par.h"
#include "tests/support/outliers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int usage(const char *what)
{
    fprintf(stderr,
            "make_outliers: wrong or missing: %s\n"
            "usage: make_outliers [--channels N of 256] [--seed N] [--dtype f32|bf16] FOLDER OUT\n",
            what);
    return 2;
}

static bool take_option(gen_outlier_spec *s, const char *name, const char *value)
{
    if (!strcmp(name, "--dtype")) {
        s->dtype = !strcmp(value, "bf16") ? NIB_BF16 : NIB_F32;
        return !strcmp(value, "bf16") || !strcmp(value, "f32");
    }
    char *end;
    unsigned long v = strtoul(value, &end, 10);
    if (end == value || *end) return false;
    if (!strcmp(name, "--seed")) return s->seed = v, true;
    if (strcmp(name, "--channels") || !v || v > 256) return false;
    s->channels = (uint32_t)v;
    return true;
}

int main(int argc, char **argv)
{
    gen_outlier_spec s = {.dtype = NIB_F32, .channels = 4, .seed = 1};
    const char *folder[2] = {NULL, NULL};
    size_t n = 0;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2)) {
            if (n == 2) return usage(argv[i]);
            folder[n++] = argv[i];
        } else if (i + 1 == argc || !take_option(&s, argv[i], argv[i + 1])) {
            return usage(argv[i]);
        } else {
            i++;
        }
    }
    if (n < 2) return usage("FOLDER OUT");
    nib_err err = {0};
    nib_ctx ctx = {.threads = nib_par_cores(), .cpu = nib_cpu_detect()};
    if (gen_outliers(&s, folder[0], folder[1], &ctx, &err)) {
        fprintf(stderr, "make_outliers: %s\n", err.msg);
        return 1;
    }
    return 0;
}
