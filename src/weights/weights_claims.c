#include "weights/weights.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/json_write.h"
#include "base/log.h"
#include "base/text.h"
#include "data/json_pairs.h"
#include "weights/class_table.h"

static const char *stride_place(const config *cfg) {
    return cfg->MODEL_RESNETS_STRIDE_IN_1X1 ? "1x1" : "3x3";
}

static void write_floats(safetensors_writer *writer, const char *key, const config_floats *list) {
    json_writer text;
    json_write_init(&text);
    json_write_begin_array(&text);
    for (int i = 0; i < list->count; i++) json_write_f64(&text, list->values[i]);
    json_write_end_array(&text);
    if (json_write_finish(&text) == STATUS_OK) safetensors_writer_metadata(writer, key, text.text);
    json_write_release(&text);
}

static void write_classes(safetensors_writer *writer, const weights_classes *classes) {
    json_writer names, ids;
    json_write_init(&names);
    json_write_init(&ids);
    json_write_begin_array(&names);
    json_write_begin_array(&ids);
    for (int i = 0; i < classes->count; i++) {
        json_write_string(&names, classes->names[i]);
        if (classes->ids) json_write_i64(&ids, classes->ids[i]);
    }
    json_write_end_array(&names);
    json_write_end_array(&ids);
    if (json_write_finish(&names) == STATUS_OK)
        safetensors_writer_metadata(writer, "class_names", names.text);
    if (classes->ids && json_write_finish(&ids) == STATUS_OK)
        safetensors_writer_metadata(writer, "class_ids", ids.text);
    json_write_release(&names);
    json_write_release(&ids);
}

void weights_write_claims(safetensors_writer *writer, const config *cfg, const weights_classes *classes,
                          int64_t iteration) {
    char number[32];
    safetensors_writer_metadata(writer, "format", "pt");
    safetensors_writer_metadata(writer, "input_order", cfg->INPUT_FORMAT);
    write_floats(writer, "pixel_mean", &cfg->MODEL_PIXEL_MEAN);
    write_floats(writer, "pixel_std", &cfg->MODEL_PIXEL_STD);
    safetensors_writer_metadata(writer, "stride_place", stride_place(cfg));
    safetensors_writer_metadata(writer, "norm", cfg->MODEL_RESNETS_NORM);
    json_format_f64(number, cfg->MODEL_RESNETS_NORM_EPS);
    safetensors_writer_metadata(writer, "norm_eps", number);
    if (classes && classes->names && config_has_roi_heads(cfg)) write_classes(writer, classes);
    if (iteration >= 0) {
        snprintf(number, sizeof number, "%lld", (long long)iteration);
        safetensors_writer_metadata(writer, "iteration", number);
    }
}

/* What the file says and the configuration contradicts, and the keys that would make them agree. */
typedef struct conflicts {
    int count;
    size_t used, advised;
    char cause[1200], advice[600];
} conflicts;

static void append(char *text, size_t size, size_t *used, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void append(char *text, size_t size, size_t *used, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text + *used, size - *used, format, args);
    va_end(args);
    if (n > 0) *used = *used + (size_t)n < size ? *used + (size_t)n : size - 1;
}

/* `key` would have to be `wanted`, but is `set`. NULL: the file's value is none that the key can have. */
static void add_conflict(conflicts *c, const char *claim, const char *said, const char *key, const char *set,
                         const char *wanted) {
    append(c->cause, sizeof c->cause, &c->used, "%s%s %.120s, but %s is %s",
           c->count ? ", and with " : "made with ", claim, said, key, *set ? set : "\"\"");
    if (wanted) {
        const char *quote = strpbrk(wanted, "[ ") ? "\"" : "";
        append(c->advice, sizeof c->advice, &c->advised, " %s %s%s%s", key, quote, wanted, quote);
    }
    c->count++;
}

static status refuse(const safetensors *file, const conflicts *c) {
    if (c->count == 0) return STATUS_OK;
    status s = error_set(STATUS_CONFIG, "take other weights", "%s: %s", safetensors_path(file), c->cause);
    if (c->advised) error_set_remedy("set%s, or take other weights", c->advice);
    return s;
}

static bool nearly_equal(double a, double b) {
    return fabs(a - b) <= 1e-6 * fmax(fabs(a), fabs(b));
}

