/* SPDX-License-Identifier: MIT */
/* report/html.c - see html.h. Tests: tests/cli/report.sh. */
#include "report/html.h"

#include "base/str.h"
#include "base/utf8.h"

static void put(FILE *f, char c)
{
    switch (c) {
    case '&': fputs("&amp;", f); break;
    case '<': fputs("&lt;", f); break;
    case '>': fputs("&gt;", f); break;
    case '"': fputs("&quot;", f); break;
    default: fputc(c, f);
    }
}

/* XML has no way to hold U+FFFE and U+FFFF, EF BF BE and EF BF BF. */
static size_t no_character(const char *s, size_t n)
{
    return n > 2 && !memcmp(s, "\xEF\xBF", 2) && (unsigned char)s[2] >= 0xBE ? 3 : 0;
}

static void put_text(FILE *f, const char *s, size_t n, const char *line_feed)
{
    size_t valid = nib_utf8_bad(s, n); /* bytes from here on that are UTF-8 */
    for (size_t i = 0, k; i < n; i += k ? k : 1) {
        if (i >= valid) {
            fputs("\xEF\xBF\xBD", f);
            k = 1;
            valid = i + 1 + nib_utf8_bad(s + i + 1, n - i - 1);
        } else if (s[i] == '\n') {
            fputs(line_feed, f);
            k = 1;
        } else if ((k = nib_control(s + i, n - i)) || (k = no_character(s + i, n - i))) {
            fputc(' ', f);
        } else {
            put(f, s[i]);
        }
    }
}

void nib_html_text(FILE *f, const char *s)
{
    put_text(f, s, strlen(s), " ");
}

void nib_html_token(FILE *f, const char *s, size_t n)
{
    put_text(f, s, n, "⏎");
}

#define LIGHT                                                                                      \
    "--bg:#fff;--fg:#1c1e21;--soft:#59616b;--line:#d4d8dd;--card:#f6f7f9;--mark:#ffe8a3;"          \
    "--good:#00694a;--bad:#a33a00;--s0:#0072b2;--s1:#b84a00;--s2:#00805c;--s3:#a8527f;"            \
    "--s4:#9a6700;--s5:#2b86b8;--s6:#59616b"
#define DARK                                                                                       \
    "--bg:#131619;--fg:#e4e6e9;--soft:#a3abb5;--line:#3a4149;--card:#1c2126;--mark:#5c4a00;"       \
    "--good:#3ecf9f;--bad:#ff9a57;--s0:#56b4e9;--s1:#ff8a3c;--s2:#2fc79a;--s3:#e39ac3;"            \
    "--s4:#e6b23c;--s5:#9ad2f2;--s6:#b5bcc5"

