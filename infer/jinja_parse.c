/* SPDX-License-Identifier: MIT */
/* infer/jinja_parse.c - tokens to a tree; see jinja_impl.h. A descent by precedence, loosest first:
 * choice, or, and, not, comparisons and in, + -, ~, * / // %, **, signs; filters, tests, calls and
 * subscripts bind tightest. Tests: tests/infer/test_jinja_golden.c. */
#include "infer/jinja_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    const nib_jtoken *t; /* the current token */
    nib_arena *arena;
    unsigned depth, loops;
    bool in_macro;
    nib_code rc; /* sticky, as is what it leads to: nodes are NULL then */
    nib_err *err;
} parser;

/* ---- tokens ---- */

static nib_jnode *fail(parser *p, const char *fmt, ...) NIB_PRINTF(2, 3);
static nib_jnode *fail(parser *p, const char *fmt, ...)
{
    char what[256];
    va_list ap;
    if (p->rc) return NULL;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    p->rc = nib_fail(p->err, NIB_EFORMAT, "line %u: %s", p->t->line, what);
    return NULL;
}

static const char *describe(const nib_jtoken *t, char buffer[64])
{
    switch (t->type) {
    case NIB_JT_NAME:
    case NIB_JT_STR:
        snprintf(buffer, 64, "'%.*s'", t->value.n < 50 ? (int)t->value.n : 50, t->value.u.s);
        break;
    case NIB_JT_NUMBER: return "a number";
    case NIB_JT_OP:
        snprintf(buffer, 64, "'%s%c'", t->op > 255 ? (char[]){(char)(t->op >> 8), 0} : "",
                 (char)t->op);
        break;
    case NIB_JT_EOF: return "the end of the template";
    default: return "the end of the tag";
    }
    return buffer;
}

static nib_jnode *unexpected(parser *p, const char *wanted)
{
    char buffer[64];
    return fail(p, "%s expected, found %s", wanted, describe(p->t, buffer));
}

/* Tokens after the last one are the last one. */
static void step(parser *p)
{
    if (p->t->type != NIB_JT_EOF) p->t++;
}

static bool is_op(const nib_jtoken *t, unsigned op)
{
    return t->type == NIB_JT_OP && t->op == op;
}
static bool is_name(const nib_jtoken *t, const char *word)
{
    return t->type == NIB_JT_NAME && nib_jv_is(t->value, word);
}
static bool take_op(parser *p, unsigned op)
{
    if (p->rc || !is_op(p->t, op)) return false;
    step(p);
    return true;
}
static bool take_name(parser *p, const char *word)
{
    if (p->rc || !is_name(p->t, word)) return false;
    step(p);
    return true;
}
static bool want_op(parser *p, unsigned op)
{
    char text[] = {'\'', (char)op, '\'', 0};
    if (take_op(p, op)) return true;
    unexpected(p, text);
    return false;
}

static bool enter(parser *p)
{
    if (p->depth++ < NIB_JINJA_NESTING_MAX) return true;
    fail(p, "more than %d levels of nesting", NIB_JINJA_NESTING_MAX);
    return false;
}

/* ---- nodes ---- */

static nib_jnode *node(parser *p, nib_jtype type, nib_jnode *a, nib_jnode *b)
{
    nib_jnode *n = p->rc ? NULL : nib_arena_alloc(p->arena, 1, sizeof *n, _Alignof(nib_jnode));
    if (n)
        *n = (nib_jnode){.type = type, .line = p->t->line, .a = a, .b = b};
    else if (!p->rc)
        p->rc = nib_fail_nomem(p->err, "a template");
    return n;
}

static nib_jnode *node_of(parser *p, nib_jtype type, nib_jv value)
{
    nib_jnode *n = node(p, type, NULL, NULL);
    if (n) n->value = value;
    return n;
}

/* A list under construction. */
typedef struct {
    nib_jnode *first, **end;
} chain;

static void append(chain *c, nib_jnode *n)
{
    if (!n) return;
    if (!c->first)
        c->first = n;
    else
        *c->end = n;
    c->end = &n->next;
}

