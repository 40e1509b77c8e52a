/* SPDX-License-Identifier: MIT */
/* infer/jinja_eval.c - expressions; see jinja_impl.h. Tests: tests/infer/test_jinja_golden.c. */
#include "infer/jinja_impl.h"

#include <math.h>
#include <string.h>

/* ---- names ---- */

static nib_jv lookup(nib_jrun *r, nib_jv name)
{
    for (const nib_jscope *s = r->scope; s; s = s->outer) {
        const ptrdiff_t at = nib_jdict_find(r, &s->names, name);
        if (at >= 0) return s->names.value[at];
    }
    return nib_jglobal(r, name);
}

/* ---- arithmetic ---- */

static nib_jv no_operator(nib_jrun *r, const char *op, nib_jv a, nib_jv b)
{
    const nib_jv u = a.kind == NIB_JV_UNDEFINED ? a : b;
    if (u.kind == NIB_JV_UNDEFINED) return nib_jfail(r, "%.*s", (int)u.n, u.u.s);
    return nib_jfail(r, "'%s' between '%s' and '%s' is not supported", op, nib_jv_type(a),
                     nib_jv_type(b));
}

static int64_t whole(nib_jv v)
{
    return v.kind == NIB_JV_INT ? v.u.i : v.u.b;
}

/* Python's // and %: the quotient goes down, the rest has the sign of b. */
static nib_jv divide_whole(nib_jrun *r, int64_t a, int64_t b, bool rest)
{
    if (b == -1 && a != INT64_MIN) return nib_jv_int(rest ? 0 : -a);
    if (!b || b == -1) return nib_jfail(r, b ? "a number beyond 2^63" : "division by zero");
    int64_t q = a / b, m = a % b;
    if (m && (m < 0) != (b < 0)) {
        q--;
        m += b;
    }
    return nib_jv_int(rest ? m : q);
}

static nib_jv whole_power(nib_jrun *r, int64_t a, int64_t n)
{
    int64_t v = 1;
    for (; n > 0; n--) {
        if (__builtin_mul_overflow(v, a, &v)) return nib_jfail(r, "a number beyond 2^63");
        if (a == 0 || a == 1 || a == -1) return nib_jv_int(a == -1 && n % 2 == 0 ? 1 : a);
    }
    return nib_jv_int(v);
}

static nib_jv whole_numbers(nib_jrun *r, unsigned op, int64_t a, int64_t b)
{
    int64_t v;
    bool over;
    switch (op) {
    case '+': over = __builtin_add_overflow(a, b, &v); break;
    case '-': over = __builtin_sub_overflow(a, b, &v); break;
    case '*': over = __builtin_mul_overflow(a, b, &v); break;
    case '%': return divide_whole(r, a, b, true);
    case NIB_JOP('/', '/'): return divide_whole(r, a, b, false);
    default: return whole_power(r, a, b);
    }
    return over ? nib_jfail(r, "a number beyond 2^63") : nib_jv_int(v);
}

static nib_jv real_numbers(nib_jrun *r, unsigned op, double a, double b)
{
    if (fpclassify(b) == FP_ZERO && (op == '/' || op == '%' || op == NIB_JOP('/', '/')))
        return nib_jfail(r, "division by zero");
    double m = fmod(a, b);
    switch (op) {
    case '+': return nib_jv_float(a + b);
    case '-': return nib_jv_float(a - b);
    case '*': return nib_jv_float(a * b);
    case '/': return nib_jv_float(a / b);
    case '%':
        if (fpclassify(m) == FP_ZERO) m = copysign(0, b);
        if (m * b < 0) m += b;
        return nib_jv_float(m);
    case NIB_JOP('/', '/'): return nib_jv_float(floor(a / b));
    default: return nib_jv_float(pow(a, b));
    }
}

static nib_jv numbers(nib_jrun *r, unsigned op, nib_jv a, nib_jv b)
{
    const bool real = a.kind == NIB_JV_FLOAT || b.kind == NIB_JV_FLOAT || op == '/' ||
                      (op == NIB_JOP('*', '*') && nib_jv_number(b) < 0);
    return real ? real_numbers(r, op, nib_jv_number(a), nib_jv_number(b))
                : whole_numbers(r, op, whole(a), whole(b));
}

/* Of two strings; one that is marked safe wants the other one escaped. */
static nib_jv add_strings(nib_jrun *r, nib_jv a, nib_jv b)
{
    nib_text t = {0};
    const bool safe = a.safe || b.safe;
    if (safe) {
        a = nib_jstr_escape(r, a);
        b = nib_jstr_escape(r, b);
    }
    if (r->rc) return a;
    nib_jadd(r, &t, a.u.s, a.n);
    nib_jadd(r, &t, b.u.s, b.n);
    nib_jv sum = nib_jv_take(r, &t);
    sum.safe = safe && sum.kind == NIB_JV_STR;
    return sum;
}

