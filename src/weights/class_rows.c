#include "weights/class_rows.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "weights/class_table.h"

/* One pass over all names with one rule of equality. */
static void match_by(class_rows *rows, bool *is_taken, const char *const *names, const char *const *from,
                     int from_count, int (*compare)(const char *, const char *)) {
    for (int i = 0; i < rows->count; i++) {
        if (rows->source[i] >= 0 || !class_table_is_name(names[i])) continue;
        for (int k = 0; k < from_count && rows->source[i] < 0; k++) {
            if (is_taken[k] || compare(names[i], from[k]) != 0) continue;
            rows->source[i] = k;
            is_taken[k] = true;
            rows->matched++;
        }
    }
}

status class_rows_match(class_rows *out, const char *const *names, int count, const char *const *from,
                        int from_count) {
    *out = (class_rows){.count = count, .source = malloc(((size_t)count + 1) * sizeof *out->source)};
    bool *is_taken = calloc((size_t)from_count + 1, sizeof *is_taken);
    if (!out->source || !is_taken) {
        free(is_taken);
        return error_set(STATUS_OS, "free some memory", "no memory to compare %d classes", count);
    }
    for (int i = 0; i < count; i++) out->source[i] = -1;
    match_by(out, is_taken, names, from, from_count, strcmp);
    match_by(out, is_taken, names, from, from_count, strcasecmp);
    free(is_taken);
    out->is_same = count == from_count;
    for (int i = 0; i < count && out->is_same; i++) out->is_same = strcmp(names[i], from[i]) == 0;
    return STATUS_OK;
}

void class_rows_release(class_rows *rows) {
    free(rows->source);
    *rows = (class_rows){0};
}

int class_rows_per_class(const char *parameter) {
    static const struct {
        const char *start;
        int rows;
    } predictors[] = {{"roi_heads.box_predictor.cls_score.", 1},
                      {"roi_heads.box_predictor.bbox_pred.", 4},
                      {"roi_heads.mask_predictor.mask_fcn_logits.", 1}};
    for (size_t i = 0; i < sizeof predictors / sizeof *predictors; i++)
        if (strncmp(parameter, predictors[i].start, strlen(predictors[i].start)) == 0)
            return predictors[i].rows;
    return 0;
}

bool class_rows_fit(int64_t to_rows, int64_t from_rows, int per_class, const class_rows *rows) {
    if (to_rows % per_class || from_rows % per_class) return false;
    int64_t to_blocks = to_rows / per_class, from_blocks = from_rows / per_class;
    if (to_blocks < 1 || from_blocks < 1 || rows->count >= to_blocks) return false;
    for (int i = 0; i < rows->count; i++)
        if (rows->source[i] + 1 >= from_blocks) return false;
    return true;
}

bool class_rows_copy(float *to, int64_t to_rows, const float *from, int64_t from_rows, int64_t row_size,
                     int per_class, const class_rows *rows) {
    if (!class_rows_fit(to_rows, from_rows, per_class, rows)) return false;
    int64_t block = per_class * row_size;
    memcpy(to, from, (size_t)block * sizeof *to);
    for (int i = 0; i < rows->count; i++)
        if (rows->source[i] >= 0)
            memcpy(to + (i + 1) * block, from + (rows->source[i] + 1) * block, (size_t)block * sizeof *to);
    return true;
}