/* ---- expressions ---- */

static nib_jnode *expression(parser *p);
static nib_jnode *unary(parser *p, bool with_filter);
static nib_jnode *or_expression(parser *p);

static bool at_end(const parser *p, const char *word)
{
    const nib_jtoken_type t = p->t->type;
    return t == NIB_JT_OUTPUT_END || t == NIB_JT_BLOCK_END || t == NIB_JT_EOF || is_op(p->t, ')') ||
           (word && is_name(p->t, word));
}

/* One expression, or a tuple of several. */
static nib_jnode *tuple(parser *p, nib_jnode *(*item)(parser *), const char *word,
                        bool may_be_empty)
{
    chain items = {0};
    size_t n = 0;
    bool comma = false;
    while (!p->rc && !at_end(p, word)) {
        if (n && !(comma = take_op(p, ','))) break;
        if (at_end(p, word)) break;
        append(&items, item(p));
        n++;
        comma = false;
    }
    if (p->rc) return NULL;
    if (n == 1 && !comma) return items.first;
    if (!n && !may_be_empty) return unexpected(p, "an expression");
    nib_jnode *t = node(p, NIB_JN_TUPLE, NULL, NULL);
    if (t) t->list = items.first;
    return t;
}

/* Strings that stand side by side are one. */
static nib_jnode *string(parser *p)
{
    const nib_jtoken *first = p->t;
    size_t n = 0;
    for (const nib_jtoken *t = first; t->type == NIB_JT_STR; t++) n += t->value.n;
    char *joined = nib_arena_alloc(p->arena, n + 1, 1, 1);
    if (!joined) {
        p->rc = nib_fail_nomem(p->err, "a template");
        return NULL;
    }
    nib_jnode *all = node_of(p, NIB_JN_CONST, nib_jv_str(joined, n));
    for (; p->t->type == NIB_JT_STR; step(p)) {
        memcpy(joined, p->t->value.u.s, p->t->value.n);
        joined += p->t->value.n;
    }
    return all;
}

static nib_jnode *name(parser *p)
{
    static const struct {
        const char *word;
        nib_jv value;
    } consts[] = {
        {"true", {.kind = NIB_JV_BOOL, .u.b = true}},
        {"True", {.kind = NIB_JV_BOOL, .u.b = true}},
        {"false", {.kind = NIB_JV_BOOL}},
        {"False", {.kind = NIB_JV_BOOL}},
        {"none", {.kind = NIB_JV_NONE}},
        {"None", {.kind = NIB_JV_NONE}},
    };
    static const char *const hidden[] = {"varargs", "kwargs", "caller"};
    const nib_jv v = p->t->value;
    for (size_t i = 0; p->in_macro && i < sizeof hidden / sizeof *hidden; i++)
        if (nib_jv_is(v, hidden[i])) return fail(p, "'%s' in a macro is not supported", hidden[i]);
    nib_jnode *n = node_of(p, NIB_JN_NAME, v);
    for (size_t i = 0; n && i < sizeof consts / sizeof *consts; i++)
        if (nib_jv_is(v, consts[i].word)) {
            n->type = NIB_JN_CONST;
            n->value = consts[i].value;
        }
    step(p);
    return n;
}

static nib_jnode *list(parser *p)
{
    chain items = {0};
    nib_jnode *n = node(p, NIB_JN_LIST, NULL, NULL);
    step(p);
    while (!p->rc && !is_op(p->t, ']')) {
        append(&items, expression(p));
        if (!take_op(p, ',')) break;
    }
    want_op(p, ']');
    if (n) n->list = items.first;
    return n;
}

static nib_jnode *dict(parser *p)
{
    chain items = {0};
    nib_jnode *n = node(p, NIB_JN_DICT, NULL, NULL);
    step(p);
    while (!p->rc && !is_op(p->t, '}')) {
        nib_jnode *key = expression(p);
        want_op(p, ':');
        append(&items, node(p, NIB_JN_PAIR, key, expression(p)));
        if (!take_op(p, ',')) break;
    }
    want_op(p, '}');
    if (n) n->list = items.first;
    return n;
}

