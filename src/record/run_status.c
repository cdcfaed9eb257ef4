#include "record/run_status.h"

#include "base/file_util.h"
#include "base/json_write.h"

static void write_text(json_writer *w, const char *key, const char *text) {
    json_write_key(w, key);
    if (text)
        json_write_string(w, text);
    else
        json_write_null(w);
}

status run_status_write(const char *output_dir, run_state state, int64_t iteration, const char *checkpoint,
                        const char *reason) {
    static const char *const names[] = {"starting", "running", "done", "preempted", "failed"};
    char path[PATH_MAX];
    RETURN_IF_ERROR(path_join(path, output_dir, "run_status.json"));
    json_writer w;
    json_write_init(&w);
    json_write_begin_object(&w);
    write_text(&w, "state", names[state]);
    json_write_key(&w, "iteration");
    json_write_i64(&w, iteration);
    write_text(&w, "checkpoint", checkpoint);
    write_text(&w, "reason", reason);
    json_write_end_object(&w);
    json_write_newline(&w);
    status result = json_write_finish(&w);
    if (result == STATUS_OK) result = write_file_atomic(path, w.text, w.size);
    json_write_release(&w);
    return result;
}
