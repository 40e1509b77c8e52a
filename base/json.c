/* SPDX-License-Identifier: MIT */
/* base/json.c - see json.h. The only file that sees cJSON, and the place that closes its gaps.
 *
 * The text is scanned before the library sees it, for what the library lets through; and once more
 * beside the tree, since the library keeps no trace of how a number was written. */
#include "base/json.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- parsing ---- */

static void *hook_alloc(size_t n)
{
    return nib_alloc(n, 1);
}

static void install_hooks(void)
{
    cJSON_Hooks hooks = {hook_alloc, nib_free};
    cJSON_InitHooks(&hooks);
}

static void once(void)
{
    static pthread_once_t flag = PTHREAD_ONCE_INIT;
    pthread_once(&flag, install_hooks);
}

static nib_code fail_at(nib_err *err, const char *text, size_t n, size_t pos, const char *what)
{
    size_t line = 1, col = 1;
    for (size_t i = 0; i < pos && i < n; i++) {
        col++;
        if (text[i] == '\n') line++, col = 1;
    }
    return nib_fail(err, NIB_EFORMAT, "JSON line %zu, column %zu: %s", line, col, what);
}

/* An integer in JSON text has no '.', 'e' or 'E'. cJSON marks nothing, so a number that was
 * written as a float gets the spare bit below in its type field. */
enum { WRITTEN_AS_FLOAT = 1 << 16 };

/* Position of the end of the string that starts at text[i] = '"'. The text has been parsed. */
static size_t skip_string(const char *text, size_t i)
{
    for (i++; text[i] != '"'; i++)
        if (text[i] == '\\') i++;
    return i + 1;
}

static size_t skip_digits(const char *text, size_t n, size_t i)
{
    while (i < n && text[i] >= '0' && text[i] <= '9') i++;
    return i;
}

/* End of the number at text[i], i when it is not in JSON's grammar: the library also takes leading
 * zeros, a point without digits and the like. */
static size_t skip_number(const char *text, size_t n, size_t i, bool *is_float)
{
    size_t start = i, first = text[i] == '-' ? i + 1 : i, end = skip_digits(text, n, first);
    *is_float = false;
    if (end == first || (end - first > 1 && text[first] == '0')) return start;
    if (end < n && text[end] == '.') {
        *is_float = true;
        first = end + 1;
        if ((end = skip_digits(text, n, first)) == first) return start;
    }
    if (end < n && (text[end] == 'e' || text[end] == 'E')) {
        *is_float = true;
        first = end + 1;
        if (first < n && (text[first] == '+' || text[first] == '-')) first++;
        if ((end = skip_digits(text, n, first)) == first) return start;
    }
    return end;
}

/* Walk text and tree together in document order from *pos, which stands before the item's number
 * and behind all earlier ones; strings are stepped over. The library's nesting limit bounds the
 * recursion. False: at *pos stands a number that is not in JSON's grammar. */
