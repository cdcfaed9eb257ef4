/* Rank-aware text log. Rank 0 writes to stdout and, once opened, to OUTPUT_DIR/log.txt; other ranks only to
 * their own log.txt.rankN. Lines look like detectron2's: `[MM/DD hh:mm:ss maskrcnn.NAME]: text`, so existing
 * parsers work. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/status.h"

/* Rank of this process; 0 before it is set. */
void log_set_rank(int rank);

/* Opens `path` for appending (rank 0) or path.rankN (others) beside stdout. Lines logged earlier are written
 * to it too, so the file tells the whole run. */
status log_open(const char *path);
void log_close(void);

/* `name` is the part after `maskrcnn.`, e.g. "events", "data", "weights". */
void log_info(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A warning line ("WARNING" after the stamp); goes to stderr on rank 0. The same text is shown once only. */
void log_warn(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
