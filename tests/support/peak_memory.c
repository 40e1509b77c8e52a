/* SPDX-License-Identifier: MIT */
/* peak_memory - run a command and write how many bytes of it were resident at most, as the kernel
 * counts them.
 *
 *   peak_memory FILE COMMAND [ARGUMENT...]
 *
 * The number goes to FILE; the exit status is the command's. */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct rusage use;
    int status;
    if (argc < 3) {
        fputs("usage: peak_memory FILE COMMAND [ARGUMENT...]\n", stderr);
        return 2;
    }
    pid_t pid = fork();
    if (!pid) {
        execvp(argv[2], argv + 2);
        perror(argv[2]);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || getrusage(RUSAGE_CHILDREN, &use)) {
        perror("peak_memory");
        return 2;
    }
    FILE *f = fopen(argv[1], "w");
    if (!f || fprintf(f, "%lld\n", (long long)use.ru_maxrss * 1024) < 0 || fclose(f)) {
        perror(argv[1]);
        return 2;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