static bool mark_floats(const char *text, size_t n, size_t *pos, cJSON *item)
{
    for (; item; item = item->next) {
        if (cJSON_IsNumber(item)) {
            size_t i = *pos;
            bool is_float;
            while (i < n && text[i] != '-' && !(text[i] >= '0' && text[i] <= '9'))
                i = text[i] == '"' ? skip_string(text, i) : i + 1;
            *pos = skip_number(text, n, i, &is_float);
            if (*pos == i) return false;
            if (is_float) item->type |= WRITTEN_AS_FLOAT;
        }
        if (!mark_floats(text, n, pos, item->child)) return false;
    }
    return true;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Refuse an object that has a key twice, anywhere in the tree. */
static nib_code check_keys(const cJSON *item, nib_err *err)
{
    nib_code rc = NIB_OK;
    size_t n = 0;
    for (const cJSON *c = item->child; c; c = c->next) {
        n++;
        if (c->child && (rc = check_keys(c, err))) return rc;
    }
    if (!cJSON_IsObject(item) || n < 2) return NIB_OK;
    const char **keys = nib_alloc(n, sizeof *keys);
    if (!keys) return nib_fail_nomem(err, "JSON keys");
    size_t k = 0;
    for (const cJSON *c = item->child; c; c = c->next) keys[k++] = c->string;
    qsort(keys, n, sizeof *keys, by_key);
    for (size_t i = 1; i < n && !rc; i++)
        if (!strcmp(keys[i - 1], keys[i]))
            rc = nib_fail(err, NIB_EFORMAT, "JSON: key '%.200s' appears twice in one object",
                          keys[i]);
    nib_free(keys);
    return rc;
}

/* What the library lets through: bytes that are not UTF-8, and control characters. NULL, or what is
 * wrong at *pos. */
static const char *find_fault(const char *text, size_t n, size_t *pos)
{
    bool in_string = false;
    if ((*pos = nib_utf8_bad(text, n)) < n) return "not UTF-8";
    for (size_t i = *pos = 0; i < n; *pos = ++i) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 && (in_string || !c || !strchr("\t\r\n", c)))
            return c ? "a control character" : "a NUL character";
        if (c == '"') in_string = !in_string;
        if (c != '\\' || !in_string) continue;
        i++;
        if (i < n && (unsigned char)text[i] < 0x20) return "a control character";
    }
    return NULL;
}

/* Length of NaN or Infinity at text[i], which Python writes though JSON has neither; else 0. */
static size_t non_finite(const char *text, size_t n, size_t i)
{
    static const char *const words[] = {"NaN", "Infinity"};
    if (text[i] != 'N' && text[i] != 'I') return 0;
    if (i && !strchr("[,: \t\r\n-", text[i - 1])) return 0;
    for (size_t w = 0; w < 2; w++) {
        const size_t k = strlen(words[w]);
        if (n - i >= k && !memcmp(text + i, words[w], k)) return k;
    }
    return 0;
}

/* An escaped NUL, which would cut a string short, and what stands for it in the tree. */
static const char NUL_ESCAPE[] = "\\u0000", NUL_BYTES[] = "\xC0\x80";
enum { NUL_ESCAPE_LEN = 6, NUL_BYTES_LEN = 2 };

/* A copy in which these stand as a number that is not finite either, and an escaped NUL as C0 80,
 * for the caller to free; *copy stays NULL where there is neither. */
static nib_code respell(char **copy, size_t *n_copy, const char *text, size_t n, nib_err *err)
{
    static const char LARGE[] = " 1e999 "; /* as long as an Infinity at most, 4 more than a NaN */
    size_t found = 0, to = 0, k;
    *copy = NULL;
    for (int writing = 0; writing < 2; writing++) {
        bool in_string = false;
        for (size_t i = 0; i < n; i += k) {
            const char c = text[i];
            k = c == '\\' && in_string && i + 1 < n ? 2 : 1;
            if (c == '"') in_string = !in_string;
            const size_t word = in_string || c == '"' ? 0 : non_finite(text, n, i);
            const bool nul =
                k == 2 && n - i >= NUL_ESCAPE_LEN && !memcmp(text + i, NUL_ESCAPE, NUL_ESCAPE_LEN);
            if (word || nul) k = word ? word : NUL_ESCAPE_LEN;
            if ((word || nul) && !writing) found++;
            if (!writing) continue;
            const char *from = word  ? LARGE + (i && text[i - 1] == '-')
                               : nul ? NUL_BYTES
                                     : text + i;
            const size_t size = word || nul ? strlen(from) : k;
            memcpy(*copy + to, from, size);
            to += size;
        }
        if (!found) return NIB_OK;
        if (!writing && !(*copy = nib_alloc(n + 4 * found + 1, 1)))
            return nib_fail_nomem(err, "JSON text");
    }
    *n_copy = to;
    return NIB_OK;
}

