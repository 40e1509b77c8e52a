/* SPDX-License-Identifier: MIT */
/* base/log.h - talk on standard error: levels and progress.
 *
 * Results never come this way; they go to standard output. On a terminal progress is one line
 * redrawn in place with rate and time left; elsewhere it is a plain line now and then. */
#ifndef NIB_BASE_LOG_H
#define NIB_BASE_LOG_H

#include "base/err.h"

#include <stdbool.h>

typedef enum { NIB_LOG_QUIET, NIB_LOG_NORMAL, NIB_LOG_VERBOSE } nib_log_level;

typedef struct {
    nib_log_level level;
    bool tty;       /* standard error is a terminal          */
    bool line_open; /* a progress line is on the screen      */
} nib_log;

/* Level as given; looks at standard error once. */
void nib_log_init(nib_log *log, nib_log_level level);

/* A line for the user, without "\n" in fmt. `log` may be NULL, which prints nothing.
 * warn: shown unless quiet; info: same; debug: only when verbose. */
void nib_warn(nib_log *log, const char *fmt, ...) NIB_PRINTF(2, 3);
void nib_info(nib_log *log, const char *fmt, ...) NIB_PRINTF(2, 3);
void nib_debug(nib_log *log, const char *fmt, ...) NIB_PRINTF(2, 3);

/* A long step. `unit` names what is counted ("tokens", "MB"). */
typedef struct {
    nib_log *log;
    const char *what, *unit;
    double total;
    double started, last_shown; /* seconds, monotonic */
    char note[96];              /* shown at the end of the line: a running estimate */
} nib_progress;

void nib_progress_begin(nib_progress *p, nib_log *log, const char *what, const char *unit,
                        double total);
/* Cheap enough to call often; draws at most a few times a second (terminal) or every 15 s. */
void nib_progress_at(nib_progress *p, double done);
/* Set the note; NULL clears it. */
void nib_progress_note(nib_progress *p, const char *fmt, ...) NIB_PRINTF(2, 3);
/* Remove the line from the terminal. */
void nib_progress_end(nib_progress *p);

/* Seconds on a monotonic clock. */
double nib_now(void);

#endif
