/* SPDX-License-Identifier: MIT */
/* What reaches standard error at each level, and that a line of progress gives way to others. */
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char said[1024];

/* All three kinds of lines and a progress of two steps, of which the first is too early. */
static void talk(nib_log *log)
{
    nib_progress p;
    FILE *f = tmpfile();
    assert_non_null(f);
    const int real = dup(STDERR_FILENO);
    assert_true(dup2(fileno(f), STDERR_FILENO) >= 0);
    nib_progress_begin(&p, log, "reading", "MB", 200);
    nib_progress_at(&p, 10);
    p.last_shown -= 60; /* as if a minute ago */
    p.started -= 50;
    nib_progress_note(&p, "%d", 42);
    nib_progress_at(&p, 100);
    nib_warn(log, "w%d\x1b", 1);
    nib_info(log, "i%d", 2);
    nib_debug(log, "d%d", 3);
    nib_progress_end(&p);
    fflush(stderr);
    assert_true(dup2(real, STDERR_FILENO) >= 0);
    close(real);
    rewind(f);
    said[fread(said, 1, sizeof said - 1, f)] = 0;
    fclose(f);
}

/* Between the two is the clock's part. */
static void begins_and_ends(const char *begin, const char *end)
{
    const size_t n = strlen(said), b = strlen(begin), e = strlen(end);
    if (n < b + e || memcmp(said, begin, b) || memcmp(said + n - e, end, e))
        fail_msg("\"%s\" should begin with \"%s\" and end with \"%s\"", said, begin, end);
}

/* 100 of 200 in 50 seconds and the time that the test takes: 2 a second, 50 seconds to go, or more
 * where the machine is busy. */
static void levels(void **state)
{
    (void)state;
    double rate;
    int minutes, seconds;
    nib_log log = {.level = NIB_LOG_QUIET};
    talk(&log);
    assert_string_equal(said, "");
    talk(NULL);
    assert_string_equal(said, "");
    log.level = NIB_LOG_NORMAL;
    talk(&log);
    begins_and_ends("reading  50%, ", " left, 42\nnibble: warning: w1 \ni2\n");
    assert_int_equal(sscanf(said, "reading 50%%, %lf MB/s, %d:%d", &rate, &minutes, &seconds), 3);
    assert_true(rate <= 2 && rate > 1 && minutes * 60 + seconds >= 50);
    log.level = NIB_LOG_VERBOSE;
    talk(&log);
    begins_and_ends("reading  50%, ", "i2\nd3\n");
}

static void one_line_on_a_terminal(void **state)
{
    (void)state;
    nib_log log = {.level = NIB_LOG_NORMAL, .tty = true};
    talk(&log);
    begins_and_ends("\r\x1b[Kreading [############............]  50%, ",
                    " left, 42\r\x1b[Knibble: warning: w1 \ni2\n");
    assert_false(log.line_open);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels),
        cmocka_unit_test(one_line_on_a_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
