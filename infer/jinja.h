/* SPDX-License-Identifier: MIT */
/* infer/jinja.h - templates in the part of the Jinja language that chat templates use, with the
 * environment that Transformers gives them (utils/chat_template_utils.py): blocks trimmed,
 * `break`, `continue` and `{% generation %}`, Python's way to write values, collections that cannot
 * be changed, `tojson` as json.dumps has it, `raise_exception` and `strftime_now`. The language is
 * that of Jinja 3.1 (its template designer documentation); a tag, filter, test, method or function
 * that is not known here is an error that names it and its line, never a text without it.
 *
 * Templates and values may come from files that nobody vouches for: size, depth, steps, memory and
 * output are bounded, whatever a template does. */
#ifndef NIB_INFER_JINJA_H
#define NIB_INFER_JINJA_H

#include "base/json.h"
#include "infer/tokenizer_text.h"

enum {
    NIB_JINJA_SOURCE_MAX = 1 << 20, /* bytes of a template                                       */
    NIB_JINJA_NESTING_MAX = 150,    /* blocks and brackets in each other                         */
    NIB_JINJA_DEPTH_MAX = 600,      /* of what is computed, calls of macros and values in values */
    NIB_JINJA_STEPS_MAX = 1 << 24,  /* of one rendering: some seconds                            */
    NIB_JINJA_MEMORY_MAX = 1 << 28, /* bytes of all values that one rendering makes              */
    NIB_JINJA_OUTPUT_MAX = 1 << 26, /* bytes                                                     */
};

/* The date that `strftime_now` tells, so that the same input gives the same text on every day:
 * midnight of 26 July 2024, which Llama 3's template has where it is told none. */
enum { NIB_JINJA_YEAR = 2024, NIB_JINJA_MONTH = 7, NIB_JINJA_DAY = 26 };

typedef struct nib_jinja nib_jinja;

/* Parse text[n], UTF-8. NIB_EFORMAT says what is wrong or not known, and in which line. A parsed
 * template does not change and may be shared by threads. */
NIB_MUST_USE nib_code nib_jinja_parse(nib_jinja **out, const char *text, size_t n, nib_err *err);
void nib_jinja_free(nib_jinja *t); /* accepts NULL */

/* A variable that the template sees; one with value NULL is None. Borrowed. */
typedef struct {
    const char *name;
    const nib_json *value;
} nib_jinja_var;

/* Append what the template makes of the variables to *out, which is as before on failure.
 * NIB_EFORMAT: not known, as above, or the template itself refuses them (raise_exception). */
NIB_MUST_USE nib_code nib_jinja_render(const nib_jinja *t, const nib_jinja_var *vars, size_t n,
                                       nib_text *out, nib_err *err);

#endif