/* "[103.53, 116.28, 123.675]", as the key takes it. */
enum { FLOATS_TEXT = 128 };
static const char *floats_text(char text[FLOATS_TEXT], const double *values, int count) {
    size_t used = 0;
    append(text, FLOATS_TEXT, &used, "[");
    for (int i = 0; i < count; i++) append(text, FLOATS_TEXT, &used, i ? ", %.9g" : "%.9g", values[i]);
    append(text, FLOATS_TEXT, &used, "]");
    return text;
}

static status check_floats(conflicts *c, const safetensors *file, const char *claim, const char *key,
                           const config_floats *set) {
    enum { MOST = 8 };
    const char *said = safetensors_metadata(file, claim);
    if (!said) return STATUS_OK;
    json_pairs list;
    status s = json_pairs_parse(&list, claim, said, strlen(said));
    bool is_equal = s == STATUS_OK && list.count == set->count, is_list = list.count == 3;
    double values[MOST] = {0};
    for (int i = 0; i < list.count && i < MOST; i++) {
        char path[24];
        snprintf(path, sizeof path, "%d", i);
        is_list = json_pairs_f64(&values[i], &list, path) && is_list;
        is_equal = is_equal && is_list && nearly_equal(values[i], set->values[i]);
    }
    json_pairs_release(&list);
    if (s != STATUS_OK) return error_prefix(s, "%s: __metadata__", safetensors_path(file));
    char here[FLOATS_TEXT], wanted[FLOATS_TEXT];
    if (!is_equal)
        add_conflict(c, claim, said, key, floats_text(here, set->values, set->count),
                     is_list ? floats_text(wanted, values, 3) : NULL);
    return STATUS_OK;
}

static void check_eps(conflicts *c, const safetensors *file, const config *cfg) {
    const char *said = safetensors_metadata(file, "norm_eps");
    if (!said) return;
    char text[32], wanted[32], after;
    double value = 0;
    bool is_number = sscanf(said, "%lf%c", &value, &after) == 1;
    if (is_number && nearly_equal(value, cfg->MODEL_RESNETS_NORM_EPS)) return;
    json_format_f64(text, cfg->MODEL_RESNETS_NORM_EPS);
    json_format_f64(wanted, value);
    add_conflict(c, "norm_eps", said, "MODEL.RESNETS.NORM_EPS", text, is_number ? wanted : NULL);
}

/* FrozenBN, BN and SyncBN hold the same tensors and compute the same from them once trained. */
static void check_norm(conflicts *c, const safetensors *file, const config *cfg) {
    const char *said = safetensors_metadata(file, "norm");
    if (!said || (strcmp(said, "GN") == 0) == (strcmp(cfg->MODEL_RESNETS_NORM, "GN") == 0)) return;
    add_conflict(c, "norm", said, "MODEL.RESNETS.NORM", cfg->MODEL_RESNETS_NORM,
                 text_is_choice("FrozenBN|BN|SyncBN|GN", said) ? said : NULL);
}

/* Only the blocks of deep ResNets have a choice. */
static void check_stride(conflicts *c, const safetensors *file, const config *cfg) {
    const char *said = safetensors_metadata(file, "stride_place");
    if (!said || cfg->MODEL_RESNETS_DEPTH < 50 || strcmp(said, stride_place(cfg)) == 0) return;
    add_conflict(c, "stride_place", said, "MODEL.RESNETS.STRIDE_IN_1X1",
                 cfg->MODEL_RESNETS_STRIDE_IN_1X1 ? "True" : "False",
                 text_is_choice("1x1|3x3", said) ? (said[0] == '1' ? "True" : "False") : NULL);
}

static void check_order(conflicts *c, const safetensors *file, const config *cfg) {
    const char *said = safetensors_metadata(file, "input_order");
    if (said && strcmp(said, cfg->INPUT_FORMAT) != 0)
        add_conflict(c, "input_order", said, "INPUT.FORMAT", cfg->INPUT_FORMAT,
                     text_is_choice("RGB|BGR", said) ? said : NULL);
}

