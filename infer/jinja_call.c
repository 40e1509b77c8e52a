/* SPDX-License-Identifier: MIT */
/* infer/jinja_call.c - functions, methods of collections, and arguments; see jinja_impl.h.
 * Tests: tests/infer/test_jinja_golden.c. */
#include "infer/jinja_impl.h"

#include <string.h>
#include <time.h>

/* ---- arguments ---- */

/* Length of the i-th word of a list; *word NULL when there are not as many. */
static size_t word_at(const char *list, size_t i, const char **word)
{
    for (; *list && i; i--) {
        list += strcspn(list, " ");
        list += *list == ' ';
    }
    *word = *list ? list : NULL;
    return strcspn(list, " ");
}

bool nib_jbind(nib_jrun *r, nib_jparams *p, const nib_jargs *args, const char *what,
               const char *list)
{
    const char *word;
    size_t n = 0, len;
    *p = (nib_jparams){0};
    while (n < NIB_JPARAMS_MAX && (word_at(list, n, &word), word)) n++;
    if (args->n > n) {
        nib_jfail(r, "'%s' takes at most %zu arguments, not %zu", what, n, args->n);
        return false;
    }
    for (size_t i = 0; i < args->n; i++) {
        p->v[i] = args->v[i];
        p->given[i] = true;
    }
    for (size_t k = 0; k < args->n_named; k++) {
        const nib_jv name = args->name[args->n + k];
        size_t i = 0;
        for (; i < n; i++)
            if ((len = word_at(list, i, &word)) == name.n && !memcmp(word, name.u.s, len)) break;
        if (i == n || p->given[i]) {
            nib_jfail(r, "'%s': the argument '%.*s' is %s", what, (int)name.n, name.u.s,
                      i == n ? "not known" : "given twice");
            return false;
        }
        p->v[i] = args->v[args->n + k];
        p->given[i] = true;
    }
    return true;
}

int64_t nib_jint(nib_jrun *r, const nib_jparams *p, size_t i, int64_t otherwise)
{
    if (!p->given[i]) return otherwise;
    if (p->v[i].kind == NIB_JV_INT) return p->v[i].u.i;
    if (p->v[i].kind == NIB_JV_BOOL) return p->v[i].u.b;
    nib_jfail(r, "a whole number expected, found '%s'", nib_jv_type(p->v[i]));
    return otherwise;
}

bool nib_jflag(const nib_jparams *p, size_t i, bool otherwise)
{
    return p->given[i] ? nib_jv_true(p->v[i]) : otherwise;
}

/* ---- functions ---- */

static nib_jv raise_exception(nib_jrun *r, const nib_jargs *args)
{
    nib_jparams p;
    if (!nib_jbind(r, &p, args, "raise_exception", "message")) return p.v[0];
    const nib_jv s = nib_jv_to_str(r, p.v[0]);
    return nib_jfail(r, "the template refuses the conversation: %.*s", s.n < 300 ? (int)s.n : 300,
                     s.kind == NIB_JV_STR ? s.u.s : "");
}

static nib_jv strftime_now(nib_jrun *r, const nib_jargs *args)
{
    enum { ROOM = 256 };
    nib_jparams p;
    struct tm day = {.tm_year = NIB_JINJA_YEAR - 1900,
                     .tm_mon = NIB_JINJA_MONTH - 1,
                     .tm_mday = NIB_JINJA_DAY,
                     .tm_wday = 5,
                     .tm_yday = 207};
    if (!nib_jbind(r, &p, args, "strftime_now", "format")) return p.v[0];
    if (p.v[0].kind != NIB_JV_STR || p.v[0].n >= ROOM)
        return nib_jfail(r, "'strftime_now' wants a short string");
    char format[ROOM], *text = nib_jalloc(r, ROOM, 1);
    if (!text) return nib_jv_of(NIB_JV_UNDEFINED);
    memcpy(format, p.v[0].u.s, p.v[0].n);
    format[p.v[0].n] = 0;
    const size_t n = strftime(text, ROOM, format, &day);
    if (!n && *format) return nib_jfail(r, "'strftime_now': the date is too long");
    return nib_jv_str(text, n);
}

