/* SPDX-License-Identifier: MIT */
/* base/log.c - see log.h. */
#include "base/log.h"

#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { TTY_PERIOD_MS = 200, PLAIN_PERIOD_MS = 15000, BAR_CELLS = 24, LINE_MAX_BYTES = 2048 };

double nib_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void nib_log_init(nib_log *log, nib_log_level level)
{
    *log = (nib_log){.level = level, .tty = isatty(STDERR_FILENO) == 1};
}

static void clear_line(nib_log *log)
{
    if (log->line_open) fputs("\r\033[K", stderr);
    log->line_open = false;
}

static void say(nib_log *log, nib_log_level least, const char *prefix, const char *fmt, va_list ap)
{
    if (!log || log->level < least) return;
    char line[LINE_MAX_BYTES];
    vsnprintf(line, sizeof line, fmt, ap);
    nib_one_line(line);
    clear_line(log);
    fprintf(stderr, "%s%s\n", prefix, line);
}

void nib_warn(nib_log *log, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(log, NIB_LOG_NORMAL, "nibble: warning: ", fmt, ap);
    va_end(ap);
}

void nib_info(nib_log *log, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(log, NIB_LOG_NORMAL, "", fmt, ap);
    va_end(ap);
}

void nib_debug(nib_log *log, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(log, NIB_LOG_VERBOSE, "", fmt, ap);
    va_end(ap);
}

void nib_progress_begin(nib_progress *p, nib_log *log, const char *what, const char *unit,
                        double total)
{
    double now = nib_now();
    *p = (nib_progress){log, what, unit, total, now, now, ""};
}

static void print_bar(double share)
{
    int full = (int)(share * BAR_CELLS);
    fputs(" [", stderr);
    for (int i = 0; i < BAR_CELLS; i++) fputc(i < full ? '#' : '.', stderr);
    fputc(']', stderr);
}

static void print_left(double seconds)
{
    long s = (long)(seconds + 0.5);
    if (s >= 3600)
        fprintf(stderr, ", %ld:%02ld:%02ld left", s / 3600, s / 60 % 60, s % 60);
    else
        fprintf(stderr, ", %ld:%02ld left", s / 60, s % 60);
}

void nib_progress_at(nib_progress *p, double done)
{
    nib_log *log = p->log;
    if (!log || log->level < NIB_LOG_NORMAL) return;
    double now = nib_now();
    if ((now - p->last_shown) * 1000 < (log->tty ? TTY_PERIOD_MS : PLAIN_PERIOD_MS)) return;
    p->last_shown = now;
    double share = p->total > 0 ? done / p->total : 0, rate = done / (now - p->started);
    if (log->tty) fputs("\r\033[K", stderr);
    fputs(p->what, stderr);
    if (log->tty) print_bar(share);
    fprintf(stderr, " %3.0f%%, %.4g %s/s", share * 100, rate, p->unit);
    if (rate > 0) print_left((p->total - done) / rate);
    if (p->note[0]) fprintf(stderr, ", %s", p->note);
    if (!log->tty) fputc('\n', stderr);
    log->line_open = log->tty;
    fflush(stderr);
}

void nib_progress_note(nib_progress *p, const char *fmt, ...)
{
    p->note[0] = 0;
    if (!fmt) return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->note, sizeof p->note, fmt, ap);
    va_end(ap);
}

void nib_progress_end(nib_progress *p)
{
    if (p->log) clear_line(p->log);
}
