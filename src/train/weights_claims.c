#include "train/weights.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json_write.h"
#include "base/log.h"
#include "data/json_pairs.h"

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
    if (classes && classes->names) write_classes(writer, classes);
    if (iteration >= 0) {
        snprintf(number, sizeof number, "%lld", (long long)iteration);
        safetensors_writer_metadata(writer, "iteration", number);
    }
}

static const char DIFFERENT[] = "set the key to the file's value, or take other weights";

static status refuse(const safetensors *file, const char *claim, const char *said, const char *key,
                     const char *set) {
    return error_set(STATUS_CONFIG, DIFFERENT, "%s: made with %s %s, but %s is %s", safetensors_path(file),
                     claim, said, key, set);
}

static bool nearly_equal(double a, double b) {
    return fabs(a - b) <= 1e-6 * fmax(fabs(a), fabs(b));
}

static status check_floats(const safetensors *file, const char *claim, const char *key,
                           const config_floats *set) {
    const char *said = safetensors_metadata(file, claim);
    if (!said) return STATUS_OK;
    json_pairs list;
    status s = json_pairs_parse(&list, claim, said, strlen(said));
    bool is_equal = s == STATUS_OK && list.count == set->count;
    for (int i = 0; is_equal && i < list.count; i++) {
        char path[24];
        snprintf(path, sizeof path, "%d", i);
        double value;
        is_equal = json_pairs_f64(&value, &list, path) && nearly_equal(value, set->values[i]);
    }
    json_pairs_release(&list);
    if (s != STATUS_OK) return error_prefix(s, "%s: __metadata__", safetensors_path(file));
    if (is_equal) return STATUS_OK;
    char text[128];
    size_t used = (size_t)snprintf(text, sizeof text, "[");
    for (int i = 0; i < set->count && used < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, i ? ", %g" : "%g", set->values[i]);
    if (used < sizeof text) snprintf(text + used, sizeof text - used, "]");
    return refuse(file, claim, said, key, text);
}

static status check_eps(const safetensors *file, const config *cfg) {
    const char *said = safetensors_metadata(file, "norm_eps");
    if (!said) return STATUS_OK;
    char text[32], after;
    double value;
    if (sscanf(said, "%lf%c", &value, &after) == 1 && nearly_equal(value, cfg->MODEL_RESNETS_NORM_EPS))
        return STATUS_OK;
    json_format_f64(text, cfg->MODEL_RESNETS_NORM_EPS);
    return refuse(file, "norm_eps", said, "MODEL.RESNETS.NORM_EPS", text);
}

/* FrozenBN, BN and SyncBN hold the same tensors and compute the same from them once trained. */
static status check_norm(const safetensors *file, const config *cfg) {
    const char *said = safetensors_metadata(file, "norm");
    if (!said || (strcmp(said, "GN") == 0) == (strcmp(cfg->MODEL_RESNETS_NORM, "GN") == 0)) return STATUS_OK;
    return refuse(file, "norm", said, "MODEL.RESNETS.NORM", cfg->MODEL_RESNETS_NORM);
}

/* The first class that differs, as texts for a message; false if the lists are equal as far as both are
 * known. */
static bool find_other_class(char said[128], char set[128], const safetensors *file,
                             const weights_classes *classes, const json_pairs *names, const json_pairs *ids) {
    for (int i = 0; i < classes->count; i++) {
        const char *name = i < names->count ? names->items[i].value : "none";
        const char *id = i < ids->count ? ids->items[i].value : NULL;
        bool is_other = i >= names->count || strcmp(name, classes->names[i]) != 0;
        char number[24] = "";
        if (classes->ids && safetensors_metadata(file, "class_ids")) {
            snprintf(number, sizeof number, "%lld", (long long)classes->ids[i]);
            is_other = is_other || !id || strcmp(id, number) != 0;
        }
        if (!is_other) continue;
        snprintf(said, 128, "class %d is %.80s%s%.20s", i, name, id ? ", id " : "", id ? id : "");
        snprintf(set, 128, "%.80s%s%s", classes->names[i], *number ? ", id " : "", number);
        return true;
    }
    if (names->count == classes->count) return false;
    snprintf(said, 128, "%d classes", names->count);
    snprintf(set, 128, "%d classes", classes->count);
    return true;
}

static status check_classes(const safetensors *file, const weights_classes *classes, weights_use use) {
    const char *said_names = safetensors_metadata(file, "class_names"),
               *said_ids = safetensors_metadata(file, "class_ids");
    if (!classes || !classes->names || !said_names) return STATUS_OK;
    json_pairs names, ids = {0};
    status s = json_pairs_parse(&names, "class_names", said_names, strlen(said_names));
    if (s == STATUS_OK && said_ids) s = json_pairs_parse(&ids, "class_ids", said_ids, strlen(said_ids));
    char said[128], set[128];
    bool is_other = s == STATUS_OK && find_other_class(said, set, file, classes, &names, &ids);
    bool is_same_count = names.count == classes->count;
    json_pairs_release(&names);
    json_pairs_release(&ids);
    if (s != STATUS_OK) return error_prefix(s, "%s: __metadata__", safetensors_path(file));
    if (!is_other) return STATUS_OK;
    if (use != WEIGHTS_START)
        return error_set(STATUS_DATA, "use the annotations or the weights that belong together",
                         "%s: made for other classes (class_names): in the file %s, in the data set %s",
                         safetensors_path(file), said, set);
    if (is_same_count)
        log_warn("weights",
                 "%s was made for other classes: in the file %s, in the data set %s; the predictors are "
                 "loaded as they are",
                 safetensors_path(file), said, set);
    return STATUS_OK;
}

status weights_check_claims(const safetensors *file, const config *cfg, const weights_classes *classes,
                            weights_use use) {
    const char *order = safetensors_metadata(file, "input_order"),
               *stride = safetensors_metadata(file, "stride_place");
    if (use != WEIGHTS_EXACT_OWN_INPUT) {
        if (order && strcmp(order, cfg->INPUT_FORMAT) != 0)
            return refuse(file, "input_order", order, "INPUT.FORMAT", cfg->INPUT_FORMAT);
        RETURN_IF_ERROR(check_floats(file, "pixel_mean", "MODEL.PIXEL_MEAN", &cfg->MODEL_PIXEL_MEAN));
        RETURN_IF_ERROR(check_floats(file, "pixel_std", "MODEL.PIXEL_STD", &cfg->MODEL_PIXEL_STD));
    }
    if (stride && strcmp(stride, stride_place(cfg)) != 0)
        return refuse(file, "stride_place", stride, "MODEL.RESNETS.STRIDE_IN_1X1",
                      cfg->MODEL_RESNETS_STRIDE_IN_1X1 ? "True" : "False");
    RETURN_IF_ERROR(check_norm(file, cfg));
    RETURN_IF_ERROR(check_eps(file, cfg));
    return check_classes(file, classes, use);
}
