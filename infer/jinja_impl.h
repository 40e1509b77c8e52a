/* SPDX-License-Identifier: MIT */
/* infer/jinja_impl.h - inside the interpreter of templates; for jinja_*.c only.
 *
 *   jinja_lex.c      text to tokens, and which white space goes
 *   jinja_parse.c    tokens to a tree
 *   jinja_value.c    values: truth, equality, order, how they are written
 *   jinja_str.c      strings, by characters, and their methods
 *   jinja_json.c     values from and to JSON
 *   jinja_call.c     functions, methods of collections, arguments
 *   jinja_filter.c   filters
 *   jinja_test.c     tests
 *   jinja_eval.c     expressions
 *   jinja_render.c   statements, and the whole
 *
 * While a template runs errors are sticky: the first one is recorded by nib_jfail(), everything
 * after it yields undefined values, and loops end when `rc` is set. */
#ifndef NIB_INFER_JINJA_IMPL_H
#define NIB_INFER_JINJA_IMPL_H

#include "base/arena.h"
#include "infer/jinja.h"

/* ---- values ---- */

typedef enum {
    NIB_JV_UNDEFINED, /* s[n] says what is, for messages */
    NIB_JV_NONE,
    NIB_JV_BOOL,
    NIB_JV_INT,
    NIB_JV_FLOAT,
    NIB_JV_STR,
    NIB_JV_LIST,
    NIB_JV_TUPLE,
    NIB_JV_RANGE,
    NIB_JV_VIEW, /* of a dict: keys(), values(), items() */
    NIB_JV_ITER, /* what a filter like map gives: walked once, true, without a length */
    NIB_JV_DICT,
    NIB_JV_NAMESPACE,
    NIB_JV_LOOP,
    NIB_JV_MACRO,
    NIB_JV_FUNCTION,
    NIB_JV_METHOD,
} nib_jkind;

typedef struct nib_jv nib_jv;
typedef struct nib_jlist nib_jlist;
typedef struct nib_jdict nib_jdict;
typedef struct nib_jloop nib_jloop;
typedef struct nib_jmacro nib_jmacro;
typedef struct nib_jmethod nib_jmethod;
typedef struct nib_jfunction nib_jfunction;
typedef struct nib_jscope nib_jscope;
typedef struct nib_jnode nib_jnode;
typedef struct nib_jrun nib_jrun;
typedef struct nib_jargs nib_jargs;

/* All that a value points to belongs to the run (or to the template) and does not change, but for
 * namespaces, scopes, and how far an iterator is. */
struct nib_jv {
    uint8_t kind;
    bool safe;  /* STR: marked by the filter `safe` */
    uint32_t n; /* STR, UNDEFINED: bytes            */
    union {
        bool b;
        int64_t i;
        double f;
        const char *s;
        nib_jlist *list; /* LIST, TUPLE, RANGE, VIEW, ITER */
        nib_jdict *dict;
        nib_jscope *space; /* NAMESPACE */
        nib_jloop *loop;
        const nib_jmacro *macro;
        const nib_jfunction *function;
        const nib_jmethod *method;
    } u;
};

struct nib_jlist {
    nib_jv *v;
    size_t n;
    const char *view; /* VIEW: "dict_keys" */
};

struct nib_jdict {
    nib_jv *key, *value;
    size_t n, cap;
};

/* What a name means, here and further out. */
struct nib_jscope {
    nib_jscope *outer;
    nib_jdict names; /* by strings */
};

struct nib_jloop {
    nib_jv *item;
    size_t n, at;
    unsigned depth;
    nib_jv changed; /* what changed() was given last: a tuple, or undefined */
};

struct nib_jmacro {
    const nib_jnode *node;
    nib_jscope *scope; /* in which it was made */
};

/* ---- the tree ---- */

