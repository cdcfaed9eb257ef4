#include "bench/json_output.h"

#include "base/file_util.h"

status json_output_check(const char *path) {
    return path ? write_file_check(path) : STATUS_OK;
}

status json_output_write(const char *path, json_writer *w) {
    json_write_newline(w);
    RETURN_IF_ERROR(json_write_finish(w));
    return path ? write_file_atomic(path, w->text, w->size) : STATUS_OK;
}

void json_output_f64(json_writer *w, const char *key, double value) {
    json_write_key(w, key);
    json_write_f64(w, value);
}

void json_output_i64(json_writer *w, const char *key, int64_t value) {
    json_write_key(w, key);
    json_write_i64(w, value);
}

void json_output_bool(json_writer *w, const char *key, bool value) {
    json_write_key(w, key);
    json_write_bool(w, value);
}

void json_output_text(json_writer *w, const char *key, const char *value) {
    json_write_key(w, key);
    json_write_string(w, value);
}
