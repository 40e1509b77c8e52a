/* SPDX-License-Identifier: MIT */
/* cli/kv_opts.c - see kv_opts.h. Tests: tests/cases/commands. */
#include "cli/kv_opts.h"

#include "base/name.h"

const char *const nib_kv_rotations[] = {"auto", "on", "off", NULL};

nib_kv_choice nib_kv_how(const nib_kv_opts *o)
{
    const nib_kv_format *f = nib_kv_find(o->format);
    const bool on = nib_name_same(o->rotation, "on"), off = nib_name_same(o->rotation, "off");
    if (!f || f->type == NIB_F32) return (nib_kv_choice){NULL, false};
    return (nib_kv_choice){f, on || (f->rotated && !off)};
}
