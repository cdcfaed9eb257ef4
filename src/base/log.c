#include "base/log.h"

#include "base/content_hash.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LOG_LINE_SIZE = 4096, LOG_WARNINGS_SEEN = 1024 };

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static int log_rank;
static FILE *log_file;
static char *early_lines; /* what was logged before log_open */
static size_t early_size;
static uint64_t warnings_seen[LOG_WARNINGS_SEEN];
static int warnings_count;

void log_set_rank(int rank) {
    log_rank = rank;
}

status log_open(const char *path) {
    char name[LOG_LINE_SIZE];
    int length = log_rank == 0 ? snprintf(name, sizeof name, "%s", path)
                               : snprintf(name, sizeof name, "%s.rank%d", path, log_rank);
    if (length >= (int)sizeof name)
        return error_set(STATUS_CANT_CREATE, "choose a shorter OUTPUT_DIR", "log path too long: %.80s...",
                         path);
    FILE *file = fopen(name, "ae");
    if (!file)
        return error_set(errno == EACCES ? STATUS_NO_PERMISSION : STATUS_CANT_CREATE,
                         "choose an OUTPUT_DIR that can be written", "cannot write %s: %s", name,
                         strerror(errno));
    pthread_mutex_lock(&log_lock);
    if (log_file) fclose(log_file);
    log_file = file;
    if (early_lines) fwrite(early_lines, 1, early_size, file);
    fflush(file);
    free(early_lines);
    early_lines = NULL;
    early_size = 0;
    pthread_mutex_unlock(&log_lock);
    return STATUS_OK;
}

void log_close(void) {
    pthread_mutex_lock(&log_lock);
    if (log_file) fclose(log_file);
    log_file = NULL;
    free(early_lines);
    early_lines = NULL;
    early_size = 0;
    pthread_mutex_unlock(&log_lock);
}

static void write_line(FILE *screen, const char *line, size_t length) {
    if (log_rank == 0) {
        fwrite(line, 1, length, screen);
        fflush(screen);
    }
    if (log_file) {
        fwrite(line, 1, length, log_file);
        fflush(log_file);
        return;
    }
    char *grown = realloc(early_lines, early_size + length);
    if (!grown) return; /* the screen has the line; a log that cannot be kept must not end a run */
    memcpy(grown + early_size, line, length);
    early_lines = grown;
    early_size += length;
}

static void log_line(FILE *screen, const char *level, const char *name, const char *format, va_list args) {
    char line[LOG_LINE_SIZE];
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    int at = (int)strftime(line, sizeof line, "[%m/%d %H:%M:%S ", &local);
    at += snprintf(line + at, sizeof line - (size_t)at, "maskrcnn.%s]: %s", name, level);
    at += vsnprintf(line + at, sizeof line - (size_t)at, format, args);
    if (at > (int)sizeof line - 2) at = (int)sizeof line - 2;
    line[at++] = '\n';
    pthread_mutex_lock(&log_lock);
    write_line(screen, line, (size_t)at);
    pthread_mutex_unlock(&log_lock);
}

void log_info(const char *name, const char *format, ...) {
    va_list args;
    va_start(args, format);
    log_line(stdout, "", name, format, args);
    va_end(args);
}

/* True the first time a text is seen; when the table is full everything counts as new. */
static bool first_time(const char *text) {
    uint64_t hash = content_hash_of(text, strlen(text));
    bool fresh = true;
    pthread_mutex_lock(&log_lock);
    for (int i = 0; i < warnings_count && fresh; i++) fresh = warnings_seen[i] != hash;
    if (fresh && warnings_count < LOG_WARNINGS_SEEN) warnings_seen[warnings_count++] = hash;
    pthread_mutex_unlock(&log_lock);
    return fresh;
}

void log_warn(const char *name, const char *format, ...) {
    char text[LOG_LINE_SIZE];
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (first_time(text)) log_line(stderr, "WARNING ", name, format, again);
    va_end(again);
}