static nib_jnode *primary(parser *p)
{
    nib_jnode *n;
    switch (p->t->type) {
    case NIB_JT_NAME: return name(p);
    case NIB_JT_STR: return string(p);
    case NIB_JT_NUMBER:
        n = node_of(p, NIB_JN_CONST, p->t->value);
        step(p);
        return n;
    default: break;
    }
    if (is_op(p->t, '[')) return list(p);
    if (is_op(p->t, '{')) return dict(p);
    if (!take_op(p, '(')) return unexpected(p, "an expression");
    n = tuple(p, expression, NULL, true);
    want_op(p, ')');
    return n;
}

/* One subscript between '[' and ',' or ']'. */
static nib_jnode *subscript(parser *p)
{
    nib_jnode *part[3] = {NULL}, *n;
    size_t k = 0;
    if (!is_op(p->t, ':')) {
        part[0] = expression(p);
        if (!is_op(p->t, ':')) return part[0];
    }
    while (k < 2 && take_op(p, ':')) {
        k++;
        if (!is_op(p->t, ':') && !is_op(p->t, ']') && !is_op(p->t, ',')) part[k] = expression(p);
    }
    if ((n = node(p, NIB_JN_SLICE, NULL, part[0]))) {
        n->c = part[1];
        n->d = part[2];
    }
    return n;
}

/* ( ... ) behind a call, filter or test: a list of NIB_JN_ARG. */
static nib_jnode *arguments(parser *p)
{
    chain args = {0};
    size_t n = 0;
    bool named = false;
    step(p);
    while (!p->rc && !is_op(p->t, ')')) {
        nib_jv keyword = nib_jv_of(NIB_JV_UNDEFINED);
        if (is_op(p->t, '*') || is_op(p->t, NIB_JOP('*', '*')))
            return fail(p, "arguments with '*' are not supported");
        if (p->t->type == NIB_JT_NAME && is_op(p->t + 1, '=')) {
            keyword = p->t->value;
            named = true;
            step(p);
            step(p);
        } else if (named) {
            return fail(p, "an argument without a name behind one that has a name");
        }
        if (++n > NIB_JARGS_MAX) return fail(p, "more than %d arguments", NIB_JARGS_MAX);
        nib_jnode *arg = node_of(p, NIB_JN_ARG, keyword);
        if (arg) arg->a = expression(p);
        append(&args, arg);
        if (!take_op(p, ',')) break;
    }
    want_op(p, ')');
    return args.first;
}

static nib_jnode *dot(parser *p, nib_jnode *of)
{
    nib_jnode *n = NULL;
    if (p->t->type == NIB_JT_NAME) {
        if ((n = node_of(p, NIB_JN_ATTR, p->t->value))) n->a = of;
    } else if (p->t->type == NIB_JT_NUMBER && p->t->value.kind == NIB_JV_INT) {
        n = node(p, NIB_JN_ITEM, of, node_of(p, NIB_JN_CONST, p->t->value));
    } else {
        unexpected(p, "a name behind '.'");
    }
    step(p);
    return n;
}

static nib_jnode *call(parser *p, nib_jnode *of)
{
    nib_jnode *n = node(p, NIB_JN_CALL, of, NULL), *args = arguments(p);
    if (n) n->list = args;
    return n;
}

static nib_jnode *bracket(parser *p, nib_jnode *of)
{
    nib_jnode *at = subscript(p), *n;
    if (is_op(p->t, ',')) return fail(p, "a subscript of several parts is not supported");
    want_op(p, ']');
    if (at && at->type == NIB_JN_SLICE) {
        at->a = of;
        return at;
    }
    n = node(p, NIB_JN_ITEM, of, at);
    return n;
}

/* .name [x] (args) as often as they come. */
static nib_jnode *postfix(parser *p, nib_jnode *n)
{
    for (;;) {
        if (take_op(p, '.'))
            n = dot(p, n);
        else if (take_op(p, '['))
            n = bracket(p, n);
        else if (!p->rc && is_op(p->t, '('))
            n = call(p, n);
        else
            return n;
    }
}