void weights_warn_of_silence(const safetensors *file, const config *cfg) {
    static const double mean[] = {123.675, 116.28, 103.53}, std[] = {58.395, 57.12, 57.375};
    static const char *const claims[] = {"input_order", "pixel_mean", "pixel_std", "stride_place"};
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++)
        if (safetensors_metadata(file, claims[i])) return;
    char text[FLOATS_TEXT], keys[400];
    size_t used = 0;
    keys[0] = 0;
    if (strcmp(cfg->INPUT_FORMAT, "RGB") != 0) append(keys, sizeof keys, &used, " INPUT.FORMAT RGB");
    bool is_mean = true, is_std = true;
    for (int i = 0; i < 3; i++) {
        is_mean = is_mean && fabs(cfg->MODEL_PIXEL_MEAN.values[i] - mean[i]) < 0.5;
        is_std = is_std && fabs(cfg->MODEL_PIXEL_STD.values[i] - std[i]) < 0.5;
    }
    if (!is_mean) append(keys, sizeof keys, &used, " MODEL.PIXEL_MEAN \"%s\"", floats_text(text, mean, 3));
    if (!is_std) append(keys, sizeof keys, &used, " MODEL.PIXEL_STD \"%s\"", floats_text(text, std, 3));
    if (cfg->MODEL_RESNETS_DEPTH >= 50 && cfg->MODEL_RESNETS_STRIDE_IN_1X1)
        append(keys, sizeof keys, &used, " MODEL.RESNETS.STRIDE_IN_1X1 False");
    if (used)
        log_warn("weights",
                 "%s does not say what input it was made for. If it comes from torchvision or timm, this "
                 "configuration "
                 "lowers its accuracy without another sign: set%s",
                 safetensors_path(file), keys);
}

/* The first class that differs, as texts for a message; false if the lists are equal as far as both are
 * known. */
static bool find_other_class(char said[128], char set[128], const weights_classes *file,
                             const weights_classes *classes) {
    for (int i = 0; i < classes->count; i++) {
        bool is_there = i < file->count;
        char id[32] = "", wanted[32] = "";
        if (is_there && file->ids) snprintf(id, sizeof id, ", id %lld", (long long)file->ids[i]);
        if (classes->ids && file->ids)
            snprintf(wanted, sizeof wanted, ", id %lld", (long long)classes->ids[i]);
        if (is_there && strcmp(file->names[i], classes->names[i]) == 0 &&
            (!*wanted || file->ids[i] == classes->ids[i]))
            continue;
        snprintf(said, 128, "class %d is %.70s%s", i, is_there ? file->names[i] : "none", id);
        snprintf(set, 128, "%.80s%s", classes->names[i], wanted);
        return true;
    }
    if (file->count == classes->count) return false;
    snprintf(said, 128, "%d classes", file->count);
    snprintf(set, 128, "%d classes", classes->count);
    return true;
}

static status check_classes(const safetensors *file, const weights_classes *classes) {
    enum { LIST_TEXT = 640 };
    if (!classes || !classes->names || !safetensors_metadata(file, "class_names")) return STATUS_OK;
    class_table own;
    RETURN_IF_ERROR(class_table_of_file(&own, file));
    char said[128], set[128];
    status s = STATUS_OK;
    if (find_other_class(said, set, &own.classes, classes)) {
        char in_file[LIST_TEXT], in_set[LIST_TEXT];
        class_table_text(in_file, sizeof in_file, &own.classes);
        class_table_text(in_set, sizeof in_set, classes);
        s = error_set(
            STATUS_DATA, "use the annotations or the weights that belong together",
            "%s: made for other classes (class_names): in the file %s, in the data set %s; all %d in the "
            "file: %s; all %d in the data set: %s",
            safetensors_path(file), said, set, own.classes.count, own.classes.count ? in_file : "none",
            classes->count, classes->count ? in_set : "none");
    }
    class_table_release(&own);
    return s;
}

status weights_check_claims(const safetensors *file, const config *cfg, const weights_classes *classes,
                            weights_use use) {
    conflicts found = {0};
    if (use != WEIGHTS_EXACT_OWN_INPUT) {
        check_order(&found, file, cfg);
        RETURN_IF_ERROR(check_floats(&found, file, "pixel_mean", "MODEL.PIXEL_MEAN", &cfg->MODEL_PIXEL_MEAN));
        RETURN_IF_ERROR(check_floats(&found, file, "pixel_std", "MODEL.PIXEL_STD", &cfg->MODEL_PIXEL_STD));
    }
    check_stride(&found, file, cfg);
    check_norm(&found, file, cfg);
    check_eps(&found, file, cfg);
    RETURN_IF_ERROR(refuse(file, &found));
    return use == WEIGHTS_START || !config_has_roi_heads(cfg) ? STATUS_OK : check_classes(file, classes);
}
