/* The JSON file of a measurement. */
#ifndef BENCH_JSON_OUTPUT_H
#define BENCH_JSON_OUTPUT_H

#include "base/json_write.h"

/* Whether the file can be written, before time is spent on what goes into it. NULL: there is none. Codes of
 * error_from_output. */
status json_output_check(const char *path);

/* Ends the writer's line and writes it as the whole file (NULL: nowhere). OS, and codes of write_file_atomic. */
status json_output_write(const char *path, json_writer *w);

void json_output_f64(json_writer *w, const char *key, double value);
void json_output_i64(json_writer *w, const char *key, int64_t value);
void json_output_bool(json_writer *w, const char *key, bool value);
void json_output_text(json_writer *w, const char *key, const char *value);

#endif