typedef enum {
    /* expressions */
    NIB_JN_CONST,   /* value                                                */
    NIB_JN_NAME,    /* value: a string                                      */
    NIB_JN_LIST,    /* list: items                                          */
    NIB_JN_TUPLE,   /* list: items                                          */
    NIB_JN_DICT,    /* list: NIB_JN_PAIR, a: b                              */
    NIB_JN_PAIR,    /*                                                      */
    NIB_JN_ATTR,    /* a.value                                              */
    NIB_JN_ITEM,    /* a[b]                                                 */
    NIB_JN_SLICE,   /* a[b:c:d]                                             */
    NIB_JN_CALL,    /* a(list of NIB_JN_ARG)                                */
    NIB_JN_ARG,     /* a; value: its keyword, or undefined                  */
    NIB_JN_FILTER,  /* a | value(list of NIB_JN_ARG)                        */
    NIB_JN_TEST,    /* a is value(list of NIB_JN_ARG)                       */
    NIB_JN_NOT,     /* a                                                    */
    NIB_JN_NEG,     /* a                                                    */
    NIB_JN_POS,     /* a                                                    */
    NIB_JN_AND,     /* a, b                                                 */
    NIB_JN_OR,      /* a, b                                                 */
    NIB_JN_CHOICE,  /* b if a else c; c may be NULL                         */
    NIB_JN_CONCAT,  /* list, joined by ~                                    */
    NIB_JN_COMPARE, /* a, then list of NIB_JN_OPERAND: op, a                */
    NIB_JN_OPERAND, /*                                                      */
    NIB_JN_BINARY,  /* a op b                                               */
    NIB_JN_SLOT,    /* the text of the block that a filter is applied to    */
    /* statements */
    NIB_JN_TEXT,      /* value                                              */
    NIB_JN_OUTPUT,    /* a                                                  */
    NIB_JN_FOR,       /* for a in b if c: list, else d->list; c, d may be NULL */
    NIB_JN_IF,        /* list: NIB_JN_BRANCH                                */
    NIB_JN_BRANCH,    /* list, if a, which is NULL for else                 */
    NIB_JN_SET,       /* a = b                                              */
    NIB_JN_SET_BLOCK, /* a = filters b of list                              */
    NIB_JN_MACRO,     /* value: name; a->list: NIB_JN_ARG, a: default or NULL; list: body */
    NIB_JN_FILTERED,  /* filters b of list                                  */
    NIB_JN_SCOPE,     /* list: {% generation %}                             */
    NIB_JN_BREAK,
    NIB_JN_CONTINUE,
    NIB_JN_BODY, /* list: holds one for another node                        */
} nib_jtype;

/* Operators: one character, or two: NIB_JOP('=', '='); 'i' is in, 'n' not in. */
#define NIB_JOP(a, b) ((unsigned)(a) << 8 | (unsigned)(b))

struct nib_jnode {
    nib_jtype type;
    unsigned line, op;
    nib_jv value;
    nib_jnode *a, *b, *c, *d;
    nib_jnode *list; /* linked by next */
    nib_jnode *next;
};

struct nib_jinja {
    nib_arena arena; /* holds the tree and a copy of the text */
    nib_jnode *body;
};

/* ---- tokens ---- */

typedef enum {
    NIB_JT_TEXT,
    NIB_JT_OUTPUT_BEGIN,
    NIB_JT_OUTPUT_END,
    NIB_JT_BLOCK_BEGIN,
    NIB_JT_BLOCK_END,
    NIB_JT_NAME,
    NIB_JT_STR,
    NIB_JT_NUMBER,
    NIB_JT_OP,
    NIB_JT_EOF,
} nib_jtoken_type;

typedef struct {
    nib_jtoken_type type;
    unsigned line, op;
    nib_jv value; /* TEXT, NAME, STR: a string; NUMBER */
} nib_jtoken;

typedef struct {
    nib_jtoken *t; /* the last one is NIB_JT_EOF */
    size_t n, cap;
} nib_jtokens;

/* Strings are the arena's. tokens->t is nib_free'd by the caller, also on failure. */
NIB_MUST_USE nib_code nib_jlex(nib_jtokens *tokens, nib_arena *arena, const char *text, size_t n,
                               nib_err *err);
/* The tree, which is the arena's. */
NIB_MUST_USE nib_code nib_jparse(nib_jnode **body, nib_arena *arena, const nib_jtokens *tokens,
                                 nib_err *err);

/* ---- a rendering ---- */

struct nib_jrun {
    nib_arena arena;
    nib_err *err;
    nib_code rc;
    nib_jscope *scope;
    nib_text *out;
    nib_jv slot;          /* NIB_JN_SLOT                                       */
    size_t steps;         /* left                                              */
    unsigned depth, line; /* of what is evaluated; of the template             */
    bool breaks, goes_on; /* the innermost loop ends, or goes on with its next */
    nib_jlist none;       /* what a list is that could not be made             */
};

/* Record the first error, with the template's line. Returns an undefined value. */
nib_jv nib_jfail(nib_jrun *r, const char *fmt, ...) NIB_PRINTF(2, 3);
/* Count work that grows with n bytes or n / 16 items. False: an error is recorded. */
bool nib_jcharge(nib_jrun *r, size_t n);
/* One level deeper (false: too deep, recorded); each is paired with nib_jleave(). */
bool nib_jenter(nib_jrun *r);
void nib_jleave(nib_jrun *r);
/* Memory of the run; NULL: an error is recorded. */
void *nib_jalloc(nib_jrun *r, size_t n, size_t size);
/* nib_text_add() with its error recorded. */
void nib_jadd(nib_jrun *r, nib_text *t, const char *p, size_t n);
void nib_jadds(nib_jrun *r, nib_text *t, const char *s);

