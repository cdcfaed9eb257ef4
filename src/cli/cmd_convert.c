/* maskrcnn convert: a weights file under today's names, in float32. */
#include "cli/cli.h"
#include "data/safetensors.h"
#include "layers/param_store.h"
#include "train/weight_names.h"

#include <stdlib.h>
#include <string.h>

/* A tensor that goes into the new file. */
typedef struct renamed {
    const safetensors_tensor *source;
    char name[PARAM_NAME_SIZE];
} renamed;

/* Classifier of a bare ImageNet backbone and counters of batches: no detector has them. */
static bool is_left_out(const char *name) {
    return weight_name_is_counter(name) || strcmp(name, "fc.weight") == 0 || strcmp(name, "fc.bias") == 0;
}

static int compare_name(const void *a, const void *b) {
    return strcmp(((const renamed *)a)->name, ((const renamed *)b)->name);
}

/* Fills `list` in the order of the names; *left_out counts the others. */
static status rename_all(renamed *list, int64_t *count, int64_t *left_out, const safetensors *file) {
    *count = *left_out = 0;
    for (int64_t i = 0; i < safetensors_count(file); i++) {
        const safetensors_tensor *t = safetensors_at(file, i);
        if (is_left_out(t->name)) {
            ++*left_out;
            continue;
        }
        renamed *r = &list[(*count)++];
        r->source = t;
        if (!weight_name_today(r->name, sizeof r->name, t->name))
            return error_set(STATUS_DATA, "shorten the name", "%s: tensor %.200s: the name is too long",
                             safetensors_path(file), t->name);
    }
    qsort(list, (size_t)*count, sizeof *list, compare_name);
    for (int64_t i = 1; i < *count; i++)
        if (strcmp(list[i - 1].name, list[i].name) == 0)
            return error_set(STATUS_DATA, "remove one of the two",
                             "%s: tensors %.200s and %.200s are the same parameter", safetensors_path(file),
                             list[i - 1].source->name, list[i].source->name);
    return STATUS_OK;
}

static status write_values(safetensors_writer *w, const renamed *list, int64_t count,
                           const safetensors *file) {
    RETURN_IF_ERROR(safetensors_writer_begin(w));
    status s = STATUS_OK;
    for (int64_t i = 0; i < count && s == STATUS_OK; i++) {
        size_t bytes = (size_t)list[i].source->elements * sizeof(float);
        float *values = malloc(bytes + 1);
        if (!values) return error_set(STATUS_OS, "free some memory", "no memory for %zu bytes", bytes);
        s = safetensors_read_f32(values, file, list[i].source);
        if (s == STATUS_OK) s = safetensors_writer_append(w, values, bytes);
        free(values);
    }
    return s;
}

static status convert(const char *out, const safetensors *file, renamed *list) {
    int64_t count, left_out;
    RETURN_IF_ERROR(rename_all(list, &count, &left_out, file));
    safetensors_writer *w;
    RETURN_IF_ERROR(safetensors_writer_new(&w, out));
    if (!safetensors_metadata(file, "format")) safetensors_writer_metadata(w, "format", "pt");
    for (int64_t i = 0; i < safetensors_metadata_count(file); i++) {
        const char *key, *value;
        safetensors_metadata_at(&key, &value, file, i);
        safetensors_writer_metadata(w, key, value);
    }
    for (int64_t i = 0; i < count; i++)
        safetensors_writer_declare(w, list[i].name, SAFETENSORS_F32, list[i].source->rank,
                                   list[i].source->shape);
    RETURN_IF_ERROR(safetensors_writer_finish(w, write_values(w, list, count, file)));
    printf("%s: %lld tensors written, %lld left out\n", out, (long long)count, (long long)left_out);
    return STATUS_OK;
}

static status run(const cli_args *args) {
    safetensors *file;
    RETURN_IF_ERROR(safetensors_open(&file, args->arguments[0]));
    renamed *list = calloc((size_t)safetensors_count(file) + 1, sizeof *list);
    status s = list ? convert(args->arguments[1], file, list)
                    : error_set(STATUS_OS, "free some memory", "no memory for the names");
    free(list);
    safetensors_close(file);
    return s;
}

static const cli_option options[] = {{0}};

const cli_command cmd_convert = {
    .name = "convert",
    .summary = "writes a weights file anew, under today's names and in float32",
    .usage = "IN OUT",
    .details = "Reads safetensors with torchvision's names, also those before 0.13 and bare ImageNet "
               "backbones. Files of PyTorch "
               "and detectron2 (.pth, .pkl) are converted by scripts/convert_weights.py, which needs Python.",
    .examples = {"maskrcnn convert resnet50.safetensors backbone.safetensors",
                 "maskrcnn convert old_names.safetensors model.safetensors",
                 "maskrcnn convert half_precision.safetensors single_precision.safetensors"},
    .options = options,
    .argument = "FILE",
    .min_arguments = 2,
    .max_arguments = 2,
    .run = run,
};
