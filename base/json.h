/* SPDX-License-Identifier: MIT */
/* base/json.h - strict JSON. The only header whose source sees the JSON library.
 *
 * Stricter than the library underneath: the whole text must be one document, object keys are
 * case-sensitive and unique, and an integer is one only if a double holds it exactly (so up to
 * 2^53; larger ones are refused, not rounded). More lenient in one thing: NaN, Infinity and
 * -Infinity, which Python writes, are numbers that no typed read gives, so they are harmless where
 * nobody asks for them. A tree is owned by its root; values are borrowed
 * from it. Lookup by key is linear: walk children in order where there are many.
 *
 * A NUL in a string or key (\u0000) stands in the tree as the two bytes C0 80, which no UTF-8 text
 * has; see nib_json_text(). */
#ifndef NIB_BASE_JSON_H
#define NIB_BASE_JSON_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cJSON nib_json;

/* text need not end in NUL. Errors name line and column. Leading and trailing white space is
 * allowed, anything else after the document is not. */
NIB_MUST_USE nib_code nib_json_parse(nib_json **out, const char *text, size_t n, nib_err *err);
/* Read and parse a file of at most max_bytes; errors name it. */
NIB_MUST_USE nib_code nib_json_load(nib_json **out, const char *path, size_t max_bytes,
                                    nib_err *err);
void nib_json_free(nib_json *root); /* accepts NULL */

/* The line, from 1, of an item of the tree, or of its key where it has one, in the text that was
 * parsed, with a NUL at its end; 0: the item is of another tree. Linear: for messages. */
size_t nib_json_line(const nib_json *root, const nib_json *item, const char *text, size_t n);

/* Member of an object; NULL when `j` is NULL, no object, or has none. */
const nib_json *nib_json_get(const nib_json *j, const char *key);
/* Walk an array's or object's children: first, then next; NULL at the end. */
const nib_json *nib_json_first(const nib_json *j);
const nib_json *nib_json_next(const nib_json *child);
const char *
nib_json_key(const nib_json *child);      /* key of an object's child, borrowed; NUL as C0 80 */
size_t nib_json_count(const nib_json *j); /* number of children; linear */

bool nib_json_is_object(const nib_json *j); /* these accept NULL: false */
bool nib_json_is_array(const nib_json *j);
bool nib_json_is_string(const nib_json *j);
bool nib_json_is_null(const nib_json *j);
bool nib_json_is_real(const nib_json *j); /* a number written with a point or an exponent */

/* Typed reads: true and *out set when j is exactly that; j may be NULL (false). */
bool nib_json_str(const nib_json *j,
                  const char **out); /* borrowed; false for one with a NUL in it */
bool nib_json_text(const nib_json *j, const char **out); /* any string, NUL as C0 80 */
bool nib_json_u64(const nib_json *j, uint64_t *out);     /* integers 0..2^53 */
bool nib_json_i64(const nib_json *j, int64_t *out);      /* integers -2^53..2^53 */
bool nib_json_num(const nib_json *j, double *out);       /* finite */
bool nib_json_bool(const nib_json *j, bool *out);

/* The bytes of such a text or key, NUL for C0 80, into dst[strlen(s)] (NULL: nowhere); how many. */
size_t nib_json_bytes(char *dst, const char *s);

/* Compact or indented text; caller frees with nib_free; NULL when memory is short. A number that
 * was parsed from a text with a point or an exponent, or added as a real one, has one again: some
 * readers tell 1.0 from 1. */
char *nib_json_print(const nib_json *j, bool indent);
/* The tree as a file, indented, with a newline at its end; written aside and renamed. Takes the
 * tree; root NULL or !ok: building it, memory was short. */
NIB_MUST_USE nib_code nib_json_save(nib_json *root, bool ok, const char *path, bool force,
                                    nib_err *err);

/* Building. Children added to a parent are owned by it. NULL results mean no memory. Keys and
 * strings that are not UTF-8, as names of files need not be, go through nib_utf8_replace(). */
nib_json *nib_json_new_object(void);
nib_json *nib_json_new_array(void);
nib_json *nib_json_add_object(nib_json *parent, const char *key); /* key NULL: parent is an array */
nib_json *nib_json_add_array(nib_json *parent, const char *key);
nib_json *nib_json_add_copy(nib_json *parent, const char *key, const nib_json *tree);
bool nib_json_add_str(nib_json *parent, const char *key, const char *value);
/* The same of n bytes of UTF-8 that may hold NUL, and a number under a key of that kind. */
bool nib_json_add_text(nib_json *parent, const char *key, const char *value, size_t n);
bool nib_json_add_num_under(nib_json *parent, const char *key, size_t n_key, double value);
bool nib_json_add_num(nib_json *parent, const char *key, double value);
/* A real number, by the shortest decimal that reads as this f32: 1e-05 and 10000.0. */
bool nib_json_add_real(nib_json *parent, const char *key, float value);
bool nib_json_add_bool(nib_json *parent, const char *key, bool value);
/* Remove a member of an object, if it is there. */
void nib_json_remove(nib_json *parent, const char *key);
bool nib_json_add_null(nib_json *parent, const char *key);

#endif