static nib_jv add_lists(nib_jrun *r, const nib_jlist *a, const nib_jlist *b, nib_jkind kind)
{
    nib_jv sum = nib_jv_list(r, kind, a->n + b->n);
    nib_jcharge(r, 16 * (a->n + b->n));
    if (!sum.u.list->n) return sum;
    if (a->n) memcpy(sum.u.list->v, a->v, a->n * sizeof *a->v);
    if (b->n) memcpy(sum.u.list->v + a->n, b->v, b->n * sizeof *b->v);
    return sum;
}

/* A string or list, n times. */
static nib_jv repeat(nib_jrun *r, nib_jv v, int64_t n)
{
    nib_text t = {0};
    if (v.kind == NIB_JV_STR) {
        for (int64_t i = 0; i < n && v.n && !r->rc; i++) nib_jadd(r, &t, v.u.s, v.n);
        nib_jv all = nib_jv_take(r, &t);
        all.safe = v.safe && all.kind == NIB_JV_STR;
        return all;
    }
    const size_t k = v.u.list->n, limit = NIB_JINJA_MEMORY_MAX / sizeof(nib_jv);
    if (n < 0 || !k) n = 0;
    if (k && (uint64_t)n > limit / k) return nib_jfail(r, "a list that is too long");
    nib_jv all = nib_jv_list(r, v.kind, k * (size_t)n);
    nib_jcharge(r, 16 * all.u.list->n);
    for (size_t i = 0; i < all.u.list->n; i++) all.u.list->v[i] = v.u.list->v[i % k];
    return all;
}

static bool is_whole(nib_jv v)
{
    return v.kind == NIB_JV_INT || v.kind == NIB_JV_BOOL;
}
static bool repeats(nib_jv v)
{
    return v.kind == NIB_JV_STR || v.kind == NIB_JV_LIST || v.kind == NIB_JV_TUPLE;
}

static nib_jv binary(nib_jrun *r, unsigned op, nib_jv a, nib_jv b)
{
    char text[3] = {(char)(op > 255 ? op >> 8 : op), (char)(op > 255 ? op : 0), 0};
    if (r->rc) return a;
    if (nib_jv_is_number(a) && nib_jv_is_number(b)) return numbers(r, op, a, b);
    if (op == '+' && a.kind == NIB_JV_STR && b.kind == NIB_JV_STR) return add_strings(r, a, b);
    if (op == '+' && a.kind == b.kind && (a.kind == NIB_JV_LIST || a.kind == NIB_JV_TUPLE))
        return add_lists(r, a.u.list, b.u.list, a.kind);
    if (op == '*' && repeats(a) && is_whole(b)) return repeat(r, a, whole(b));
    if (op == '*' && repeats(b) && is_whole(a)) return repeat(r, b, whole(a));
    return no_operator(r, text, a, b);
}

static nib_jv signed_value(nib_jrun *r, nib_jv v, bool minus)
{
    if (v.kind == NIB_JV_FLOAT) return nib_jv_float(minus ? -v.u.f : v.u.f);
    if (is_whole(v) && whole(v) != INT64_MIN) return nib_jv_int(minus ? -whole(v) : whole(v));
    return no_operator(r, minus ? "-" : "+", v, nib_jv_int(0));
}

/* ---- comparisons ---- */

static bool holds(nib_jrun *r, unsigned op, nib_jv a, nib_jv b)
{
    switch (op) {
    case NIB_JOP('=', '='): return nib_jv_equal(r, a, b);
    case NIB_JOP('!', '='): return !nib_jv_equal(r, a, b);
    case '<': return nib_jv_order(r, a, b) < 0;
    case '>': return nib_jv_order(r, a, b) > 0;
    case NIB_JOP('<', '='): return nib_jv_order(r, a, b) <= 0;
    case NIB_JOP('>', '='): return nib_jv_order(r, a, b) >= 0;
    case 'i': return nib_jv_in(r, a, b);
    default: return !nib_jv_in(r, a, b);
    }
}

/* a < b < c is a < b and b < c. */
static nib_jv compare(nib_jrun *r, const nib_jnode *n)
{
    nib_jv a = nib_jeval(r, n->a);
    for (const nib_jnode *o = n->list; o && !r->rc; o = o->next) {
        const nib_jv b = nib_jeval(r, o->a);
        if (r->rc || !holds(r, o->op, a, b)) return nib_jv_bool(false);
        a = b;
    }
    return nib_jv_bool(true);
}

/* ---- slices ---- */

