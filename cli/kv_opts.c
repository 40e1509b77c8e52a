/* SPDX-License-Identifier: MIT */
/* cli/kv_opts.c - see kv_opts.h. Tests: tests/cases/commands. */
#include "cli/kv_opts.h"

#include "base/name.h"

#include <string.h>

const char *const nib_kv_rotations[] = {"auto", "on", "off", NULL};

static const char *format_of(const nib_kv_opts *o, int of)
{
    return o->of[of] ? o->of[of] : o->format;
}

nib_kv_choice nib_kv_how(const nib_kv_opts *o)
{
    const bool on = nib_name_same(o->rotation, "on"), off = nib_name_same(o->rotation, "off");
    nib_kv_choice how = {0};
    for (int of = 0; of < 2; of++) {
        const nib_kv_format *f = nib_kv_find(format_of(o, of));
        if (f && f->type != NIB_F32) how.of[of] = (nib_kv_side){f, on || (f->rotated && !off)};
    }
    return how;
}

bool nib_kv_add_json(nib_json *j, const nib_kv_opts *o)
{
    const char *k = format_of(o, 0), *v = format_of(o, 1);
    if (!strcmp(k, v)) return nib_json_add_str(j, "kv_cache", k);
    return nib_json_add_str(j, "cache_type_k", k) && nib_json_add_str(j, "cache_type_v", v);
}

void nib_kv_print(const nib_kv_opts *o)
{
    static const char *const sides[] = {"keys", "values"};
    const nib_kv_choice how = nib_kv_how(o);
    const bool alike = how.of[0].format == how.of[1].format;
    if (!nib_kv_has_format(&how)) return;
    for (int of = alike ? 1 : 0; of < 2; of++)
        printf(", %s %s%s", alike ? "keys and values" : sides[of],
               how.of[of].format ? how.of[of].format->name : "f32",
               how.of[of].rotate ? ", rotated" : "");
}

void nib_kv_print_options(FILE *f, const nib_kv_opts *o)
{
    static const nib_kv_opts at_first = NIB_KV_DEFAULT;
    if (strcmp(o->format, at_first.format)) fprintf(f, " --kv-cache %s", o->format);
    for (int of = 0; of < 2; of++)
        if (o->of[of]) fprintf(f, " --cache-type-%c %s", of ? 'v' : 'k', o->of[of]);
    if (strcmp(o->rotation, at_first.rotation)) fprintf(f, " --kv-rotation %s", o->rotation);
}