static const char STYLE[] =
    ":root{color-scheme:light dark;" LIGHT "}\n"
    "@media (prefers-color-scheme:dark){:root{" DARK "}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;padding:1rem;max-width:76rem;background:var(--bg);color:var(--fg);"
    "font:16px/1.5 system-ui,sans-serif;overflow-wrap:break-word}\n"
    "h1{font-size:1.6rem;line-height:1.2;margin:.5rem 0}h2{font-size:1.25rem;margin:2.2rem 0 .4rem;"
    "padding-top:.6rem;border-top:1px solid var(--line)}h3{font-size:1rem;margin:1.2rem 0 .3rem}\n"
    "p{margin:.4rem 0;max-width:48rem}.soft{color:var(--soft)}\n"
    ".scroll{overflow-x:auto;margin:.5rem 0;background:linear-gradient(to left,var(--bg),"
    "transparent) right/2rem 100% no-repeat local,linear-gradient(to left,var(--line),transparent) "
    "right/.7rem 100% no-repeat scroll}table{border-collapse:collapse;font-size:.88rem;"
    "font-variant-numeric:tabular-nums}\n"
    "th,td{padding:.3rem .6rem;text-align:right;white-space:nowrap;border-bottom:1px solid "
    "var(--line)}th{color:var(--soft);font-weight:600;vertical-align:bottom}\n"
    "th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--bg);"
    "white-space:normal;min-width:11rem;max-width:22rem}.words{text-align:left;white-space:normal}"
    "td.bad{min-width:11rem}td.good{white-space:nowrap}\n"
    "thead th{white-space:normal}thead tr{border-bottom:2px solid var(--line)}tr.base "
    "td{color:var(--soft)}\n"
    ".good{color:var(--good);font-weight:600}.bad{color:var(--bad);font-weight:600}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,21rem),1fr));"
    "gap:1rem;align-items:start}\n"
    "figure{margin:0;padding:.6rem;max-width:38rem;background:var(--card);border:1px solid "
    "var(--line);"
    "border-radius:6px}figcaption{font-size:.9rem;margin-bottom:.3rem}\n"
    "svg{display:block;width:100%;height:auto;overflow:visible}svg text{fill:var(--soft);font:12px "
    "system-ui,sans-serif;paint-order:stroke;stroke:var(--card);stroke-width:3px;"
    "stroke-linejoin:round}svg .name{fill:var(--fg);font-weight:600}\n"
    ".axis{stroke:var(--soft)}.grid{stroke:var(--line)}.front{stroke:var(--soft);fill:none;"
    "stroke-dasharray:5 4;stroke-width:1.5}.floor{stroke:var(--s3);stroke-dasharray:2 3;"
    "stroke-width:2}\n"
    ".c0{fill:var(--s0);stroke:var(--s0)}.c1{fill:var(--s1);stroke:var(--s1)}.c2{fill:var(--s2);"
    "stroke:var(--s2)}.c3{fill:var(--s3);stroke:var(--s3)}.c4{fill:var(--s4);stroke:var(--s4)}"
    ".c5{fill:var(--s5);stroke:var(--s5)}.c6{fill:var(--s6);stroke:var(--s6)}\n"
    ".bar{stroke:none;fill-opacity:.75}.outline{fill:none;stroke-width:1.6}\n"
    ".letter{display:inline-block;min-width:1.4em;text-align:center;font-weight:700;"
    "border:1px solid var(--line);border-radius:4px;margin-right:.4em;background:var(--card)}\n"
    ".token{padding:.5rem .7rem;background:var(--card);border-left:4px solid "
    "var(--line);max-width:60rem}q{quotes:none;white-space:pre;display:inline-block;line-height:1."
    "2;border:1px solid "
    "var(--line);border-radius:3px;padding:0 .15em;"
    "background:var(--bg)}mark "
    "q{display:inline;border:0;background:none;padding:0}.tokens{display:grid;gap:.7rem;"
    "grid-template-columns:repeat(auto-fit,minmax(min(100%,27rem),1fr))}mark{background:var(--mark)"
    ";color:var(--fg);"
    "border-radius:3px}\n"
    "code,pre{font:13px/1.45 ui-monospace,monospace}code{background:var(--card);padding:.05rem "
    ".25rem;border-radius:3px}pre{white-space:pre-wrap;background:var(--card);border:1px solid "
    "var(--line);padding:.6rem;border-radius:6px}\n";

/* Narrow screens, and paper. */
static const char STYLE_OF_MEDIA[] =
    "@media (max-width:36rem){th,td{padding:.3rem .4rem}th:first-child,td:first-child{"
    "min-width:7rem;max-width:8.5rem;overflow-wrap:anywhere}}\n"
    "@media print{:root{color-scheme:light;" LIGHT "}body{max-width:none}"
    "figure,tr,.token{break-inside:avoid}h2,h3{break-after:avoid}.scroll{overflow:visible}"
    "table{font-size:6.5pt}th,td{padding:.1rem .2rem}th:first-child,td:first-child{min-width:6rem;"
    "position:static}td.bad{min-width:6rem}@page{margin:10mm}}\n";

void nib_html_begin(FILE *f, const char *title)
{
    fputs("<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n"
          "<meta charset=\"utf-8\"/>\n<meta name=\"viewport\" content=\"width=device-width, "
          "initial-scale=1\"/>\n<title>",
          f);
    nib_html_text(f, title);
    fprintf(f, "</title>\n<style>\n%s%s</style>\n</head>\n<body>\n", STYLE, STYLE_OF_MEDIA);
}

void nib_html_end(FILE *f)
{
    fputs("</body>\n</html>\n", f);
}
