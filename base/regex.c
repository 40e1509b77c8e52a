/* SPDX-License-Identifier: MIT */
/* base/regex.c - see regex.h. */
#include "base/regex.h"

#include "base/mem.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

struct nib_regex {
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *limits;
};

void nib_regex_free(nib_regex *r)
{
    if (!r) return;
    pcre2_code_free(r->code);
    pcre2_match_data_free(r->match);
    pcre2_match_context_free(r->limits);
    nib_free(r);
}

static nib_code compile(nib_regex *r, const char *pattern, size_t n, nib_err *err)
{
    int code;
    PCRE2_SIZE at;
    PCRE2_UCHAR why[128] = "";
    if (n > NIB_REGEX_LENGTH_MAX)
        return nib_fail(err, NIB_EINVAL, "the pattern is longer than %d bytes",
                        NIB_REGEX_LENGTH_MAX);
    r->code = pcre2_compile((PCRE2_SPTR)pattern, n, 0, &code, &at, NULL);
    if (r->code) return NIB_OK;
    pcre2_get_error_message(code, why, sizeof why);
    return nib_fail(err, NIB_EINVAL, "%s, at character %zu of the pattern", (const char *)why,
                    (size_t)at + 1);
}

nib_code nib_regex_new(nib_regex **out, const char *pattern, size_t n, nib_err *err)
{
    *out = NULL;
    nib_regex *r = nib_calloc(1, sizeof *r);
    if (!r) return nib_fail_nomem(err, "a regular expression");
    nib_code rc = compile(r, pattern, n, err);
    if (!rc) {
        r->match = pcre2_match_data_create(1, NULL);
        r->limits = pcre2_match_context_create(NULL);
        if (!r->match || !r->limits) rc = nib_fail_nomem(err, "a regular expression");
    }
    if (rc) {
        nib_regex_free(r);
        return rc;
    }
    pcre2_set_match_limit(r->limits, NIB_REGEX_STEPS_MAX);
    *out = r;
    return NIB_OK;
}

nib_code nib_regex_find(const nib_regex *r, const char *text, bool at_start, bool *found,
                        nib_err *err)
{
    PCRE2_UCHAR why[128] = "";
    const int rc = pcre2_match(r->code, (PCRE2_SPTR)text, strlen(text), 0,
                               at_start ? PCRE2_ANCHORED : 0, r->match, r->limits);
    *found = rc >= 0;
    if (rc >= 0 || rc == PCRE2_ERROR_NOMATCH) return NIB_OK;
    pcre2_get_error_message(rc, why, sizeof why);
    return nib_fail(err, NIB_EINVAL, "%s, looking for the pattern in '%.200s'", (const char *)why,
                    text);
}