static nib_jv range(nib_jrun *r, const nib_jargs *args)
{
    enum { RANGE_MAX = 100000 }; /* of Jinja's sandbox */
    nib_jparams p;
    if (!nib_jbind(r, &p, args, "range", "start stop step")) return p.v[0];
    if (!p.given[0]) return nib_jfail(r, "'range' wants one to three arguments");
    const int64_t step = nib_jint(r, &p, 2, 1), start = p.given[1] ? nib_jint(r, &p, 0, 0) : 0,
                  stop = nib_jint(r, &p, p.given[1] ? 1 : 0, 0);
    const int64_t limit = (int64_t)1 << 60;
    if (!step || step > limit || step < -limit || start > limit || start < -limit || stop > limit ||
        stop < -limit)
        return nib_jfail(r, "'range': the step is zero, or a number beyond 2^60");
    const int64_t n = step > 0 ? (stop > start ? (stop - start - 1) / step + 1 : 0)
                               : (stop < start ? (start - stop - 1) / -step + 1 : 0);
    if (n > RANGE_MAX) return nib_jfail(r, "'range' of more than %d numbers", RANGE_MAX);
    nib_jv v = nib_jv_list(r, NIB_JV_RANGE, (size_t)n);
    nib_jcharge(r, 16 * (size_t)n);
    for (size_t i = 0; i < v.u.list->n; i++) v.u.list->v[i] = nib_jv_int(start + (int64_t)i * step);
    return v;
}

/* dict(d, a=1): a copy of d and what is named. */
static void put_all(nib_jrun *r, nib_jdict *d, const nib_jargs *args, const char *what)
{
    if (args->n > 1) nib_jfail(r, "'%s' takes at most one argument without a name", what);
    if (args->n && args->v[0].kind != NIB_JV_DICT)
        nib_jfail(r, "'%s' of a '%s' is not supported", what, nib_jv_type(args->v[0]));
    for (size_t i = 0; args->n && !r->rc && i < args->v[0].u.dict->n; i++)
        nib_jdict_put(r, d, args->v[0].u.dict->key[i], args->v[0].u.dict->value[i]);
    for (size_t i = 0; i < args->n_named && !r->rc; i++)
        nib_jdict_put(r, d, args->name[args->n + i], args->v[args->n + i]);
}

static nib_jv make_namespace(nib_jrun *r, const nib_jargs *args)
{
    nib_jv v = nib_jv_of(NIB_JV_NAMESPACE);
    if (!(v.u.space = nib_jscope_new(r, NULL))) return nib_jv_of(NIB_JV_UNDEFINED);
    put_all(r, &v.u.space->names, args, "namespace");
    return v;
}

static nib_jv make_dict(nib_jrun *r, const nib_jargs *args)
{
    nib_jv v = nib_jv_dict(r, args->n_named);
    if (v.kind == NIB_JV_DICT) put_all(r, v.u.dict, args, "dict");
    return v;
}

static nib_jv unknown(nib_jrun *r, const nib_jargs *args)
{
    (void)args;
    return nib_jfail(r, "the functions lipsum, cycler and joiner are not supported");
}

nib_jv nib_jglobal(nib_jrun *r, nib_jv name)
{
    static const nib_jfunction all[] = {
        {"raise_exception", raise_exception},
        {"strftime_now", strftime_now},
        {"range", range},
        {"namespace", make_namespace},
        {"dict", make_dict},
        {"lipsum", unknown},
        {"cycler", unknown},
        {"joiner", unknown},
    };
    nib_jv v = nib_jv_of(NIB_JV_FUNCTION);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (nib_jv_is(name, all[i].name)) {
            v.u.function = &all[i];
            return v;
        }
    return nib_jv_undefined(r, "'%.*s' is undefined", (int)name.n, name.u.s);
}

/* ---- methods of collections ---- */

static nib_jv dict_get(nib_jrun *r, nib_jv d, const nib_jparams *p)
{
    const ptrdiff_t at = nib_jdict_find(r, d.u.dict, p->v[0]);
    if (at >= 0) return d.u.dict->value[at];
    return p->given[1] ? p->v[1] : nib_jv_of(NIB_JV_NONE);
}

