/* Status codes for failures of the world (a file, a socket, a full disk, a bad image): they are returned,
 * never exited on, and each carries a line of cause and a line of remedy. Misuse by the programmer is CHECK's
 * business. */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

#include <stddef.h>

typedef enum status {
#define STATUS(name, code, text) STATUS_##name = code,
#include "base/status.def"
#undef STATUS
} status;

/* Text of a code; "unknown status" for a number that is none. */
const char *status_text(status s);

/* Records cause (printf) and remedy (plain text, may be NULL) of a failure in the calling thread and returns
 * `code`. Use it as `return error_set(STATUS_DATA, "remedy", "%s: truncated at byte %zu", path, at);` */
status error_set(status code, const char *remedy, const char *cause, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with a formatted remedy: set the cause first, then refine the remedy. */
void error_set_remedy(const char *remedy, ...) __attribute__((format(printf, 1, 2)));

/* Puts "<text>: " in front of the recorded cause (e.g. the file that was being read) and returns `code`. */
status error_prefix(status code, const char *text, ...) __attribute__((format(printf, 2, 3)));

/* The calling thread's last cause and remedy; "" when there is none. Valid until the next error_* call. */
const char *error_cause(void);
const char *error_remedy(void);
void error_clear(void);

#define RETURN_IF_ERROR(expression)                                                                          \
    do {                                                                                                     \
        status return_if_error_ = (expression);                                                              \
        if (return_if_error_ != STATUS_OK) return return_if_error_;                                          \
    } while (0)

#endif