nib_jv nib_jeval(nib_jrun *r, const nib_jnode *n);
/* Run statements; what they put out goes to r->out. */
void nib_jexec(nib_jrun *r, const nib_jnode *list);
/* The same in a scope within `outer`, into a string. */
nib_jv nib_jcapture(nib_jrun *r, const nib_jnode *list, nib_jscope *scope);
nib_jscope *nib_jscope_new(nib_jrun *r, nib_jscope *outer);
void nib_jset(nib_jrun *r, nib_jscope *s, nib_jv name, nib_jv value);

/* ---- jinja_value.c ---- */

static inline nib_jv nib_jv_of(nib_jkind kind)
{
    return (nib_jv){.kind = (uint8_t)kind};
}
static inline nib_jv nib_jv_bool(bool b)
{
    return (nib_jv){.kind = NIB_JV_BOOL, .u.b = b};
}
static inline nib_jv nib_jv_int(int64_t i)
{
    return (nib_jv){.kind = NIB_JV_INT, .u.i = i};
}
static inline nib_jv nib_jv_float(double f)
{
    return (nib_jv){.kind = NIB_JV_FLOAT, .u.f = f};
}
/* Borrowed. */
static inline nib_jv nib_jv_str(const char *s, size_t n)
{
    return (nib_jv){.kind = NIB_JV_STR, .n = (uint32_t)n, .u.s = s};
}
nib_jv nib_jv_word(const char *s);
/* A copy of t's text, which is freed; at most NIB_JINJA_MEMORY_MAX bytes. */
nib_jv nib_jv_take(nib_jrun *r, nib_text *t);
nib_jv nib_jv_undefined(nib_jrun *r, const char *fmt, ...) NIB_PRINTF(2, 3);
/* A list, tuple, iterator ... of n values to be filled in; list->v NULL and an error recorded when
 * that fails. */
nib_jv nib_jv_list(nib_jrun *r, nib_jkind kind, size_t n);
nib_jv nib_jv_pair(nib_jrun *r, nib_jv a, nib_jv b); /* a tuple */
nib_jv nib_jv_dict(nib_jrun *r, size_t n);           /* empty, with room for n */

bool nib_jv_is(nib_jv v, const char *word); /* a string that is this word */
bool nib_jv_is_list(nib_jv v);              /* LIST to ITER */
bool nib_jv_is_number(nib_jv v);            /* BOOL, INT, FLOAT */
double nib_jv_number(nib_jv v);
bool nib_jv_true(nib_jv v);
bool nib_jv_equal(nib_jrun *r, nib_jv a, nib_jv b);
/* Below 0, 0, above 0; values without an order are an error. */
int nib_jv_order(nib_jrun *r, nib_jv a, nib_jv b);
bool nib_jv_in(nib_jrun *r, nib_jv a, nib_jv all);
/* Indices of v[n] in order, those of equal ones as they stand; NULL: an error is recorded. */
size_t *nib_jv_sorted(nib_jrun *r, const nib_jv *v, size_t n, bool reverse);
/* Number of items, characters of a string; false, and nothing recorded: it has no length. */
bool nib_jv_length(nib_jrun *r, nib_jv v, size_t *n);
/* All that a `for` would see: a list (of borrowed items); of an iterator what is left. What is not
 * iterable is an error. */
nib_jlist nib_jv_items(nib_jrun *r, nib_jv v);
bool nib_jv_iterable(nib_jv v);

/* Index of a key or -1; what cannot be a key is an error. */
ptrdiff_t nib_jdict_find(nib_jrun *r, const nib_jdict *d, nib_jv key);
void nib_jdict_put(nib_jrun *r, nib_jdict *d, nib_jv key, nib_jv value);
nib_jv nib_jv_attr(nib_jrun *r, nib_jv v, nib_jv name);
nib_jv nib_jv_item(nib_jrun *r, nib_jv v, nib_jv key);

/* As Python's type() and str() name and write it; repr has quotes around strings. */
const char *nib_jv_type(nib_jv v);
void nib_jv_write(nib_jrun *r, nib_text *t, nib_jv v, bool repr);
nib_jv nib_jv_to_str(nib_jrun *r, nib_jv v); /* a string as it is */
enum { NIB_JNUMBER_MAX = 32 };
void nib_jwrite_float(char text[NIB_JNUMBER_MAX], double f);

/* ---- jinja_str.c ---- */

