#include "report/run_record.h"

#include "base/file_util.h"
#include "data/json_pairs.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Files above these are not read. */
static const size_t metrics_limit = 256 << 20, log_limit = 256 << 20, evaluations_limit = 64 << 20,
                    config_limit = 1 << 20, status_limit = 1 << 20;

static status no_memory(const char *folder) {
    return error_set(STATUS_OS, "free some memory", "no memory for the report of %s", folder);
}

static void add_note(run_record *r, const char *text) {
    if (r->note_count == RUN_RECORD_NOTES) return;
    snprintf(r->notes[r->note_count++], RUN_RECORD_NOTE, "%s", text);
}

/* Reads r->folder/name; *text stays NULL where it is absent, or cannot be read, which is noted. */
static status read_part(run_record *r, char **text, size_t *size, const char *name, size_t limit) {
    char path[PATH_MAX];
    struct stat info;
    *text = NULL;
    *size = 0;
    status s = path_join(path, r->folder, name);
    if (s == STATUS_OK && stat(path, &info) != 0 && errno == ENOENT) return STATUS_OK;
    if (s == STATUS_OK) s = read_file(text, size, path, limit);
    if (s == STATUS_OS) return s;
    if (s != STATUS_OK) {
        add_note(r, error_cause());
        error_clear();
    } else if (info.st_mtime > r->written)
        r->written = info.st_mtime;
    return STATUS_OK;
}

/* --- run_status.json ----------------------------------------------------------------------------------------------- */

/* A copy of a value; NULL where there is none. */
static status copy_value(char **out, const run_record *r, const json_pairs *pairs, const char *path) {
    const char *value = json_pairs_get(pairs, path);
    *out = NULL;
    if (!value || strcmp(value, "null") == 0) return STATUS_OK;
    *out = strdup(value);
    return *out ? STATUS_OK : no_memory(r->folder);
}

static status read_status(run_record *r, bool *found) {
    char *text;
    size_t size;
    json_pairs pairs = {0};
    RETURN_IF_ERROR(read_part(r, &text, &size, "run_status.json", status_limit));
    if (!text) return STATUS_OK;
    *found = true;
    status s = json_pairs_parse(&pairs, "run_status.json", text, size);
    if (s == STATUS_OK) s = copy_value(&r->state, r, &pairs, "state");
    if (s == STATUS_OK) s = copy_value(&r->reason, r, &pairs, "reason");
    if (s == STATUS_OK) s = copy_value(&r->checkpoint, r, &pairs, "checkpoint");
    if (s == STATUS_OK && (!json_pairs_i64(&r->iterations, &pairs, "iteration") || r->iterations < 0))
        r->iterations = -1;
    json_pairs_release(&pairs);
    free(text);
    if (s != STATUS_DATA) return s;
    add_note(r, error_cause());
    error_clear();
    return STATUS_OK;
}

/* --- config.yaml, as config_write.c writes it: two spaces per level, a key on its line --------------------------------- */

/* The value of SECTION.KEY and its length; NULL where there is none. */
static const char *find_key(size_t *length, const char *config, const char *section, const char *key) {
    size_t section_size = strlen(section), key_size = strlen(key);
    bool inside = false;
    for (const char *line = config; *line;) {
        size_t size = strcspn(line, "\n");
        if (line[0] != ' ')
            inside = size == section_size + 1 && strncmp(line, section, section_size) == 0 &&
                     line[section_size] == ':';
        else if (inside && size > key_size + 4 && strncmp(line + 2, key, key_size) == 0 &&
                 strncmp(line + 2 + key_size, ": ", 2) == 0) {
            *length = size - key_size - 4;
            return line + key_size + 4;
        }
        line += size + (line[size] == '\n');
    }
    return NULL;
}

static int64_t config_count(const char *config, const char *section, const char *key) {
    size_t length;
    const char *value = find_key(&length, config, section, key);
    char *end;
    errno = 0;
    long long count = value ? strtoll(value, &end, 10) : -1;
    return value && (errno || end != value + length || count < 0) ? -1 : count;
}

static status read_config(run_record *r, bool *found) {
    size_t size, length;
    RETURN_IF_ERROR(read_part(r, &r->config, &size, "config.yaml", config_limit));
    if (!r->config) return STATUS_OK;
    *found = true;
    r->images_per_batch = config_count(r->config, "SOLVER", "IMS_PER_BATCH");
    r->max_iterations = config_count(r->config, "SOLVER", "MAX_ITER");
    const char *datasets = find_key(&length, r->config, "DATASETS", "TRAIN");
    if (datasets && !(r->datasets = strndup(datasets, length))) return no_memory(r->folder);
    return STATUS_OK;
}

/* --- log.txt ------------------------------------------------------------------------------------------------------- */

/* The last line that holds `words`, from them on; NULL where there is none. */
static const char *find_last(const char *text, const char *words) {
    const char *last = NULL;
    for (const char *at = strstr(text, words); at; at = strstr(at + 1, words)) last = at;
    return last;
}