/* One filter, its '|' being read. */
static nib_jnode *one_filter(parser *p, nib_jnode *of)
{
    if (p->t->type != NIB_JT_NAME) return unexpected(p, "a filter's name");
    nib_jnode *n = node_of(p, NIB_JN_FILTER, p->t->value);
    step(p);
    if (is_op(p->t, '.')) return fail(p, "names of filters with '.' are not known");
    nib_jnode *args = is_op(p->t, '(') ? arguments(p) : NULL;
    if (!n) return NULL;
    n->a = of;
    n->list = args;
    return n;
}

/* One test, its 'is' being read. */
static nib_jnode *one_test(parser *p, nib_jnode *of)
{
    static const char *const not_args[] = {"else", "or", "and"};
    const bool negated = take_name(p, "not");
    if (p->t->type != NIB_JT_NAME) return unexpected(p, "a test's name");
    nib_jnode *n = node_of(p, NIB_JN_TEST, p->t->value), *args = NULL;
    step(p);
    bool has_arg = p->t->type == NIB_JT_NAME || p->t->type == NIB_JT_STR ||
                   p->t->type == NIB_JT_NUMBER || is_op(p->t, '[') || is_op(p->t, '{');
    for (size_t i = 0; i < sizeof not_args / sizeof *not_args; i++)
        if (is_name(p->t, not_args[i])) has_arg = false;
    if (is_name(p->t, "is")) return fail(p, "a test of a test wants brackets");
    if (is_op(p->t, '('))
        args = arguments(p);
    else if (has_arg && (args = node_of(p, NIB_JN_ARG, nib_jv_of(NIB_JV_UNDEFINED))))
        args->a = postfix(p, primary(p));
    if (!n) return NULL;
    n->a = of;
    n->list = args;
    return negated ? node(p, NIB_JN_NOT, n, NULL) : n;
}

static nib_jnode *filters(parser *p, nib_jnode *n)
{
    for (;;) {
        if (take_op(p, '|'))
            n = one_filter(p, n);
        else if (take_name(p, "is"))
            n = one_test(p, n);
        else if (!p->rc && is_op(p->t, '('))
            n = call(p, n);
        else
            return n;
    }
}

static nib_jnode *unary(parser *p, bool with_filter)
{
    nib_jnode *n = NULL;
    if (!enter(p)) return NULL;
    if (take_op(p, '-'))
        n = node(p, NIB_JN_NEG, unary(p, false), NULL);
    else if (take_op(p, '+'))
        n = node(p, NIB_JN_POS, unary(p, false), NULL);
    else if (!p->rc)
        n = primary(p);
    n = postfix(p, n);
    if (with_filter) n = filters(p, n);
    p->depth--;
    return n;
}

/* Left-associative operators of one level. */
static nib_jnode *binary(parser *p, const unsigned *ops, nib_jnode *(*operand)(parser *))
{
    nib_jnode *left = operand(p);
    for (const unsigned *op = ops; *op && !p->rc;) {
        if (!take_op(p, *op)) {
            op++;
            continue;
        }
        nib_jnode *n = node(p, NIB_JN_BINARY, left, operand(p));
        if (n) n->op = *op;
        left = n;
        op = ops;
    }
    return left;
}

static nib_jnode *signed_operand(parser *p)
{
    return unary(p, true);
}
static nib_jnode *power(parser *p)
{
    static const unsigned ops[] = {NIB_JOP('*', '*'), 0};
    return binary(p, ops, signed_operand);
}
static nib_jnode *product(parser *p)
{
    static const unsigned ops[] = {'*', '/', NIB_JOP('/', '/'), '%', 0};
    return binary(p, ops, power);
}
static nib_jnode *concat(parser *p)
{
    nib_jnode *first = product(p), *n;
    chain items = {0};
    if (p->rc || !is_op(p->t, '~')) return first;
    append(&items, first);
    while (take_op(p, '~')) append(&items, product(p));
    if ((n = node(p, NIB_JN_CONCAT, NULL, NULL))) n->list = items.first;
    return n;
}
static nib_jnode *sum(parser *p)
{
    static const unsigned ops[] = {'+', '-', 0};
    return binary(p, ops, concat);
}

