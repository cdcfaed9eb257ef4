/* maskrcnn convert: a weights file under today's names, in float32. */
#include "base/json_write.h"
#include "cli/class_list.h"
#include "cli/cli.h"
#include "data/safetensors.h"
#include "layers/param_store.h"
#include "weights/weight_names.h"
#include "weights/weights_kind.h"

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

/* The file's own metadata, but for class names that are given anew. */
static status write_metadata(safetensors_writer *w, const safetensors *file, const class_list *classes) {
    if (!safetensors_metadata(file, "format")) safetensors_writer_metadata(w, "format", "pt");
    for (int64_t i = 0; i < safetensors_metadata_count(file); i++) {
        const char *key, *value;
        safetensors_metadata_at(&key, &value, file, i);
        if (classes->count == 0 || (strcmp(key, "class_names") != 0 && strcmp(key, "class_ids") != 0))
            safetensors_writer_metadata(w, key, value);
    }
    if (classes->count == 0) return STATUS_OK;
    json_writer text;
    json_write_init(&text);
    json_write_begin_array(&text);
    for (int i = 0; i < classes->count; i++) json_write_string(&text, classes->names[i]);
    json_write_end_array(&text);
    status s = json_write_finish(&text);
    if (s == STATUS_OK) safetensors_writer_metadata(w, "class_names", text.text);
    json_write_release(&text);
    return s;
}

static status check_classes(const safetensors *file, const weights_kind *kind, const class_list *classes) {
    if (classes->count == 0 || classes->count == kind->classes) return STATUS_OK;
    if (kind->classes < 0)
        return error_set(STATUS_DATA, "leave --class-names out", "%s: has no class scores to name (%s)",
                         safetensors_path(file), "roi_heads.box_predictor.cls_score.weight is missing");
    return error_set(STATUS_DATA,
                     "name every class of cls_score but the background, in the order of its rows",
                     "%s: --class-names gives %d names, but the file has %d classes and the background",
                     safetensors_path(file), classes->count, kind->classes);
}

static status convert(const char *out, const safetensors *file, renamed *list, const class_list *classes) {
    char text[WEIGHTS_KIND_TEXT];
    int64_t count, left_out;
    weights_kind kind = weights_kind_of(file);
    if (kind.names == WEIGHTS_NAMES_FOREIGN)
        return error_set(STATUS_DATA, "convert it with scripts/convert_weights.py, which needs Python",
                         "%s: its tensors have the names of detectron2 or Detectron", safetensors_path(file));
    RETURN_IF_ERROR(check_classes(file, &kind, classes));
    RETURN_IF_ERROR(rename_all(list, &count, &left_out, file));
    safetensors_writer *w;
    RETURN_IF_ERROR(safetensors_writer_new(&w, out));
    status s = write_metadata(w, file, classes);
    if (s != STATUS_OK) return safetensors_writer_finish(w, s);
    for (int64_t i = 0; i < count; i++)
        safetensors_writer_declare(w, list[i].name, SAFETENSORS_F32, list[i].source->rank,
                                   list[i].source->shape);
    RETURN_IF_ERROR(safetensors_writer_finish(w, write_values(w, list, count, file)));
    printf("%s: %s; names: %s\n", safetensors_path(file), weights_kind_text(text, &kind),
           weights_names_text(kind.names));
    if (kind.classes >= 0)
        printf("%s: %d classes and the background%s\n", safetensors_path(file), kind.classes,
               classes->count                              ? ", named by --class-names"
               : safetensors_metadata(file, "class_names") ? ", named"
                                                           : ", without names (--class-names gives them)");
    printf("%s: %lld tensors written, %lld left out\n", out, (long long)count, (long long)left_out);
    return STATUS_OK;
}

static status run(const cli_args *args) {
    class_list classes = {0};
    const char *names = cli_value(args, "class-names");
    if (names) {
        status s = class_list_read(&classes, names);
        if (s != STATUS_OK) {
            class_list_release(&classes);
            return s;
        }
    }
    safetensors *file;
    status s = safetensors_open(&file, args->arguments[0]);
    if (s == STATUS_OK) {
        renamed *list = calloc((size_t)safetensors_count(file) + 1, sizeof *list);
        s = list ? convert(args->arguments[1], file, list, &classes)
                 : error_set(STATUS_OS, "free some memory", "no memory for the names");
        free(list);
    }
    class_list_release(&classes);
    safetensors_close(file);
    return s;
}

static const cli_option options[] = {
    {.name = "class-names",
     .value = "NAMES",
     .help =
         "record these class names, in the order of the file's rows and without the background: a text file "
         "with one on each line, or A,B,C"},
    {0}};

const cli_command cmd_convert = {
    .name = "convert",
    .summary = "writes a weights file anew, under today's names and in float32",
    .usage = "IN OUT [--class-names NAMES]",
    .details =
        "Reads safetensors with torchvision's names, also those before 0.13 and bare ImageNet "
        "backbones. Files of PyTorch "
        "and detectron2 (.pth, .pkl) are converted by scripts/convert_weights.py, which needs Python. "
        "With class names, a training on other classes keeps the rows of those that have the same name.",
    .examples =
        {"maskrcnn convert resnet50.safetensors backbone.safetensors",
         "maskrcnn convert old_names.safetensors model.safetensors",
         "maskrcnn convert coco.safetensors named.safetensors --class-names configs/coco_classes.txt"},
    .options = options,
    .argument = "FILE",
    .min_arguments = 2,
    .max_arguments = 2,
    .one_process = true,
    .run = run,
};
