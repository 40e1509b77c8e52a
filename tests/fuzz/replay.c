/* SPDX-License-Identifier: MIT */
/* tests/fuzz/replay.c - runs a fuzz target over the files of the folders it is given, so that
 * corpora are part of every ordinary test run. A failure is a crash. */
#include "base/file.h"
#include "base/mem.h"

#include <dirent.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int main(int argc, char **argv)
{
    int n_files = 0;
    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        if (!d) return perror(argv[i]), 1;
        for (struct dirent *e; (e = readdir(d));) {
            char *data, *path = nib_path_join(argv[i], e->d_name);
            size_t n;
            nib_err err;
            if (e->d_name[0] != '.' && !nib_file_slurp(&data, &n, path, 1 << 24, &err)) {
                LLVMFuzzerTestOneInput((const uint8_t *)data, n);
                nib_free(data);
                n_files++;
            }
            nib_free(path);
        }
        closedir(d);
    }
    printf("%d files\n", n_files);
    return n_files == 0;
}
