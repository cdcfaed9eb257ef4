#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ERROR_TEXT_SIZE = 2048 };

static _Thread_local char cause_text[ERROR_TEXT_SIZE];
static _Thread_local char remedy_text[ERROR_TEXT_SIZE];

const char *status_text(status s) {
    switch (s) {
#define STATUS(name, code, text)                                                                             \
    case STATUS_##name:                                                                                      \
        return text;
#include "base/status.def"
#undef STATUS
    }
    return "unknown status";
}

status error_set(status code, const char *remedy, const char *cause, ...) {
    /* The arguments may point into the old texts, so format beside them first. */
    char fresh[ERROR_TEXT_SIZE];
    va_list args;
    va_start(args, cause);
    vsnprintf(fresh, sizeof fresh, cause, args);
    va_end(args);
    char fresh_remedy[ERROR_TEXT_SIZE];
    snprintf(fresh_remedy, sizeof fresh_remedy, "%s", remedy ? remedy : "");
    memcpy(cause_text, fresh, sizeof fresh);
    memcpy(remedy_text, fresh_remedy, sizeof fresh_remedy);
    return code;
}

void error_set_remedy(const char *remedy, ...) {
    char fresh[ERROR_TEXT_SIZE];
    va_list args;
    va_start(args, remedy);
    vsnprintf(fresh, sizeof fresh, remedy, args);
    va_end(args);
    memcpy(remedy_text, fresh, sizeof fresh);
}

status error_prefix(status code, const char *text, ...) {
    char prefix[ERROR_TEXT_SIZE / 2];
    va_list args;
    va_start(args, text);
    vsnprintf(prefix, sizeof prefix, text, args);
    va_end(args);
    char fresh[2 * ERROR_TEXT_SIZE];
    snprintf(fresh, sizeof fresh, "%s: %s", prefix, cause_text);
    snprintf(cause_text, sizeof cause_text, "%.*s", ERROR_TEXT_SIZE - 1, fresh);
    return code;
}

const char *error_cause(void) {
    return cause_text;
}

const char *error_remedy(void) {
    return remedy_text;
}

void error_clear(void) {
    cause_text[0] = '\0';
    remedy_text[0] = '\0';
}
