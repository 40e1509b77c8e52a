/* SPDX-License-Identifier: MIT */
/* tests/cli/test_cases.c - run the program on a folder of cases; a case is a text file.
 *
 *     args:   perplexity --ctx 9 $DATA/tiny-llama     shell words after "nibble"
 *     exit:   2                                       expected status (0 when absent)
 *     stderr: nibble: --ctx: '9' should be            a part of what is printed; repeatable
 *     stdout: ...                                     the same for standard output
 *     stdin:  ...                                     a line of input (none when absent);
 * repeatable before: ...                                     shell command that must work first
 *
 * An empty "stdout:" or "stderr:" says that nothing is printed there. Other lines are comments.
 * Each case runs in an empty folder of its own; $DATA is the folder of the demonstration model.
 *
 *     test_cases PROGRAM DATA FOLDER */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { MAX_CASES = 512, MAX_FILE = 1 << 20 };

static char *slurp(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s: cannot be read", path);
    char *text = calloc(MAX_FILE, 1);
    assert_non_null(text);
    if (fread(text, 1, MAX_FILE - 1, f) == MAX_FILE - 1) fail_msg("%s: too long", path);
    fclose(f);
    return text;
}

/* The value of a "key: value" line; NULL when the line has another key. */
static char *value_of(char *line, const char *key)
{
    size_t n = strlen(key);
    if (strncmp(line, key, n) || line[n] != ':') return NULL;
    return line + n + 1 + strspn(line + n + 1, " \t");
}

static void expect(const char *stream, const char *fragment, const char *printed, char **report)
{
    if (*fragment ? strstr(printed, fragment) != NULL : !*printed) return;
    const char *what = *fragment ? "should have" : "should be empty";
    size_t n = strlen(fragment) + strlen(printed) + 80;
    free(*report);
    *report = malloc(n);
    assert_non_null(*report);
    snprintf(*report, n, "%s %s: %s\nbut has: %s", stream, what, fragment, printed);
}

/* What a case asks for, collected line by line into files of the scratch folder. */
static int prepare(char *text, int *expected_exit)
{
    FILE *cmd = fopen("cmd", "w"), *in = fopen("in", "w");
    assert_true(cmd && in);
    int lines = 0;
    char *save = NULL, *v;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if ((v = value_of(line, "before")))
            fprintf(cmd, "{ %s; } >/dev/null || exit 99\n", v);
        else if ((v = value_of(line, "args")))
            lines += fprintf(cmd, "{ nibble %s\n} <in\nstatus=$?\n", v) > 0;
        else if ((v = value_of(line, "after")))
            fprintf(cmd, "{ %s; } >/dev/null || exit 98\n", v);
        else if ((v = value_of(line, "stdin")))
            fprintf(in, "%s\n", v);
        else if ((v = value_of(line, "exit")))
            *expected_exit = atoi(v);
    }
    fprintf(cmd, "exit $status\n");
    fclose(cmd);
    fclose(in);
    return lines;
}

static void run_case(void **state)
{
    const char *path = *state;
    char scratch[] = "/tmp/nibble-case-XXXXXX";
    assert_non_null(mkdtemp(scratch));
    char *text = slurp(path), *again = slurp(path), *report = NULL, *save = NULL, *v;
    int expected = 0;
    assert_int_equal(chdir(scratch), 0);
    if (prepare(again, &expected) != 1) fail_msg("%s: needs one 'args:' line", path);
    int status = system("mkdir work && mv in work && cd work && sh ../cmd >../out 2>../err");
    int got = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    char *out = slurp("out"), *err = slurp("err");
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if ((v = value_of(line, "stdout"))) expect("stdout", v, out, &report);
        if ((v = value_of(line, "stderr"))) expect("stderr", v, err, &report);
    }
    assert_int_equal(chdir("/"), 0);
    char clean[128];
    snprintf(clean, sizeof clean, "chmod -R u+w %s; rm -rf %s", scratch, scratch);
    if (system(clean)) print_message("%s: not removed\n", scratch);
    if (got != expected) fail_msg("exit status %d instead of %d; stderr: %s", got, expected, err);
    if (report) fail_msg("%s", report);
    free(text);
    free(again);
    free(out);
    free(err);
}

static int is_case(const struct dirent *d)
{
    size_t n = strlen(d->d_name);
    return n > 5 && !strcmp(d->d_name + n - 5, ".case");
}

/* "nibble" in a case is the program under test, through its folder put first on PATH. */
static void set_environment(const char *program, const char *data)
{
    static char path[8192];
    const char *slash = strrchr(program, '/');
    if (*program != '/') {
        fprintf(stderr, "%s: needs the whole path\n", program);
        exit(2);
    }
    snprintf(path, sizeof path, "%.*s:%s", (int)(slash - program), program, getenv("PATH"));
    setenv("PATH", path, 1);
    setenv("DATA", data, 1);
}

int main(int argc, char **argv)
{
    static struct CMUnitTest tests[MAX_CASES];
    static char paths[MAX_CASES][1024];
    if (argc != 4) {
        fputs("usage: test_cases PROGRAM DATA FOLDER\n", stderr);
        return 2;
    }
    set_environment(argv[1], argv[2]);
    struct dirent **entry;
    int n = scandir(argv[3], &entry, is_case, alphasort);
    if (n < 1 || n > MAX_CASES) {
        fprintf(stderr, "%s: %d cases\n", argv[3], n);
        return 2;
    }
    for (int i = 0; i < n; i++) {
        snprintf(paths[i], sizeof paths[i], "%s/%s", argv[3], entry[i]->d_name);
        const char *name = strrchr(paths[i], '/') + 1;
        tests[i] =
            (struct CMUnitTest){.name = name, .test_func = run_case, .initial_state = paths[i]};
        free(entry[i]);
    }
    free(entry);
    return _cmocka_run_group_tests("cases", tests, (size_t)n, NULL, NULL);
}