/* Python's bounds of a slice of n items: from *start by step, how many. */
static size_t slice_bounds(int64_t n, const nib_jv part[3], int64_t step, int64_t *start)
{
    const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? n : n - 1;
    int64_t edge[2] = {step > 0 ? low : high, step > 0 ? high : low};
    for (int i = 0; i < 2; i++) {
        if (!is_whole(part[i])) continue;
        int64_t v = whole(part[i]);
        if (v < 0) v = v < -n ? low : v + n;
        edge[i] = v < low ? low : v > high ? high : v;
    }
    *start = edge[0];
    if (step > 0) return edge[1] > edge[0] ? (size_t)((edge[1] - edge[0] - 1) / step + 1) : 0;
    return edge[0] > edge[1] ? (size_t)((edge[0] - edge[1] - 1) / -step + 1) : 0;
}

static nib_jv slice_string(nib_jrun *r, nib_jv s, const nib_jv part[3], int64_t step)
{
    int64_t start;
    const size_t n = slice_bounds((int64_t)nib_jstr_length(r, s), part, step, &start);
    if (!n) return nib_jstr_part(s, 0, 0);
    if (step == 1) {
        const size_t from = nib_jstr_at(r, s, (size_t)start);
        const nib_jv rest = nib_jstr_part(s, from, s.n);
        return nib_jstr_part(rest, 0, nib_jstr_at(r, rest, n));
    }
    const nib_jlist all = nib_jv_items(r, s);
    nib_text t = {0};
    for (size_t i = 0; i < n && nib_jcharge(r, 16); i++) {
        const nib_jv c = all.v[start + (int64_t)i * step];
        nib_jadd(r, &t, c.u.s, c.n);
    }
    nib_jv v = nib_jv_take(r, &t);
    v.safe = s.safe && v.kind == NIB_JV_STR;
    return v;
}

static nib_jv slice(nib_jrun *r, nib_jv of, const nib_jv part[3])
{
    int64_t start, step = is_whole(part[2]) ? whole(part[2]) : 1;
    for (int i = 0; i < 3; i++)
        if (part[i].kind != NIB_JV_NONE && !is_whole(part[i]))
            return nib_jfail(r, "a slice by '%s'", nib_jv_type(part[i]));
    if (of.kind == NIB_JV_UNDEFINED) return nib_jfail(r, "%.*s", (int)of.n, of.u.s);
    if (!step || step == INT64_MIN) return nib_jfail(r, "a slice with step zero");
    if (of.kind == NIB_JV_STR) return slice_string(r, of, part, step);
    if (of.kind != NIB_JV_LIST && of.kind != NIB_JV_TUPLE && of.kind != NIB_JV_RANGE)
        return nib_jfail(r, "a '%s' has no slices", nib_jv_type(of));
    const size_t n = slice_bounds((int64_t)of.u.list->n, part, step, &start);
    if (step == 1) { /* a part of the same */
        nib_jv v = nib_jv_list(r, of.kind, 0);
        if (v.u.list != &r->none) *v.u.list = (nib_jlist){.v = of.u.list->v + start, .n = n};
        return v;
    }
    nib_jv v = nib_jv_list(r, of.kind, n);
    nib_jcharge(r, 16 * n);
    for (size_t i = 0; i < v.u.list->n; i++)
        v.u.list->v[i] = of.u.list->v[start + (int64_t)i * step];
    return v;
}

static nib_jv eval_slice(nib_jrun *r, const nib_jnode *n)
{
    const nib_jv of = nib_jeval(r, n->a);
    nib_jv part[3];
    const nib_jnode *node[3] = {n->b, n->c, n->d};
    for (int i = 0; i < 3; i++) part[i] = node[i] ? nib_jeval(r, node[i]) : nib_jv_of(NIB_JV_NONE);
    return r->rc ? of : slice(r, of, part);
}

/* ---- parts of the tree ---- */

static size_t count(const nib_jnode *list)
{
    size_t n = 0;
    for (; list; list = list->next) n++;
    return n;
}

static nib_jv eval_list(nib_jrun *r, const nib_jnode *n, nib_jkind kind)
{
    nib_jv v = nib_jv_list(r, kind, count(n->list));
    size_t i = 0;
    for (const nib_jnode *item = n->list; item && !r->rc; item = item->next)
        v.u.list->v[i++] = nib_jeval(r, item);
    return v;
}

static nib_jv eval_dict(nib_jrun *r, const nib_jnode *n)
{
    nib_jv v = nib_jv_dict(r, count(n->list));
    for (const nib_jnode *pair = n->list; pair && !r->rc; pair = pair->next) {
        const nib_jv key = nib_jeval(r, pair->a), value = nib_jeval(r, pair->b);
        if (!r->rc) nib_jdict_put(r, v.u.dict, key, value);
    }
    return v;
}