static unsigned comparison(parser *p)
{
    static const unsigned ops[] = {NIB_JOP('=', '='), NIB_JOP('!', '='), '<', '>',
                                   NIB_JOP('<', '='), NIB_JOP('>', '='), 0};
    for (const unsigned *op = ops; *op; op++)
        if (take_op(p, *op)) return *op;
    if (take_name(p, "in")) return 'i';
    if (p->rc || !is_name(p->t, "not") || !is_name(p->t + 1, "in")) return 0;
    step(p);
    step(p);
    return 'n';
}

static nib_jnode *compare(parser *p)
{
    nib_jnode *first = sum(p), *n;
    chain rest = {0};
    for (unsigned op; (op = comparison(p));) {
        nib_jnode *operand = node(p, NIB_JN_OPERAND, sum(p), NULL);
        if (operand) operand->op = op;
        append(&rest, operand);
    }
    if (!rest.first) return first;
    if ((n = node(p, NIB_JN_COMPARE, first, NULL))) n->list = rest.first;
    return n;
}

static nib_jnode *not_expression(parser *p)
{
    if (!take_name(p, "not")) return compare(p);
    if (!enter(p)) return NULL;
    nib_jnode *n = node(p, NIB_JN_NOT, not_expression(p), NULL);
    p->depth--;
    return n;
}
static nib_jnode *and_expression(parser *p)
{
    nib_jnode *n = not_expression(p);
    while (take_name(p, "and")) n = node(p, NIB_JN_AND, n, not_expression(p));
    return n;
}
static nib_jnode *or_expression(parser *p)
{
    nib_jnode *n = and_expression(p);
    while (take_name(p, "or")) n = node(p, NIB_JN_OR, n, and_expression(p));
    return n;
}

static nib_jnode *expression(parser *p)
{
    if (!enter(p)) return NULL;
    nib_jnode *n = or_expression(p);
    while (take_name(p, "if")) {
        nib_jnode *choice = node(p, NIB_JN_CHOICE, or_expression(p), n);
        nib_jnode *other = take_name(p, "else") ? expression(p) : NULL;
        if (choice) choice->c = other;
        n = choice;
    }
    p->depth--;
    return n;
}

/* ---- statements ---- */

static nib_jnode *body(parser *p, const char *const *ends);

static bool want_block_end(parser *p)
{
    if (!p->rc && p->t->type == NIB_JT_BLOCK_END) {
        step(p);
        return true;
    }
    unexpected(p, "the end of the tag");
    return false;
}

/* A name, a namespace's attribute, or a tuple of them. */
static nib_jnode *target_item(parser *p)
{
    if (p->t->type == NIB_JT_NAME) {
        nib_jnode *n = name(p);
        if (n && n->type == NIB_JN_CONST) return fail(p, "a constant cannot be set");
        return take_op(p, '.') ? dot(p, n) : n;
    }
    if (!take_op(p, '(')) return unexpected(p, "a name to set");
    if (!enter(p)) return NULL;
    nib_jnode *n = tuple(p, target_item, NULL, false);
    p->depth--;
    want_op(p, ')');
    return n;
}

static nib_jnode *target(parser *p)
{
    chain items = {0};
    append(&items, target_item(p));
    if (p->rc || !is_op(p->t, ',')) return items.first;
    while (take_op(p, ',') && !is_name(p->t, "in") && !is_op(p->t, '='))
        append(&items, target_item(p));
    nib_jnode *t = node(p, NIB_JN_TUPLE, NULL, NULL);
    if (t) t->list = items.first;
    return t;
}

