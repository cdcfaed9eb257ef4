#include "report/metrics_record.h"

#include "data/json_pairs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double max_iteration = 1e15, max_value = 1e100;

static const char *const names[METRICS_FIRST_LOSS] = {
    "iteration", "total_loss", "lr", "time", "data_time", "grad_norm", "skipped_images",
};

/* Column of a key, -1 for those that are not kept. */
static int find_column(metrics_record *record, const char *key) {
    for (int i = 0; i < METRICS_FIRST_LOSS; i++)
        if (strcmp(key, names[i]) == 0) return i;
    size_t size = strlen(key);
    if (strncmp(key, "loss_", 5) != 0 || size >= METRICS_RECORD_NAME) return -1;
    for (int i = 0; i < record->loss_count; i++)
        if (strcmp(key, record->loss_names[i]) == 0) return METRICS_FIRST_LOSS + i;
    if (record->loss_count == METRICS_RECORD_LOSSES) return -1;
    memcpy(record->loss_names[record->loss_count], key, size + 1);
    return METRICS_FIRST_LOSS + record->loss_count++;
}

static status grow(metrics_record *record) {
    int64_t capacity = record->capacity ? 2 * record->capacity : 256;
    for (int i = 0; i < METRICS_COLUMNS; i++) {
        double *column = realloc(record->columns[i], (size_t)capacity * sizeof *column);
        if (!column)
            return error_set(STATUS_OS, "free some memory", "no memory for %lld lines of metrics",
                             (long long)capacity);
        record->columns[i] = column;
    }
    record->capacity = capacity;
    return STATUS_OK;
}

static status add_line(void *context, const json_pairs *pairs) {
    metrics_record *record = context;
    double row[METRICS_COLUMNS], value;
    for (int i = 0; i < METRICS_COLUMNS; i++) row[i] = NAN;
    for (int i = 0; i < pairs->count; i++) {
        int column = find_column(record, pairs->items[i].path);
        if (column >= 0 && json_pair_f64(&value, &pairs->items[i]) && fabs(value) <= max_value)
            row[column] = value;
    }
    double iteration = row[METRICS_ITERATION];
    double last = record->count ? record->columns[METRICS_ITERATION][record->count - 1] : -1;
    if (!(iteration > last && iteration <= max_iteration && floor(iteration) == iteration)) {
        record->unread_lines++;
        return STATUS_OK;
    }
    if (record->count == record->capacity) RETURN_IF_ERROR(grow(record));
    for (int i = 0; i < METRICS_COLUMNS; i++) record->columns[i][record->count] = row[i];
    record->count++;
    return STATUS_OK;
}

status metrics_record_parse(metrics_record *out, const char *text, size_t size) {
    int64_t no_json;
    *out = (metrics_record){0};
    status s = json_pairs_parse_lines(&no_json, add_line, out, text, size);
    out->unread_lines += no_json;
    return s;
}

void metrics_record_release(metrics_record *record) {
    for (int i = 0; i < METRICS_COLUMNS; i++) free(record->columns[i]);
    *record = (metrics_record){0};
}
