/* Runs the built program (or mpirun with it) from a test, without a shell. */
#ifndef TESTS_CLI_RUN_PROGRAM_H
#define TESTS_CLI_RUN_PROGRAM_H

#include <stddef.h>

typedef struct program_run {
    int code; /* exit code; -signal where a signal ended it; -1000 where it took longer than the limit */
    double seconds;
    char out[65536], err[65536]; /* what it wrote, cut off there */
} program_run;

enum { RUN_MOST_WORDS = 160, RUN_TIMED_OUT = -1000 };

/* Splits `line` at '~' and runs it with `folder` as the current folder. Each word "maskrcnn" stands for TEST_PROGRAM; the
 * first word is that or a program in PATH. Fails the test if it cannot be started. */
void run_program(program_run *out, const char *folder, const char *line, double limit_seconds);

/* The same, but the program is killed by SIGKILL as soon as there is something named `path` (from `folder`). */
void run_program_until(program_run *out, const char *folder, const char *line, const char *path,
                       double limit_seconds);

#endif
