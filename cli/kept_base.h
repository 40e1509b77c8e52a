/* SPDX-License-Identifier: MIT */
/* cli/kept_base.h - files of what a base model predicts (infer/base_file.h), on the command line:
 * of one text the file itself, of several texts a folder of files NAME.kld. */
#ifndef NIB_CLI_KEPT_BASE_H
#define NIB_CLI_KEPT_BASE_H

#include "base/arena.h"
#include "cli/named_texts.h"
#include "infer/base_file.h"

/* Is `path` such a file, or a folder with one for the first of the texts? */
bool nib_kept_is(const char *path, const nib_named_text *text, size_t n);
/* The file of text i of n at `path`. Of several texts NIB_EINVAL when it has no name for a file. */
NIB_MUST_USE nib_code nib_kept_path(const char **file, nib_arena *keep, const char *path,
                                    const nib_named_text *text, size_t i, size_t n, nib_err *err);
/* Make ready to write them: of several texts make the folder. NIB_EIO when a file exists and
 * !force. */
NIB_MUST_USE nib_code nib_kept_prepare(const char *path, nib_arena *keep,
                                       const nib_named_text *text, size_t n, bool force,
                                       nib_err *err);

#endif
