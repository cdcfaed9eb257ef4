#include "record/event_log.h"

#include "base/crc32c.h"
#include "base/file_util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A record being made; it keeps its memory from one event to the next. */
typedef struct record {
    unsigned char *bytes;
    size_t size, capacity;
    bool out_of_memory;
} record;

struct event_log {
    int fd;
    char path[PATH_MAX];
    record event, value; /* the Event message, and one of its values */
};

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static void put(record *r, const void *bytes, size_t count) {
    if (r->capacity - r->size < count) {
        size_t capacity = 2 * (r->size + count);
        unsigned char *grown = realloc(r->bytes, capacity);
        if (!grown) {
            r->out_of_memory = true;
            return;
        }
        r->bytes = grown;
        r->capacity = capacity;
    }
    if (count) memcpy(r->bytes + r->size, bytes, count);
    r->size += count;
}

static void put_little_endian(record *r, uint64_t value, int bytes) {
    unsigned char out[8];
    for (int i = 0; i < bytes; i++) out[i] = (unsigned char)(value >> 8 * i);
    put(r, out, (size_t)bytes);
}

static void put_varint(record *r, uint64_t value) {
    unsigned char out[10];
    size_t n = 0;
    for (; value >= 0x80; value >>= 7) out[n++] = (unsigned char)(value | 0x80);
    out[n++] = (unsigned char)value;
    put(r, out, n);
}

static void put_key(record *r, int field, int wire) {
    put_varint(r, (uint64_t)(field << 3 | wire));
}

static void put_double(record *r, int field, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_key(r, field, WIRE_64);
    put_little_endian(r, bits, 8);
}

static void put_float(record *r, int field, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_key(r, field, WIRE_32);
    put_little_endian(r, bits, 4);
}

static void put_bytes(record *r, int field, const void *bytes, size_t count) {
    put_key(r, field, WIRE_BYTES);
    put_varint(r, count);
    put(r, bytes, count);
}

static uint32_t masked_crc(const void *bytes, size_t count) {
    uint32_t crc = crc32c(0, bytes, count);
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

enum { FRAME_HEAD = 12 }; /* length and its CRC, filled in at the end */

static void begin_event(record *r) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    r->size = 0;
    put(r, (unsigned char[FRAME_HEAD]){0}, FRAME_HEAD);
    put_double(r, 1, (double)now.tv_sec + 1e-9 * (double)now.tv_nsec);
}

static status end_event(event_log *log) {
    record *r = &log->event;
    size_t length = r->size - FRAME_HEAD;
    if (!r->out_of_memory) put_little_endian(r, masked_crc(r->bytes + FRAME_HEAD, length), 4);
    if (r->out_of_memory || log->value.out_of_memory) {
        r->out_of_memory = log->value.out_of_memory = false;
        return error_set(STATUS_OS, "free some memory", "no memory for an event of %s", log->path);
    }
    for (int i = 0; i < 8; i++) r->bytes[i] = (unsigned char)((uint64_t)length >> 8 * i);
    uint32_t crc = masked_crc(r->bytes, 8);
    for (int i = 0; i < 4; i++) r->bytes[8 + i] = (unsigned char)(crc >> 8 * i);
    off_t end = lseek(log->fd, 0, SEEK_END);
    status result = write_all(log->fd, r->bytes, r->size, log->path);
    /* Part of a record would hide all later ones from a reader. */
    if (result != STATUS_OK && end >= 0 && ftruncate(log->fd, end) != 0)
        return error_from_output(errno, "shorten", log->path);
    return result;
}

status event_log_open(event_log **out, const char *folder) {
    *out = NULL;
    event_log *log = calloc(1, sizeof *log);
    if (!log) return error_set(STATUS_OS, "free some memory", "no memory for the event log");
    char host[65] = "unknown";
    gethostname(host, sizeof host - 1);
    int length = snprintf(log->path, sizeof log->path, "%s/events.out.tfevents.%lld.%s.%d", folder,
                          (long long)time(NULL), host, (int)getpid());
    errno = ENAMETOOLONG;
    log->fd = length < (int)sizeof log->path
                  ? open(log->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)
                  : -1;
    if (log->fd < 0) {
        status failed = error_from_output(errno, "create", log->path);
        free(log);
        return failed;
    }
    static const char version[] = "brain.Event:2";
    begin_event(&log->event);
    put_bytes(&log->event, 3, version, sizeof version - 1);
    status result = end_event(log);
    if (result != STATUS_OK) {
        event_log_close(log);
        return result;
    }
    *out = log;
    return STATUS_OK;
}

/* Bytes that a value takes inside its summary: key and length before it. */
static size_t varint_size(uint64_t value) {
    size_t n = 1;
    for (; value >= 0x80; value >>= 7) n++;
    return n;
}

static void make_value(record *r, event_scalar scalar) {
    r->size = 0;
    put_bytes(r, 1, scalar.tag, strlen(scalar.tag));
    put_float(r, 2, scalar.value);
}

status event_log_write(event_log *log, int64_t step, const event_scalar *scalars, int count) {
    size_t summary = 0;
    for (int i = 0; i < count; i++) {
        make_value(&log->value, scalars[i]);
        summary += 1 + varint_size(log->value.size) + log->value.size;
    }
    begin_event(&log->event);
    put_key(&log->event, 2, WIRE_VARINT);
    put_varint(&log->event, (uint64_t)step);
    put_key(&log->event, 5, WIRE_BYTES);
    put_varint(&log->event, summary);
    for (int i = 0; i < count; i++) {
        make_value(&log->value, scalars[i]);
        put_bytes(&log->event, 1, log->value.bytes, log->value.size);
    }
    return end_event(log);
}

void event_log_close(event_log *log) {
    if (!log) return;
    close(log->fd);
    free(log->event.bytes);
    free(log->value.bytes);
    free(log);
}

const char *event_log_path(const event_log *log) {
    return log->path;
}
