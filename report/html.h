/* SPDX-License-Identifier: MIT */
/* report/html.h - a page that stands alone: its style is in it, nothing is loaded, no script is
 * needed.
 *
 * Well-formed as XML too. Colours are variables that follow the reader's light or dark; on paper
 * they are those of light. The colours of series are Okabe and Ito's, which people with any kind of
 * colour blindness tell apart, and never the only sign: each series has a letter and a shape. */
#ifndef NIB_REPORT_HTML_H
#define NIB_REPORT_HTML_H

#include <stddef.h>
#include <stdio.h>

enum { NIB_HTML_COLOURS = 7 }; /* classes c0 .. c6: fill and stroke of a series */

/* A text, escaped; bytes that are no UTF-8 as U+FFFD, control characters as spaces. */
void nib_html_text(FILE *f, const char *s);
/* The same of n bytes of tokens that may hold anything; a line feed is shown as a sign of its own.
 */
void nib_html_token(FILE *f, const char *s, size_t n);

/* Everything before the first section, and after the last. */
void nib_html_begin(FILE *f, const char *title);
void nib_html_end(FILE *f);

#endif
