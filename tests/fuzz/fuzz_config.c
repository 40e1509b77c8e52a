/* SPDX-License-Identifier: MIT */
/* tests/fuzz/fuzz_config.c - any bytes as config.json beside weights of no model: refused with a
 * message, or the sizes that it gives are ones that the rest of the program can compute with. */
#include "infer/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char folder[] = "/tmp/nibble-fuzz-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[80];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void clean_up(void)
{
    unlink(in_folder("config.json"));
    unlink(in_folder("model.safetensors"));
    rmdir(folder);
}

static void put(const char *name, const void *data, size_t n)
{
    FILE *f = fopen(in_folder(name), "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f)) abort();
}

static void begin(void)
{
    static const char header[] = "{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}";
    uint8_t weights[8 + sizeof header] = {(uint8_t)(sizeof header - 1)};
    if (!mkdtemp(folder) || atexit(clean_up)) abort();
    memcpy(weights + 8, header, sizeof header - 1);
    put("model.safetensors", weights, sizeof weights);
}

static void check(nib_code rc, const nib_err *err)
{
    if (rc && (!err->msg[0] || err->code != rc)) abort();
}

/* Lists of steps for every block, and the places of their registers. */
static void use(const nib_hparams *hp, const nib_arch *a)
{
    nib_model m = {.arch = a, .hp = *hp};
    size_t width[NIB_REG_COUNT], at[NIB_STEPS_MAX];
    double magnitude;
    nib_model_widths(width, hp);
    for (uint32_t l = 0; l < hp->n_layer; l++) {
        const nib_steps *s = nib_model_steps(&m, l);
        if (!s->n) abort();
        if (l < 8) nib_steps_layout(at, s, width);
    }
    for (uint32_t i = 0; i < hp->rope_dim / 2 && i < NIB_ROPE_PAIRS_MAX; i++)
        nib_rope_step(hp, NULL, i, 4096, &magnitude);
    if (!(hp->attn_scale > 0) || !isfinite(hp->attn_scale)) abort();
}

static void write_keys(const nib_hparams *hp, const nib_arch *a)
{
    const nib_model m = {.arch = a, .hp = *hp};
    nib_err err = {0};
    nib_gguf_kvs *kvs = nib_gguf_kvs_new();
    if (!kvs) abort();
    check(nib_model_to_gguf(&m, kvs, &err), &err);
    nib_gguf_kvs_free(kvs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static bool made;
    static nib_hparams hp;
    const nib_arch *a = NULL;
    nib_source *s;
    nib_err err = {0};
    if (!made) begin();
    made = true;
    put("config.json", data, n);
    nib_code rc = nib_source_open(&s, folder, &err);
    check(rc, &err);
    if (rc) return 0;
    err = (nib_err){0};
    rc = nib_config_read(&hp, &a, s, &err);
    check(rc, &err);
    if (!rc) use(&hp, a);
    if (!rc) write_keys(&hp, a);
    nib_source_close(s);
    return 0;
}