static status read_log(run_record *r) {
    char *text;
    size_t size;
    RETURN_IF_ERROR(read_part(r, &text, &size, "log.txt", log_limit));
    if (!text) return STATUS_OK;
    const char *line = find_last(text, " images per iteration, seed ");
    while (line && line > text && line[-1] != '\n') line--;
    const char *stamp_end = line ? strstr(line, "]: ") : NULL;
    int64_t ranks, images;
    if (stamp_end && sscanf(stamp_end, "]: %9" SCNd64 " rank%*[s], %9" SCNd64, &ranks, &images) != 2 &&
        sscanf(stamp_end, "]: %9" SCNd64 " rank, %9" SCNd64, &ranks, &images) != 2)
        stamp_end = NULL;
    if (stamp_end && ranks > 0 && images > 0) {
        r->ranks = ranks;
        r->images_per_batch = images;
    }
    line = find_last(text, "throughput over iterations ");
    double speed;
    if (line && sscanf(line, "throughput over iterations %*d-%*d: %lf img/s", &speed) == 1 &&
        isfinite(speed) && speed >= 0 && speed < 1e9)
        r->throughput = speed;
    free(text);
    return STATUS_OK;
}

/* --- all ----------------------------------------------------------------------------------------------------------- */

static void note_unread(run_record *r, int64_t lines, const char *name) {
    char text[128];
    if (lines == 0) return;
    snprintf(text, sizeof text, "%s: %" PRId64 " line%s could not be read", name, lines,
             lines == 1 ? "" : "s");
    add_note(r, text);
}

static status read_lines(run_record *r, bool *found) {
    char *text;
    size_t size;
    RETURN_IF_ERROR(read_part(r, &text, &size, "metrics.json", metrics_limit));
    *found = *found || text;
    status s = text ? metrics_record_parse(&r->metrics, text, size) : STATUS_OK;
    free(text);
    RETURN_IF_ERROR(s);
    RETURN_IF_ERROR(read_part(r, &text, &size, "evaluations.json", evaluations_limit));
    *found = *found || text;
    s = text ? evaluation_record_parse(&r->evaluations, text, size) : STATUS_OK;
    free(text);
    note_unread(r, r->metrics.unread_lines, "metrics.json");
    note_unread(r, r->evaluations.unread_lines, "evaluations.json");
    return s;
}

status run_record_read(run_record *out, const char *folder) {
    *out = (run_record){
        .iterations = -1, .ranks = -1, .images_per_batch = -1, .max_iterations = -1, .throughput = NAN};
    bool found = false;
    out->folder = realpath(folder, NULL);
    if (!out->folder)
        return error_set(STATUS_NO_INPUT, "give the OUTPUT_DIR of a run", "cannot open %s: %s", folder,
                         strerror(errno));
    RETURN_IF_ERROR(read_status(out, &found));
    RETURN_IF_ERROR(read_config(out, &found));
    RETURN_IF_ERROR(read_log(out));
    RETURN_IF_ERROR(read_lines(out, &found));
    if (!found)
        return error_set(STATUS_NO_INPUT, "give the OUTPUT_DIR of a run",
                         "%s holds no metrics.json, run_status.json, evaluations.json or config.yaml",
                         folder);
    const metrics_record *m = &out->metrics;
    if (m->count && out->iterations < (int64_t)m->columns[METRICS_ITERATION][m->count - 1] + 1)
        out->iterations = (int64_t)m->columns[METRICS_ITERATION][m->count - 1] + 1;
    return STATUS_OK;
}

void run_record_release(run_record *r) {
    free(r->folder);
    free(r->state);
    free(r->reason);
    free(r->checkpoint);
    free(r->datasets);
    free(r->config);
    metrics_record_release(&r->metrics);
    evaluation_record_release(&r->evaluations);
    *r = (run_record){0};
}

double run_record_throughput(const run_record *r, bool *is_whole) {
    const metrics_record *m = &r->metrics;
    double sums[2] = {0}, counts[2] = {0}; /* iterations 100..499, all lines but the first */
    *is_whole = false;
    if (isfinite(r->throughput)) return r->throughput;
    for (int64_t i = 1; i < m->count; i++) {
        double iteration = m->columns[METRICS_ITERATION][i], time = m->columns[METRICS_TIME][i];
        if (!(time > 0)) continue;
        sums[1] += time;
        counts[1]++;
        if (iteration < 100 || iteration >= 500) continue;
        sums[0] += time;
        counts[0]++;
    }
    *is_whole = counts[0] == 0;
    if (r->images_per_batch < 0 || counts[*is_whole] == 0) return NAN;
    return (double)r->images_per_batch * counts[*is_whole] / sums[*is_whole];
}

double run_record_step_seconds(const run_record *r) {
    const metrics_record *m = &r->metrics;
    double seconds = 0, last = -1;
    bool any = false;
    for (int64_t i = 0; i < m->count; i++) {
        double iteration = m->columns[METRICS_ITERATION][i], time = m->columns[METRICS_TIME][i];
        if (time >= 0) {
            seconds += time * (iteration - last);
            any = true;
        }
        last = iteration;
    }
    return any ? seconds : NAN;
}
