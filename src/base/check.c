#include "base/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void (*abort_hook)(void);
static int report_rank = -1;

void check_set_abort_hook(void (*hook)(void)) {
    abort_hook = hook;
}

void check_set_rank(int rank) {
    report_rank = rank;
}

void check_failed(const char *file, int line, const char *function, const char *expression,
                  const char *message, ...) {
    char host[64] = "unknown host";
    gethostname(host, sizeof host - 1);
    char text[1024];
    va_list args;
    va_start(args, message);
    vsnprintf(text, sizeof text, message, args);
    va_end(args);
    fprintf(stderr, "maskrcnn: internal error: %s\n  check `%s` failed in %s, %s:%d (rank %d, %s)\n", text,
            expression, function, file, line, report_rank, host);
    fflush(NULL);
    void (*hook)(void) = abort_hook;
    abort_hook = NULL;
    if (hook) hook();
    abort();
}