static nib_jv view_of(nib_jrun *r, const nib_jv *v, size_t n, const char *name)
{
    nib_jv all = nib_jv_list(r, NIB_JV_VIEW, n);
    all.u.list->view = name;
    if (all.u.list->n) memcpy(all.u.list->v, v, n * sizeof *v);
    return all;
}
static nib_jv dict_keys(nib_jrun *r, nib_jv d, const nib_jparams *p)
{
    (void)p;
    return view_of(r, d.u.dict->key, d.u.dict->n, "dict_keys");
}
static nib_jv dict_values(nib_jrun *r, nib_jv d, const nib_jparams *p)
{
    (void)p;
    return view_of(r, d.u.dict->value, d.u.dict->n, "dict_values");
}
static nib_jv dict_items(nib_jrun *r, nib_jv d, const nib_jparams *p)
{
    (void)p;
    nib_jv all = nib_jv_list(r, NIB_JV_VIEW, d.u.dict->n);
    all.u.list->view = "dict_items";
    nib_jcharge(r, 16 * d.u.dict->n);
    for (size_t i = 0; i < all.u.list->n; i++)
        all.u.list->v[i] = nib_jv_pair(r, d.u.dict->key[i], d.u.dict->value[i]);
    return all;
}

/* What cannot be changed needs no copy. */
static nib_jv same(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    (void)r;
    (void)p;
    return v;
}

static nib_jv list_count(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    int64_t n = 0;
    for (size_t i = 0; i < v.u.list->n && nib_jcharge(r, 16); i++)
        n += nib_jv_equal(r, v.u.list->v[i], p->v[0]);
    return nib_jv_int(n);
}
static nib_jv list_index(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    for (size_t i = 0; i < v.u.list->n && nib_jcharge(r, 16); i++)
        if (nib_jv_equal(r, v.u.list->v[i], p->v[0])) return nib_jv_int((int64_t)i);
    return nib_jfail(r, "'index': the list has no such element");
}

static nib_jv loop_cycle(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    size_t n = 0;
    while (n < NIB_JPARAMS_MAX && p->given[n]) n++;
    return n ? p->v[v.u.loop->at % n] : nib_jfail(r, "'cycle' of nothing");
}
static nib_jv loop_changed(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    nib_jv now = nib_jv_list(r, NIB_JV_TUPLE, NIB_JPARAMS_MAX);
    for (size_t i = 0; i < now.u.list->n; i++) now.u.list->v[i] = p->v[i];
    const bool changed = !nib_jv_equal(r, now, v.u.loop->changed);
    v.u.loop->changed = now;
    return nib_jv_bool(changed);
}

static const nib_jmethod_row dict_methods[] = {{"get", "key default", dict_get},
                                               {"keys", "", dict_keys},
                                               {"values", "", dict_values},
                                               {"items", "", dict_items},
                                               {"copy", "", same},
                                               {"fromkeys", "", NULL},
                                               {0}};
static const nib_jmethod_row list_methods[] = {
    {"copy", "", same}, {"count", "value", list_count}, {"index", "value", list_index}, {0}};
static const nib_jmethod_row tuple_methods[] = {
    {"count", "value", list_count}, {"index", "value", list_index}, {0}};
static const nib_jmethod_row loop_methods[] = {
    {"cycle", "a b c d e f", loop_cycle}, {"changed", "a b c d e f", loop_changed}, {0}};

/* Methods that would change what they are called on: the sandbox has them undefined. */
static const struct {
    nib_jkind kind;
    const char *name;
} changing[] = {
    {NIB_JV_LIST, "append"},     {NIB_JV_LIST, "extend"}, {NIB_JV_LIST, "insert"},
    {NIB_JV_LIST, "pop"},        {NIB_JV_LIST, "remove"}, {NIB_JV_LIST, "reverse"},
    {NIB_JV_LIST, "sort"},       {NIB_JV_LIST, "clear"},  {NIB_JV_DICT, "pop"},
    {NIB_JV_DICT, "popitem"},    {NIB_JV_DICT, "clear"},  {NIB_JV_DICT, "update"},
    {NIB_JV_DICT, "setdefault"},
};