static nib_jnode *for_statement(parser *p)
{
    static const char *const ends[] = {"else", "endfor", NULL}, *const last[] = {"endfor", NULL};
    nib_jnode *n = node(p, NIB_JN_FOR, target(p), NULL);
    if (!take_name(p, "in")) return unexpected(p, "'in'");
    nib_jnode *over = tuple(p, or_expression, "recursive", false);
    nib_jnode *filter = take_name(p, "if") ? expression(p) : NULL;
    if (!p->rc && is_name(p->t, "recursive")) return fail(p, "'recursive' loops are not supported");
    want_block_end(p);
    p->loops++;
    nib_jnode *inside = body(p, ends);
    p->loops--;
    nib_jnode *otherwise = NULL;
    if (take_name(p, "else") && want_block_end(p) && (otherwise = node(p, NIB_JN_BODY, NULL, NULL)))
        otherwise->list = body(p, last);
    if (!p->rc) step(p);
    if (!n) return NULL;
    n->b = over;
    n->c = filter;
    n->d = otherwise;
    n->list = inside;
    return n;
}

static nib_jnode *if_statement(parser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const last[] = {"endif",
                                                                                        NULL};
    nib_jnode *n = node(p, NIB_JN_IF, NULL, NULL);
    chain branches = {0};
    for (bool more = true; more && !p->rc;) {
        nib_jnode *branch = node(p, NIB_JN_BRANCH, tuple(p, or_expression, NULL, false), NULL);
        want_block_end(p);
        nib_jnode *inside = body(p, ends);
        if (branch) branch->list = inside;
        append(&branches, branch);
        more = take_name(p, "elif");
    }
    if (take_name(p, "else")) {
        nib_jnode *branch = node(p, NIB_JN_BRANCH, NULL, NULL);
        want_block_end(p);
        nib_jnode *inside = body(p, last);
        if (branch) branch->list = inside;
        append(&branches, branch);
    }
    if (!p->rc) step(p);
    if (n) n->list = branches.first;
    return n;
}

static nib_jnode *set_statement(parser *p)
{
    static const char *const ends[] = {"endset", NULL};
    nib_jnode *to = target(p), *n;
    if (take_op(p, '=')) return node(p, NIB_JN_SET, to, tuple(p, expression, NULL, false));
    nib_jnode *through = filters(p, node(p, NIB_JN_SLOT, NULL, NULL));
    want_block_end(p);
    n = node(p, NIB_JN_SET_BLOCK, to, through);
    nib_jnode *inside = body(p, ends);
    if (!p->rc) step(p);
    if (n) n->list = inside;
    return n;
}

static nib_jnode *filter_statement(parser *p)
{
    static const char *const ends[] = {"endfilter", NULL};
    nib_jnode *through = filters(p, one_filter(p, node(p, NIB_JN_SLOT, NULL, NULL)));
    nib_jnode *n = node(p, NIB_JN_FILTERED, NULL, through);
    want_block_end(p);
    nib_jnode *inside = body(p, ends);
    if (!p->rc) step(p);
    if (n) n->list = inside;
    return n;
}

/* A body that a loop around it cannot be left from. */
static nib_jnode *closed_body(parser *p, const char *const *ends)
{
    const unsigned loops = p->loops;
    p->loops = 0;
    nib_jnode *inside = body(p, ends);
    p->loops = loops;
    if (!p->rc) step(p);
    return inside;
}

static nib_jnode *macro_statement(parser *p)
{
    static const char *const ends[] = {"endmacro", NULL};
    chain params = {0};
    size_t n_params = 0;
    bool defaults = false;
    const bool in_macro = p->in_macro;
    if (p->t->type != NIB_JT_NAME) return unexpected(p, "the macro's name");
    nib_jnode *n = node_of(p, NIB_JN_MACRO, p->t->value);
    step(p);
    want_op(p, '(');
    while (!p->rc && !is_op(p->t, ')')) {
        if (p->t->type != NIB_JT_NAME) return unexpected(p, "a parameter's name");
        nib_jnode *param = node_of(p, NIB_JN_ARG, p->t->value);
        step(p);
        if (take_op(p, '=')) {
            nib_jnode *value = expression(p);
            if (param) param->a = value;
            defaults = true;
        } else if (defaults) {
            return fail(p, "a parameter without a default behind one that has one");
        }
        append(&params, param);
        if (++n_params > NIB_JARGS_MAX) return fail(p, "more than %d parameters", NIB_JARGS_MAX);
        if (!take_op(p, ',')) break;
    }
    want_op(p, ')');
    want_block_end(p);
    p->in_macro = true;
    nib_jnode *inside = closed_body(p, ends), *holder = node(p, NIB_JN_BODY, NULL, NULL);
    p->in_macro = in_macro;
    if (holder) holder->list = params.first;
    if (!n) return NULL;
    n->a = holder;
    n->list = inside;
    return n;
}