/* White space as Python has it, at the beginning or end of p[n], in bytes. */
size_t nib_jspace_front(const char *p, size_t n);
size_t nib_jspace_back(const char *p, size_t n);
size_t nib_jstr_length(nib_jrun *r, nib_jv s);
/* Byte where character i begins; s.n when there are not as many. */
size_t nib_jstr_at(nib_jrun *r, nib_jv s, size_t i);
/* Byte where s[from..] holds what, or SIZE_MAX. */
size_t nib_jstr_find(nib_jrun *r, nib_jv s, size_t from, nib_jv what);
nib_jv nib_jstr_part(nib_jv s, size_t from, size_t end); /* bytes */
/* side: -1 front, 1 end, 0 both; chars: undefined or None is white space. */
nib_jv nib_jstr_strip(nib_jrun *r, nib_jv s, nib_jv chars, int side);
typedef enum {
    NIB_JCASE_LOWER,
    NIB_JCASE_UPPER,
    NIB_JCASE_CAPITAL,
    NIB_JCASE_TITLE,
    NIB_JCASE_WORDS,
    NIB_JCASE_SWAP
} nib_jcase;
nib_jv nib_jstr_case(nib_jrun *r, nib_jv s, nib_jcase how);
bool nib_jstr_is_case(nib_jv s, bool upper); /* letters, all of this case */
nib_jv nib_jstr_replace(nib_jrun *r, nib_jv s, nib_jv old, nib_jv by, int64_t most);
nib_jv nib_jstr_lines(nib_jrun *r, nib_jv s);
nib_jv nib_jstr_join(nib_jrun *r, nib_jv between, nib_jlist items, bool any);
/* str.format, of fields that are a number or a name alone. */
nib_jv nib_jstr_format(nib_jrun *r, nib_jv s, const nib_jargs *args);
/* <>&'" as HTML has them, marked safe. */
nib_jv nib_jstr_escape(nib_jrun *r, nib_jv s);

/* ---- jinja_json.c ---- */

nib_jv nib_jv_from_json(nib_jrun *r, const nib_json *j);
/* json.dumps; indent NULL: one line. */
typedef struct {
    bool ascii, sort;
    const char *indent;
    size_t n_indent;
    nib_jv item, colon; /* separators */
} nib_jdump;
void nib_jv_dump(nib_jrun *r, nib_text *t, nib_jv v, const nib_jdump *how);

/* ---- jinja_call.c ---- */

/* Arguments as they are called with. */
enum { NIB_JARGS_MAX = 64 };
struct nib_jargs {
    size_t n, n_named;
    nib_jv v[NIB_JARGS_MAX];    /* those by position, then those by name */
    nib_jv name[NIB_JARGS_MAX]; /* of the latter */
};

/* Sort arguments into the parameters, words of the list ("a b c"): v[n_params], undefined where
 * there is none (given[i] false). Too many, unknown and repeated ones are errors that name `what`.
 */
enum { NIB_JPARAMS_MAX = 6 };
typedef struct {
    nib_jv v[NIB_JPARAMS_MAX];
    bool given[NIB_JPARAMS_MAX];
} nib_jparams;
bool nib_jbind(nib_jrun *r, nib_jparams *p, const nib_jargs *args, const char *what,
               const char *list);
/* v[i] as a whole number or a truth; `otherwise` where it is not given. */
int64_t nib_jint(nib_jrun *r, const nib_jparams *p, size_t i, int64_t otherwise);
bool nib_jflag(const nib_jparams *p, size_t i, bool otherwise);

typedef nib_jv nib_jmethod_fn(nib_jrun *r, nib_jv self, const nib_jparams *p);
struct nib_jmethod {
    nib_jv self;
    const char *name, *params; /* params NULL: str.format, which takes any */
    nib_jmethod_fn *call;      /* NULL: known to Python, not to us         */
};
typedef struct {
    const char *name, *params;
    nib_jmethod_fn *call;
} nib_jmethod_row;
extern const nib_jmethod_row nib_jstr_methods[]; /* until name NULL */

typedef nib_jv nib_jfunction_fn(nib_jrun *r, const nib_jargs *args);
struct nib_jfunction {
    const char *name;
    nib_jfunction_fn *call;
};

/* A global function, or undefined. */
nib_jv nib_jglobal(nib_jrun *r, nib_jv name);
/* A method of v by that name; false: there is none. One that changes v gives an undefined value, as
 * in Jinja's sandbox. */
bool nib_jmethod_find(nib_jrun *r, nib_jv v, nib_jv name, nib_jv *out);
nib_jv nib_jcall(nib_jrun *r, nib_jv f, const nib_jargs *args);

/* ---- jinja_filter.c, jinja_test.c ---- */

nib_jv nib_jfilter(nib_jrun *r, nib_jv name, nib_jv v, const nib_jargs *args);
bool nib_jtest(nib_jrun *r, nib_jv name, nib_jv v, const nib_jargs *args);
bool nib_jfilter_known(nib_jv name);
bool nib_jtest_known(nib_jv name);

#endif
