#include "train/weights_labels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/safetensors.h"

static status no_memory(int classes) {
    return error_set(STATUS_OS, "free some memory", "out of memory for %d class names", classes);
}

static status read_names(weights_labels *out, const char *said) {
    RETURN_IF_ERROR(json_pairs_parse(&out->text, "class_names", said, strlen(said)));
    if (out->text.count != out->count) return STATUS_OK;
    out->names = calloc((size_t)out->count, sizeof *out->names);
    if (!out->names) return no_memory(out->count);
    for (int i = 0; i < out->count; i++) out->names[i] = out->text.items[i].value;
    return STATUS_OK;
}

static status read_ids(weights_labels *out, const char *said) {
    json_pairs list;
    status s = json_pairs_parse(&list, "class_ids", said, strlen(said));
    bool good = s == STATUS_OK && list.count == out->count;
    if (good && !(out->ids = calloc((size_t)out->count, sizeof *out->ids))) s = no_memory(out->count);
    for (int i = 0; out->ids && good && i < out->count; i++) {
        char path[24];
        snprintf(path, sizeof path, "%d", i);
        good = json_pairs_i64(&out->ids[i], &list, path);
    }
    json_pairs_release(&list);
    if (!good) {
        free(out->ids);
        out->ids = NULL;
    }
    return s;
}

status weights_labels_read(weights_labels *out, const char *path, int classes) {
    *out = (weights_labels){.count = classes};
    safetensors *file;
    RETURN_IF_ERROR(safetensors_open(&file, path));
    const char *names = safetensors_metadata(file, "class_names"),
               *ids = safetensors_metadata(file, "class_ids");
    status s = names ? read_names(out, names) : STATUS_OK;
    if (s == STATUS_OK && ids) s = read_ids(out, ids);
    if (s == STATUS_DATA) s = error_prefix(s, "%s: __metadata__", path);
    safetensors_close(file);
    return s;
}

void weights_labels_release(weights_labels *labels) {
    free(labels->names);
    free(labels->ids);
    json_pairs_release(&labels->text);
    *labels = (weights_labels){0};
}
