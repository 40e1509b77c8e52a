/* SPDX-License-Identifier: MIT */
/* infer/jinja_render.c - statements, and a template as a whole; see jinja.h and jinja_impl.h.
 *
 * Scopes: `for`, macros, blocks that are set or filtered, and `generation` have one of their own,
 * which ends with them; `if` has none. A macro sees what was where it was made. (Jinja decides
 * where a name belongs before it runs: a variable that it is given, that loops or macros read, and
 * that is only set behind them, is undefined there until then. Here it has the given value.)
 * Tests: tests/infer/test_jinja_golden.c. */
#include "infer/jinja_impl.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- limits and errors ---- */

nib_jv nib_jfail(nib_jrun *r, const char *fmt, ...)
{
    char what[400];
    va_list ap;
    if (!r->rc) {
        va_start(ap, fmt);
        vsnprintf(what, sizeof what, fmt, ap);
        va_end(ap);
        r->rc = nib_fail(r->err, NIB_EFORMAT, "line %u: %s", r->line, what);
    }
    return nib_jv_of(NIB_JV_UNDEFINED);
}

bool nib_jcharge(nib_jrun *r, size_t n)
{
    const size_t steps = 1 + n / 64;
    if (r->steps < steps) {
        r->steps = 0;
        nib_jfail(r, "more than %d steps of work", NIB_JINJA_STEPS_MAX);
    } else {
        r->steps -= steps;
    }
    return !r->rc;
}

bool nib_jenter(nib_jrun *r)
{
    if (++r->depth > NIB_JINJA_DEPTH_MAX)
        nib_jfail(r, "more than %d levels deep", NIB_JINJA_DEPTH_MAX);
    return nib_jcharge(r, 0);
}

void nib_jleave(nib_jrun *r)
{
    r->depth--;
}

void *nib_jalloc(nib_jrun *r, size_t n, size_t size)
{
    size_t bytes;
    if (!nib_mul(n, size, &bytes) || bytes > NIB_JINJA_MEMORY_MAX - r->arena.total)
        return nib_jfail(r, "more than %d MiB of values", NIB_JINJA_MEMORY_MAX >> 20), NULL;
    nib_jcharge(r, bytes);
    void *p = nib_arena_alloc(&r->arena, bytes ? bytes : 1, 1, 16);
    if (!p && !r->rc) r->rc = nib_fail_nomem(r->err, "what a template makes");
    return p;
}

void nib_jadd(nib_jrun *r, nib_text *t, const char *p, size_t n)
{
    if (r->rc || !n || !nib_jcharge(r, n)) return;
    if (n > NIB_JINJA_OUTPUT_MAX - t->n)
        nib_jfail(r, "more than %d MiB of text", NIB_JINJA_OUTPUT_MAX >> 20);
    else
        r->rc = nib_text_add(t, p, n, r->err);
}

void nib_jadds(nib_jrun *r, nib_text *t, const char *s)
{
    nib_jadd(r, t, s, strlen(s));
}

/* ---- scopes ---- */

nib_jscope *nib_jscope_new(nib_jrun *r, nib_jscope *outer)
{
    nib_jscope *s = nib_jalloc(r, 1, sizeof *s);
    if (s) *s = (nib_jscope){.outer = outer};
    return s;
}

void nib_jset(nib_jrun *r, nib_jscope *s, nib_jv name, nib_jv value)
{
    if (!r->rc) nib_jdict_put(r, &s->names, name, value);
}

nib_jv nib_jcapture(nib_jrun *r, const nib_jnode *list, nib_jscope *scope)
{
    nib_text text = {0}, *out = r->out;
    nib_jscope *before = r->scope;
    if (!scope) return nib_jv_of(NIB_JV_UNDEFINED);
    r->out = &text;
    r->scope = scope;
    nib_jexec(r, list);
    r->out = out;
    r->scope = before;
    return nib_jv_take(r, &text);
}

/* ---- statements ---- */

static void assign(nib_jrun *r, const nib_jnode *to, nib_jv value);

static void assign_each(nib_jrun *r, const nib_jnode *to, nib_jv value)
{
    const nib_jlist items = nib_jv_items(r, value);
    size_t i = 0;
    for (const nib_jnode *t = to->list; t && !r->rc; t = t->next, i++) {
        if (i >= items.n) break;
        assign(r, t, items.v[i]);
        if (!t->next && i + 1 == items.n) return;
    }
    nib_jfail(r, "there are %zu values for another number of names", items.n);
}

static void assign(nib_jrun *r, const nib_jnode *to, nib_jv value)
{
    if (r->rc) return;
    if (to->type == NIB_JN_NAME) {
        nib_jset(r, r->scope, to->value, value);
    } else if (to->type == NIB_JN_TUPLE) {
        assign_each(r, to, value);
    } else {
        const nib_jv space = nib_jeval(r, to->a);
        r->line = to->line;
        if (space.kind == NIB_JV_NAMESPACE)
            nib_jset(r, space.u.space, to->value, value);
        else
            nib_jfail(r, "only a namespace's attributes can be set, not those of a '%s'",
                      nib_jv_type(space));
    }
}

static void output(nib_jrun *r, const nib_jnode *n)
{
    const nib_jv v = nib_jeval(r, n->a);
    if (!r->rc) nib_jv_write(r, r->out, v, false);
}