static nib_code parse(nib_json **out, const char *text, size_t n, nib_err *err)
{
    size_t pos;
    const char *end = NULL;
    cJSON *root = cJSON_ParseWithLengthOpts(text, n, &end, 0);
    if (!root) {
        pos = end && end >= text ? (size_t)(end - text) : 0;
        return fail_at(err, text, n, pos, "not valid JSON");
    }
    for (; end < text + n; end++)
        if (!strchr(" \t\r\n", *end)) {
            cJSON_Delete(root);
            return fail_at(err, text, n, (size_t)(end - text),
                           "text after the end of the document");
        }
    nib_code rc;
    pos = 0;
    if (!mark_floats(text, n, &pos, root))
        rc = fail_at(err, text, n, pos, "not a number in JSON's grammar");
    else
        rc = check_keys(root, err);
    if (rc) {
        cJSON_Delete(root);
        return rc;
    }
    *out = root;
    return NIB_OK;
}

nib_code nib_json_parse(nib_json **out, const char *text, size_t n, nib_err *err)
{
    char *copy;
    size_t pos, n_copy = 0;
    once();
    *out = NULL;
    const char *fault = find_fault(text, n, &pos);
    if (fault) return fail_at(err, text, n, pos, fault);
    nib_code rc = respell(&copy, &n_copy, text, n, err);
    if (!rc) rc = parse(out, copy ? copy : text, copy ? n_copy : n, err);
    nib_free(copy);
    return rc;
}

nib_code nib_json_load(nib_json **out, const char *path, size_t max_bytes, nib_err *err)
{
    char *text;
    size_t n;
    *out = NULL;
    nib_code rc = nib_file_slurp(&text, &n, path, max_bytes, err);
    if (rc) return rc;
    if ((rc = nib_json_parse(out, text, n, err))) nib_wrap(err, "%s", path);
    nib_free(text);
    return rc;
}

void nib_json_free(nib_json *root)
{
    cJSON_Delete(root);
}

/* ---- lines ---- */

/* Items of the tree before `wanted`, in the order of the text; true when it was met. */
static bool count_before(const cJSON *item, const cJSON *wanted, size_t *n)
{
    for (; item; item = item->next) {
        if (item == wanted) return true;
        ++*n;
        if (count_before(item->child, wanted, n)) return true;
    }
    return false;
}

size_t nib_json_line(const nib_json *root, const nib_json *item, const char *text, size_t n)
{
    size_t before = 0, line = 1, key = 0;
    if (!count_before(root, item, &before)) return 0;
    for (size_t i = 0; i < n;) {
        const char c = text[i];
        size_t end = i + 1;
        if (strchr(" \t\r\n,:]}", c)) {
            line += c == '\n';
            i = end;
            continue;
        }
        if (c == '"') end = skip_string(text, i);
        if (c == '"' && text[end + strspn(text + end, " \t\r\n")] == ':') {
            key = line;
            i = end;
            continue;
        }
        if (!strchr("\"[{", c)) end = i + strcspn(text + i, " \t\r\n,]}");
        if (!before--) return key ? key : line;
        key = 0;
        i = end;
    }
    return 0;
}

/* ---- reading ---- */

const nib_json *nib_json_get(const nib_json *j, const char *key)
{
    return cJSON_IsObject(j) ? cJSON_GetObjectItemCaseSensitive(j, key) : NULL;
}

const nib_json *nib_json_first(const nib_json *j)
{
    return cJSON_IsObject(j) || cJSON_IsArray(j) ? j->child : NULL;
}

const nib_json *nib_json_next(const nib_json *child)
{
    return child->next;
}
const char *nib_json_key(const nib_json *child)
{
    return child->string;
}

size_t nib_json_count(const nib_json *j)
{
    size_t n = 0;
    for (const nib_json *c = nib_json_first(j); c; c = c->next) n++;
    return n;
}

bool nib_json_is_object(const nib_json *j)
{
    return cJSON_IsObject(j);
}
bool nib_json_is_array(const nib_json *j)
{
    return cJSON_IsArray(j);
}
bool nib_json_is_string(const nib_json *j)
{
    return cJSON_IsString(j);
}
bool nib_json_is_null(const nib_json *j)
{
    return cJSON_IsNull(j);
}

bool nib_json_is_real(const nib_json *j)
{
    return cJSON_IsNumber(j) && j->type & WRITTEN_AS_FLOAT;
}