static nib_jnode *generation_statement(parser *p)
{
    static const char *const ends[] = {"endgeneration", NULL};
    nib_jnode *n = node(p, NIB_JN_SCOPE, NULL, NULL);
    want_block_end(p);
    nib_jnode *inside = closed_body(p, ends);
    if (n) n->list = inside;
    return n;
}

static nib_jnode *jump(parser *p, nib_jtype type)
{
    if (!p->loops) return fail(p, "'break' or 'continue' outside of a loop");
    return node(p, type, NULL, NULL);
}

static nib_jnode *break_statement(parser *p)
{
    return jump(p, NIB_JN_BREAK);
}
static nib_jnode *continue_statement(parser *p)
{
    return jump(p, NIB_JN_CONTINUE);
}

static const struct {
    const char *word;
    nib_jnode *(*parse)(parser *);
} statements[] = {
    {"for", for_statement},       {"if", if_statement},
    {"set", set_statement},       {"macro", macro_statement},
    {"filter", filter_statement}, {"generation", generation_statement},
    {"break", break_statement},   {"continue", continue_statement},
};

/* A tag, its "{%" being read. */
static nib_jnode *statement(parser *p)
{
    if (p->t->type != NIB_JT_NAME) return unexpected(p, "a tag's name");
    const nib_jv word = p->t->value;
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        if (!nib_jv_is(word, statements[i].word)) continue;
        if (!enter(p)) return NULL;
        step(p);
        nib_jnode *n = statements[i].parse(p);
        want_block_end(p);
        p->depth--;
        return n;
    }
    if (word.n > 3 && !memcmp(word.u.s, "end", 3))
        return fail(p, "'%.*s' ends nothing that is open", (int)(word.n < 40 ? word.n : 40),
                    word.u.s);
    return fail(p, "the tag '%.*s' is not supported", (int)(word.n < 40 ? word.n : 40), word.u.s);
}

static nib_jnode *output(parser *p)
{
    nib_jnode *n = node(p, NIB_JN_OUTPUT, NULL, NULL), *what = tuple(p, expression, NULL, false);
    if (n) n->a = what;
    if (p->rc) return NULL;
    if (p->t->type != NIB_JT_OUTPUT_END) return unexpected(p, "'}}'");
    step(p);
    return n;
}

static void unended(parser *p, const char *const *ends)
{
    char word[32];
    while (ends[1]) ends++;
    snprintf(word, sizeof word, "'%s'", *ends);
    unexpected(p, word);
}

/* Statements up to a tag that is one of `ends` (NULL: up to the end of the template), which is the
 * current token then. */
static nib_jnode *body(parser *p, const char *const *ends)
{
    chain all = {0};
    while (!p->rc) {
        switch (p->t->type) {
        case NIB_JT_TEXT:
            append(&all, node_of(p, NIB_JN_TEXT, p->t->value));
            step(p);
            continue;
        case NIB_JT_OUTPUT_BEGIN:
            step(p);
            append(&all, output(p));
            continue;
        case NIB_JT_BLOCK_BEGIN: break;
        default:
            if (ends) unended(p, ends);
            return all.first;
        }
        step(p);
        for (const char *const *e = ends; e && *e; e++)
            if (is_name(p->t, *e)) return all.first;
        append(&all, statement(p));
    }
    return NULL;
}

nib_code nib_jparse(nib_jnode **out, nib_arena *arena, const nib_jtokens *tokens, nib_err *err)
{
    parser p = {.t = tokens->t, .arena = arena, .err = err};
    *out = body(&p, NULL);
    return p.rc;
}
