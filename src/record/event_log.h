/* TensorBoard event files: `events.out.tfevents.<seconds>.<host>.<pid>` in OUTPUT_DIR. A record is
 *   u64 length, u32 masked CRC-32C of it, the bytes, u32 masked CRC-32C of them      (little endian)
 *   masked(c) = rotate_right(c, 15) + 0xA282EAD8
 * and its bytes are a tensorflow.Event message: wall_time (1, double), step (2, int64), file_version (3,
 * string, in the first record), summary (5: values (1: tag (1), simple_value (2, float))). */
#ifndef RECORD_EVENT_LOG_H
#define RECORD_EVENT_LOG_H

#include "base/status.h"

#include <stdint.h>

typedef struct event_log event_log;

typedef struct event_scalar {
    const char *tag;
    float value;
} event_scalar;

/* Makes a new file with its version record. CANT_CREATE, NO_PERMISSION, IO, OS. */
status event_log_open(event_log **out, const char *folder);

/* Appends one event with all the scalars and hands it to the system. IO. */
status event_log_write(event_log *log, int64_t step, const event_scalar *scalars, int count);

void event_log_close(event_log *log);
const char *event_log_path(const event_log *log);

#endif