bool nib_json_str(const nib_json *j, const char **out)
{
    const char *s;
    if (!nib_json_text(j, &s) || strstr(s, NUL_BYTES)) return false;
    *out = s;
    return true;
}

bool nib_json_text(const nib_json *j, const char **out)
{
    if (!cJSON_IsString(j)) return false;
    *out = j->valuestring;
    return true;
}

size_t nib_json_bytes(char *dst, const char *s)
{
    size_t n = 0;
    for (; *s; n++) {
        const bool nul = !strncmp(s, NUL_BYTES, NUL_BYTES_LEN);
        if (dst) dst[n] = nul ? 0 : *s;
        s += nul ? NUL_BYTES_LEN : 1;
    }
    return n;
}

bool nib_json_u64(const nib_json *j, uint64_t *out)
{
    if (!cJSON_IsNumber(j) || j->type & WRITTEN_AS_FLOAT) return false;
    double v = j->valuedouble;
    if (!(v >= 0 && v < 0x1p53)) return false;
    *out = (uint64_t)v;
    return true;
}

bool nib_json_i64(const nib_json *j, int64_t *out)
{
    if (!cJSON_IsNumber(j) || j->type & WRITTEN_AS_FLOAT) return false;
    if (!(fabs(j->valuedouble) < 0x1p53)) return false;
    *out = (int64_t)j->valuedouble;
    return true;
}

bool nib_json_num(const nib_json *j, double *out)
{
    if (!cJSON_IsNumber(j) || !isfinite(j->valuedouble)) return false;
    *out = j->valuedouble;
    return true;
}

bool nib_json_bool(const nib_json *j, bool *out)
{
    if (!cJSON_IsBool(j)) return false;
    *out = cJSON_IsTrue(j);
    return true;
}

/* Would the library print a real number as an integer? */
static bool loses_point(const cJSON *j)
{
    return cJSON_IsNumber(j) && j->type & WRITTEN_AS_FLOAT &&
           j->valuedouble == rint(j->valuedouble) && fabs(j->valuedouble) < 1e15;
}

static bool any_loses_point(const cJSON *j)
{
    for (const cJSON *c = j->child; c; c = c->next)
        if (loses_point(c) || any_loses_point(c)) return true;
    return loses_point(j);
}

/* Make such numbers texts that are printed as they are. */
static bool keep_points(cJSON *j)
{
    char text[32];
    for (cJSON *c = j->child; c; c = c->next)
        if (!keep_points(c)) return false;
    if (!loses_point(j)) return true;
    snprintf(text, sizeof text, "%.1f", j->valuedouble);
    j->valuestring = nib_strdup(text);
    j->type = cJSON_Raw;
    return j->valuestring;
}

/* `text`, or a copy in place of it in which C0 80 is the escape for NUL again; NULL: no memory. */
static char *escape_nul(char *text)
{
    size_t found = 0, n;
    for (const char *p = text; p && (p = strstr(p, NUL_BYTES)); p += NUL_BYTES_LEN) found++;
    if (!found) return text;
    char *copy = nib_alloc(strlen(text) + 4 * found + 1, 1), *to = copy;
    for (const char *p = text; copy && *p; p += n) {
        const char *at = strstr(p, NUL_BYTES);
        n = at ? (size_t)(at - p) : strlen(p);
        memcpy(to, p, n);
        to += n;
        if (!at) continue;
        memcpy(to, NUL_ESCAPE, NUL_ESCAPE_LEN);
        to += NUL_ESCAPE_LEN;
        n += NUL_BYTES_LEN;
    }
    if (copy) *to = 0;
    nib_free(text);
    return copy;
}

char *nib_json_print(const nib_json *j, bool indent)
{
    once();
    const bool points = any_loses_point(j);
    cJSON *copy = points ? cJSON_Duplicate(j, true) : NULL;
    const cJSON *from = points ? copy : j;
    char *text = NULL;
    if (!points || (copy && keep_points(copy)))
        text = indent ? cJSON_Print(from) : cJSON_PrintUnformatted(from);
    cJSON_Delete(copy);
    return escape_nul(text);
}

