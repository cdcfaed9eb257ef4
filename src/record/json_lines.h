/* Files of one JSON object per line that a run appends to (metrics.json, evaluations.json). Every line has "iteration". */
#ifndef RECORD_JSON_LINES_H
#define RECORD_JSON_LINES_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

/* Removes what does not come before iteration `start`, because it will come again: lines of such iterations, a torn last
 * line and lines of anything else. No file is fine. Codes of read_file and write_file_atomic. */
status json_lines_cut(const char *path, int64_t start);

/* Appends whole lines and makes them durable; after a failure none of them is there. `path` is for the message. IO. */
status json_lines_append(int fd, const char *text, size_t size, const char *path);

#endif