/* The items that pass a loop's filter. */
static nib_jlist passing(nib_jrun *r, const nib_jnode *n, nib_jlist all)
{
    nib_jv kept = nib_jv_list(r, NIB_JV_LIST, all.n);
    nib_jscope *outer = r->scope;
    size_t k = 0;
    for (size_t i = 0; i < kept.u.list->n && !r->rc; i++) {
        if (!(r->scope = nib_jscope_new(r, outer))) break;
        assign(r, n->a, all.v[i]);
        if (!r->rc && nib_jv_true(nib_jeval(r, n->c))) kept.u.list->v[k++] = all.v[i];
    }
    r->scope = outer;
    return (nib_jlist){.v = kept.u.list->v, .n = k};
}

static void loop(nib_jrun *r, const nib_jnode *n)
{
    nib_jscope *outer = r->scope;
    nib_jlist all = nib_jv_items(r, nib_jeval(r, n->b));
    if (!r->rc && n->c) all = passing(r, n, all);
    if (r->rc) return;
    if (!all.n && n->d) { /* a scope of its own, too */
        if ((r->scope = nib_jscope_new(r, outer))) nib_jexec(r, n->d->list);
        r->scope = outer;
        return;
    }
    nib_jloop *l = nib_jalloc(r, 1, sizeof *l);
    if (!l) return;
    *l = (nib_jloop){.item = all.v, .n = all.n, .depth = 1};
    nib_jv handle = nib_jv_of(NIB_JV_LOOP);
    handle.u.loop = l;
    for (; l->at < l->n && !r->rc && !r->breaks; l->at++) {
        if (!(r->scope = nib_jscope_new(r, outer))) break;
        nib_jset(r, r->scope, nib_jv_word("loop"), handle);
        assign(r, n->a, l->item[l->at]);
        nib_jexec(r, n->list);
        r->goes_on = false;
    }
    r->breaks = false;
    r->scope = outer;
}

static void choose(nib_jrun *r, const nib_jnode *n)
{
    for (const nib_jnode *b = n->list; b && !r->rc; b = b->next)
        if (!b->a || nib_jv_true(nib_jeval(r, b->a))) {
            nib_jexec(r, b->list);
            return;
        }
}

/* A block's text through the filters behind it. */
static nib_jv filtered(nib_jrun *r, const nib_jnode *n)
{
    const nib_jv before = r->slot, text = nib_jcapture(r, n->list, nib_jscope_new(r, r->scope));
    r->slot = text;
    const nib_jv v = r->rc ? text : nib_jeval(r, n->b);
    r->slot = before;
    return v;
}

static void define_macro(nib_jrun *r, const nib_jnode *n)
{
    nib_jmacro *m = nib_jalloc(r, 1, sizeof *m);
    nib_jv v = nib_jv_of(NIB_JV_MACRO);
    if (!m) return;
    *m = (nib_jmacro){.node = n, .scope = r->scope};
    v.u.macro = m;
    nib_jset(r, r->scope, n->value, v);
}

static void exec(nib_jrun *r, const nib_jnode *n)
{
    nib_jv v;
    r->line = n->line;
    switch (n->type) {
    case NIB_JN_TEXT: nib_jadd(r, r->out, n->value.u.s, n->value.n); break;
    case NIB_JN_OUTPUT: output(r, n); break;
    case NIB_JN_FOR: loop(r, n); break;
    case NIB_JN_IF: choose(r, n); break;
    case NIB_JN_SET:
        v = nib_jeval(r, n->b);
        assign(r, n->a, v);
        break;
    case NIB_JN_SET_BLOCK:
        v = filtered(r, n);
        assign(r, n->a, v);
        break;
    case NIB_JN_MACRO: define_macro(r, n); break;
    case NIB_JN_FILTERED:
        v = filtered(r, n);
        if (!r->rc) nib_jv_write(r, r->out, v, false);
        break;
    case NIB_JN_SCOPE:
        v = nib_jcapture(r, n->list, nib_jscope_new(r, r->scope));
        if (!r->rc) nib_jv_write(r, r->out, v, false);
        break;
    case NIB_JN_BREAK: r->breaks = true; break;
    default: r->goes_on = true; break;
    }
}

void nib_jexec(nib_jrun *r, const nib_jnode *list)
{
    if (nib_jenter(r))
        for (; list && !r->rc && !r->breaks && !r->goes_on; list = list->next) exec(r, list);
    nib_jleave(r);
}

/* ---- a template ---- */

nib_code nib_jinja_parse(nib_jinja **out, const char *text, size_t n, nib_err *err)
{
    nib_jtokens tokens;
    *out = NULL;
    nib_jinja *t = nib_calloc(1, sizeof *t);
    if (!t) return nib_fail_nomem(err, "a template");
    nib_code rc = nib_jlex(&tokens, &t->arena, text, n, err);
    if (!rc) rc = nib_jparse(&t->body, &t->arena, &tokens, err);
    nib_free(tokens.t);
    if (rc) {
        nib_jinja_free(t);
        return rc;
    }
    *out = t;
    return NIB_OK;
}

void nib_jinja_free(nib_jinja *t)
{
    if (!t) return;
    nib_arena_free(&t->arena);
    nib_free(t);
}

nib_code nib_jinja_render(const nib_jinja *t, const nib_jinja_var *vars, size_t n, nib_text *out,
                          nib_err *err)
{
    nib_text text = {0};
    nib_jrun r = {.err = err, .steps = NIB_JINJA_STEPS_MAX, .out = &text};
    if ((r.scope = nib_jscope_new(&r, NULL)))
        for (size_t i = 0; i < n; i++)
            nib_jset(&r, r.scope, nib_jv_word(vars[i].name), nib_jv_from_json(&r, vars[i].value));
    if (!r.rc) nib_jexec(&r, t->body);
    if (!r.rc) r.rc = nib_text_add(out, text.p, text.n, err);
    nib_free(text.p);
    nib_arena_free(&r.arena);
    return r.rc;
}