nib_code nib_json_save(nib_json *root, bool ok, const char *path, bool force, nib_err *err)
{
    char *text = root && ok ? nib_json_print(root, true) : NULL;
    const size_t n = text ? strlen(text) : 0;
    nib_json_free(root);
    if (!text) return nib_fail_nomem(err, path);
    text[n] = '\n'; /* in place of the NUL */
    nib_code rc = nib_file_save(path, text, n + 1, force, err);
    nib_free(text);
    return rc;
}

/* ---- building ---- */

/* Under `name`, which it takes; an array's item goes by none, which `named` tells from no memory.
 */
static cJSON *attach_under(cJSON *parent, bool named, char *name, cJSON *item)
{
    const bool ok =
        item && parent && (!named || name) &&
        (named ? cJSON_AddItemToObject(parent, name, item) : cJSON_AddItemToArray(parent, item));
    nib_free(name);
    if (ok) return item;
    cJSON_Delete(item);
    return NULL;
}

static cJSON *attach(cJSON *parent, const char *key, cJSON *item)
{
    return attach_under(parent, key, key ? nib_utf8_replace(key) : NULL, item);
}

/* A copy of s[n] as the tree has it. */
static char *tree_text(const char *s, size_t n)
{
    size_t room;
    if (!nib_mul(n, NUL_BYTES_LEN, &room) || !nib_add(room, 1, &room)) return NULL;
    char *text = nib_alloc(room, 1), *to = text;
    for (size_t i = 0; text && i < n; i++) {
        if (s[i])
            *to++ = s[i];
        else
            to = (char *)memcpy(to, NUL_BYTES, NUL_BYTES_LEN) + NUL_BYTES_LEN;
    }
    if (text) *to = 0;
    return text;
}

nib_json *nib_json_new_object(void)
{
    once();
    return cJSON_CreateObject();
}

nib_json *nib_json_new_array(void)
{
    once();
    return cJSON_CreateArray();
}

nib_json *nib_json_add_object(nib_json *parent, const char *key)
{
    return attach(parent, key, cJSON_CreateObject());
}
nib_json *nib_json_add_array(nib_json *parent, const char *key)
{
    return attach(parent, key, cJSON_CreateArray());
}
nib_json *nib_json_add_copy(nib_json *parent, const char *key, const nib_json *tree)
{
    return attach(parent, key, cJSON_Duplicate(tree, true));
}
bool nib_json_add_str(nib_json *parent, const char *key, const char *value)
{
    char *text = nib_utf8_replace(value);
    cJSON *item = text ? cJSON_CreateString(text) : NULL;
    nib_free(text);
    return attach(parent, key, item);
}
bool nib_json_add_text(nib_json *parent, const char *key, const char *value, size_t n)
{
    char *text = tree_text(value, n);
    cJSON *item = text ? cJSON_CreateString(text) : NULL;
    nib_free(text);
    return attach(parent, key, item);
}
bool nib_json_add_num_under(nib_json *parent, const char *key, size_t n_key, double value)
{
    return attach_under(parent, true, tree_text(key, n_key), cJSON_CreateNumber(value));
}
bool nib_json_add_num(nib_json *parent, const char *key, double value)
{
    return attach(parent, key, cJSON_CreateNumber(value));
}
bool nib_json_add_real(nib_json *parent, const char *key, float value)
{
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) break;
    }
    cJSON *j = attach(parent, key, cJSON_CreateNumber(strtod(text, NULL)));
    if (j) j->type |= WRITTEN_AS_FLOAT;
    return j;
}
bool nib_json_add_bool(nib_json *parent, const char *key, bool value)
{
    return attach(parent, key, cJSON_CreateBool(value));
}
bool nib_json_add_null(nib_json *parent, const char *key)
{
    return attach(parent, key, cJSON_CreateNull());
}

void nib_json_remove(nib_json *parent, const char *key)
{
    cJSON_DeleteItemFromObjectCaseSensitive(parent, key);
}