bool nib_jmethod_find(nib_jrun *r, nib_jv v, nib_jv name, nib_jv *out)
{
    const nib_jmethod_row *row = v.kind == NIB_JV_STR     ? nib_jstr_methods
                                 : v.kind == NIB_JV_DICT  ? dict_methods
                                 : v.kind == NIB_JV_LIST  ? list_methods
                                 : v.kind == NIB_JV_TUPLE ? tuple_methods
                                 : v.kind == NIB_JV_LOOP  ? loop_methods
                                                          : NULL;
    for (size_t i = 0; i < sizeof changing / sizeof *changing; i++)
        if (v.kind == (uint8_t)changing[i].kind && nib_jv_is(name, changing[i].name)) {
            *out = nib_jv_undefined(r, "'%s' would change a %s, which templates may not",
                                    changing[i].name, nib_jv_type(v));
            return true;
        }
    for (; row && row->name; row++) {
        if (!nib_jv_is(name, row->name)) continue;
        nib_jmethod *m = nib_jalloc(r, 1, sizeof *m);
        *out = nib_jv_of(m ? NIB_JV_METHOD : NIB_JV_UNDEFINED);
        if (!m) return true;
        *m = (nib_jmethod){.self = v, .name = row->name, .params = row->params, .call = row->call};
        out->u.method = m;
        return true;
    }
    return false;
}

static nib_jv call_method(nib_jrun *r, const nib_jmethod *m, const nib_jargs *args)
{
    nib_jparams p;
    if (m->params && !m->call) return nib_jfail(r, "the method '%s' is not supported", m->name);
    /* Of a string marked safe these would have to escape what comes from elsewhere. */
    if (m->self.safe && (!m->params || !strcmp(m->name, "replace") || !strcmp(m->name, "join")))
        return nib_jfail(r, "'%s' of a string marked safe is not supported", m->name);
    if (!m->params) return nib_jstr_format(r, m->self, args);
    if (!nib_jbind(r, &p, args, m->name, m->params)) return p.v[0];
    return m->call(r, m->self, &p);
}

/* ---- macros ---- */

static const nib_jv *argument_named(const nib_jargs *args, nib_jv name)
{
    for (size_t k = 0; k < args->n_named; k++) {
        const nib_jv n = args->name[args->n + k];
        if (n.n == name.n && !memcmp(n.u.s, name.u.s, n.n)) return &args->v[args->n + k];
    }
    return NULL;
}

static nib_jv call_macro(nib_jrun *r, const nib_jmacro *m, const nib_jargs *args)
{
    const nib_jv title = m->node->value;
    nib_jscope *scope = nib_jscope_new(r, m->scope), *caller = r->scope;
    size_t i = 0, used = 0;
    if (!scope) return nib_jv_of(NIB_JV_UNDEFINED);
    for (const nib_jnode *param = m->node->a->list; param && !r->rc; param = param->next, i++) {
        const nib_jv *named = argument_named(args, param->value);
        nib_jv v;
        if (named && i < args->n)
            return nib_jfail(r, "'%.*s': the argument '%.*s' is given twice", (int)title.n,
                             title.u.s, (int)param->value.n, param->value.u.s);
        used += named != NULL;
        if (i < args->n) {
            v = args->v[i];
        } else if (named) {
            v = *named;
        } else if (param->a) {
            r->scope = scope;
            v = nib_jeval(r, param->a);
            r->scope = caller;
        } else {
            v = nib_jv_undefined(r, "parameter '%.*s' was not provided", (int)param->value.n,
                                 param->value.u.s);
        }
        nib_jset(r, scope, param->value, v);
    }
    if (args->n > i || used < args->n_named)
        return nib_jfail(r, "the macro '%.*s' has no such argument, or fewer of them", (int)title.n,
                         title.u.s);
    return nib_jcapture(r, m->node->list, scope);
}

nib_jv nib_jcall(nib_jrun *r, nib_jv f, const nib_jargs *args)
{
    if (r->rc || !nib_jcharge(r, 0)) return nib_jv_of(NIB_JV_UNDEFINED);
    switch (f.kind) {
    case NIB_JV_FUNCTION: return f.u.function->call(r, args);
    case NIB_JV_METHOD: return call_method(r, f.u.method, args);
    case NIB_JV_MACRO: return call_macro(r, f.u.macro, args);
    case NIB_JV_UNDEFINED: return nib_jfail(r, "%.*s", (int)f.n, f.u.s);
    default: return nib_jfail(r, "a '%s' cannot be called", nib_jv_type(f));
    }
}