static nib_jv eval_concat(nib_jrun *r, const nib_jnode *n)
{
    nib_text t = {0};
    for (const nib_jnode *part = n->list; part && !r->rc; part = part->next)
        nib_jv_write(r, &t, nib_jeval(r, part), false);
    return nib_jv_take(r, &t);
}

static void eval_args(nib_jrun *r, nib_jargs *args, const nib_jnode *list)
{
    args->n = args->n_named = 0;
    for (const nib_jnode *arg = list; arg && !r->rc; arg = arg->next) {
        const size_t i = args->n + args->n_named;
        args->v[i] = nib_jeval(r, arg->a);
        args->name[i] = arg->value;
        if (arg->value.kind == NIB_JV_STR)
            args->n_named++;
        else
            args->n++;
    }
}

static nib_jv eval_call(nib_jrun *r, const nib_jnode *n)
{
    nib_jargs args;
    const nib_jv f = nib_jeval(r, n->a);
    eval_args(r, &args, n->list);
    r->line = n->line;
    return r->rc ? f : nib_jcall(r, f, &args);
}

static nib_jv eval_filter(nib_jrun *r, const nib_jnode *n)
{
    nib_jargs args;
    const nib_jv v = nib_jeval(r, n->a);
    eval_args(r, &args, n->list);
    r->line = n->line;
    return r->rc ? v : nib_jfilter(r, n->value, v, &args);
}

static nib_jv eval_test(nib_jrun *r, const nib_jnode *n)
{
    nib_jargs args;
    const nib_jv v = nib_jeval(r, n->a);
    eval_args(r, &args, n->list);
    r->line = n->line;
    return nib_jv_bool(!r->rc && nib_jtest(r, n->value, v, &args));
}

static nib_jv eval_either(nib_jrun *r, const nib_jnode *n)
{
    const nib_jv a = nib_jeval(r, n->a);
    return r->rc || nib_jv_true(a) == (n->type == NIB_JN_OR) ? a : nib_jeval(r, n->b);
}

static nib_jv eval_choice(nib_jrun *r, const nib_jnode *n)
{
    const bool yes = nib_jv_true(nib_jeval(r, n->a));
    if (r->rc) return nib_jv_of(NIB_JV_UNDEFINED);
    if (yes) return nib_jeval(r, n->b);
    return n->c ? nib_jeval(r, n->c) : nib_jv_undefined(r, "a choice without 'else' gave nothing");
}

static nib_jv eval_binary(nib_jrun *r, const nib_jnode *n)
{
    const nib_jv a = nib_jeval(r, n->a), b = nib_jeval(r, n->b);
    r->line = n->line;
    return binary(r, n->op, a, b);
}

static nib_jv eval(nib_jrun *r, const nib_jnode *n)
{
    nib_jv a;
    r->line = n->line;
    switch (n->type) {
    case NIB_JN_CONST: return n->value;
    case NIB_JN_NAME: return lookup(r, n->value);
    case NIB_JN_LIST: return eval_list(r, n, NIB_JV_LIST);
    case NIB_JN_TUPLE: return eval_list(r, n, NIB_JV_TUPLE);
    case NIB_JN_DICT: return eval_dict(r, n);
    case NIB_JN_ATTR: a = nib_jeval(r, n->a); return r->rc ? a : nib_jv_attr(r, a, n->value);
    case NIB_JN_ITEM: {
        a = nib_jeval(r, n->a);
        const nib_jv key = nib_jeval(r, n->b);
        return r->rc ? a : nib_jv_item(r, a, key);
    }
    case NIB_JN_SLICE: return eval_slice(r, n);
    case NIB_JN_CALL: return eval_call(r, n);
    case NIB_JN_FILTER: return eval_filter(r, n);
    case NIB_JN_TEST: return eval_test(r, n);
    case NIB_JN_NOT: return nib_jv_bool(!nib_jv_true(nib_jeval(r, n->a)));
    case NIB_JN_NEG:
    case NIB_JN_POS:
        a = nib_jeval(r, n->a);
        return r->rc ? a : signed_value(r, a, n->type == NIB_JN_NEG);
    case NIB_JN_AND:
    case NIB_JN_OR: return eval_either(r, n);
    case NIB_JN_CHOICE: return eval_choice(r, n);
    case NIB_JN_CONCAT: return eval_concat(r, n);
    case NIB_JN_COMPARE: return compare(r, n);
    case NIB_JN_BINARY: return eval_binary(r, n);
    case NIB_JN_SLOT: return r->slot;
    default: return nib_jv_of(NIB_JV_UNDEFINED);
    }
}

nib_jv nib_jeval(nib_jrun *r, const nib_jnode *n)
{
    nib_jv v = nib_jv_of(NIB_JV_UNDEFINED);
    if (nib_jenter(r)) v = eval(r, n);
    nib_jleave(r);
    return r->rc ? nib_jv_of(NIB_JV_UNDEFINED) : v;
}
