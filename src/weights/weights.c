#include "weights/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "device/device.h"
#include "weights/class_rows.h"
#include "weights/class_table.h"
#include "weights/weight_names.h"
#include "weights/weights_kind.h"

/* Names for a message or the log, as many as fit. */
typedef struct name_list {
    int count;
    size_t used;
    char text[1500];
} name_list;

static void add_name(name_list *list, const char *name) {
    size_t needed = strlen(name) + 2;
    list->count++;
    if (list->used + needed + 8 > sizeof list->text) {
        if (list->used && list->text[list->used - 1] != '.')
            list->used += (size_t)snprintf(list->text + list->used, sizeof list->text - list->used, ", ...");
        return;
    }
    list->used += (size_t)snprintf(list->text + list->used, sizeof list->text - list->used, "%s%s",
                                   list->used ? ", " : "", name);
}

/* Which tensor of the file goes into which parameter. */
typedef struct match {
    const safetensors *file;
    param_store *store;
    const safetensors_tensor **sources; /* [store->count]; NULL: keeps its value */
    bool trainable_only;
    bool has_rows; /* both class lists are known: `rows` holds how they go together */
    bool may_copy; /* MODEL.COPY_CLASS_ROWS */
    bool no_masks; /* boxes only, of a model that has masks, too: its mask head is left aside */
    bool
        rpn_only; /* proposals, of a model that has heads, too: they are left aside, with a res5 nobody reads */
    class_rows rows;
    bool *is_copied; /* [store->count]: only the rows in `rows` are loaded */
    name_list missing, restarted, copied, ignored;
    int counters; /* num_batches_tracked */
    int aside;    /* tensors of heads that are not used */
} match;

static bool takes_part(const match *m, int index) {
    return !m->trainable_only || m->store->params[index].trainable;
}

static bool starts_with(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

static bool is_left_aside(const match *m, const char *name) {
    return (m->no_masks && starts_with(name, "roi_heads.mask_")) ||
           (m->rpn_only && (starts_with(name, "roi_heads.") || starts_with(name, "backbone.body.layer4.")));
}

/* Finds the parameter of every tensor of the file. */
static status match_names(match *m) {
    for (int64_t i = 0; i < safetensors_count(m->file); i++) {
        const safetensors_tensor *t = safetensors_at(m->file, i);
        if (weight_name_is_counter(t->name)) {
            m->counters++;
            continue;
        }
        char name[PARAM_NAME_SIZE];
        int index = weight_name_today(name, sizeof name, t->name) ? param_store_find(m->store, name) : -1;
        if (index < 0 && is_left_aside(m, t->name)) {
            m->aside++;
            continue;
        }
        if (index < 0 || !takes_part(m, index)) {
            add_name(&m->ignored, t->name);
            continue;
        }
        if (m->sources[index])
            return error_set(STATUS_DATA, "remove one of the two",
                             "%s: tensors %s and %s are the same parameter", safetensors_path(m->file),
                             m->sources[index]->name, t->name);
        m->sources[index] = t;
    }
    return STATUS_OK;
}

static bool is_same_shape(const int64_t *a, int rank_a, const int64_t *b, int rank_b) {
    return rank_a == rank_b && memcmp(a, b, (size_t)rank_a * sizeof *a) == 0;
}

/* What becomes of a tensor of the file. */
typedef enum fate { FATE_LOADED, FATE_COPIED, FATE_RESTARTED, FATE_REFUSED } fate;

/* Predictors of other classes are no error at the start of a training; everything else must have the model's shape. */
static fate fate_of(const match *m, const param *p, const safetensors_tensor *t, const int64_t *shape,
                    int rank, weights_use use) {
    bool is_equal = is_same_shape(shape, rank, t->shape, t->rank);
    if (use != WEIGHTS_START || !class_rows_per_class(p->name)) return is_equal ? FATE_LOADED : FATE_REFUSED;
    if (t->rank != rank || !is_same_shape(shape + 1, rank - 1, t->shape + 1, rank - 1)) return FATE_REFUSED;
    if (is_equal && (!m->has_rows || m->rows.is_same)) return FATE_LOADED;
    return m->has_rows && m->may_copy && m->rows.matched > 0 ? FATE_COPIED : FATE_RESTARTED;
}

static status refuse_shape(const match *m, const param *p, const safetensors_tensor *t, const int64_t *shape,
                           int rank) {
    char in_file[SAFETENSORS_SHAPE_TEXT], in_model[SAFETENSORS_SHAPE_TEXT];
    status s = error_set(
        STATUS_DATA, "take weights of this model, or the config that made them",
        "%s: tensor %s has shape %s in the file, but %s in the model", safetensors_path(m->file), t->name,
        safetensors_shape_text(in_file, t->shape, t->rank), safetensors_shape_text(in_model, shape, rank));
    int rows = class_rows_per_class(p->name);
    bool other_classes = rows > 0 && t->rank == rank && t->shape[0] >= 2 * rows && t->shape[0] % rows == 0;
    for (int i = 1; i < rank && other_classes; i++) other_classes = t->shape[i] == shape[i];
    if (other_classes)
        error_set_remedy(
            "set MODEL.ROI_HEADS.NUM_CLASSES %lld, the classes of the file, or take other weights",
            (long long)(t->shape[0] / rows - 1));
    return s;
}

static status check_shapes(match *m, weights_use use) {
    for (int i = 0; i < m->store->count; i++) {
        const param *p = &m->store->params[i];
        const safetensors_tensor *t = m->sources[i];
        if (!takes_part(m, i)) continue;
        if (!t) {
            add_name(&m->missing, p->name);
            continue;
        }
        int64_t shape[PARAM_MAX_RANK];
        int rank = param_file_shape(p, shape);
        switch (fate_of(m, p, t, shape, rank, use)) {
        case FATE_LOADED:
            break;
        case FATE_REFUSED:
            return refuse_shape(m, p, t, shape, rank);
        case FATE_RESTARTED:
            add_name(&m->restarted, p->name);
            m->sources[i] = NULL;
            break;
        case FATE_COPIED:
            if (!class_rows_fit(shape[0], t->shape[0], class_rows_per_class(p->name), &m->rows))
                return error_set(STATUS_DATA, "give the file the right names: maskrcnn convert --class-names",
                                 "%s: tensor %s has %lld rows, which its class_names do not fit",
                                 safetensors_path(m->file), t->name, (long long)t->shape[0]);
            add_name(&m->copied, p->name);
            m->is_copied[i] = true;
            break;
        }
    }
    return STATUS_OK;
}

static status check_complete(const match *m) {
    if (m->missing.count == 0 && m->ignored.count == 0) return STATUS_OK;
    const char *remedy = "take weights of this model, or the config that made them";
    if (m->ignored.count == 0)
        return error_set(STATUS_DATA, remedy, "%s: does not fit the model: %d tensors are missing (%.1400s)",
                         safetensors_path(m->file), m->missing.count, m->missing.text);
    if (m->missing.count == 0)
        return error_set(STATUS_DATA, remedy,
                         "%s: does not fit the model: %d tensors do not belong to it (%.1400s)",
                         safetensors_path(m->file), m->ignored.count, m->ignored.text);
    return error_set(
        STATUS_DATA, remedy,
        "%s: does not fit the model: %d tensors are missing (%.700s), %d do not belong to it (%.700s)",
        safetensors_path(m->file), m->missing.count, m->missing.text, m->ignored.count, m->ignored.text);
}

/* Host memory for one record in each order, as large as the largest one asked for. Where the host can use a record in its
 * place, `memory_order` is NULL. */
typedef struct staging {
    float *file_order, *memory_order;
} staging;

static status staging_init(staging *s, const param_store *store, int64_t largest, const char *path) {
    size_t bytes = (size_t)(largest > 0 ? largest : 1) * sizeof(float);
    bool is_host = param_store_in_place(store, PARAM_VALUES); /* momentum too */
    *s = (staging){.file_order = malloc(bytes), .memory_order = is_host ? NULL : malloc(bytes)};
    if (s->file_order && (is_host || s->memory_order)) return STATUS_OK;
    return error_set(STATUS_OS, "free some memory", "%s: no memory for a tensor of %zu bytes", path, bytes);
}

static void staging_release(staging *s) {
    free(s->file_order);
    free(s->memory_order);
}

/* Puts the rows of the matched classes of `t` into `values`, which holds the parameter in the file's order. */
static status read_rows(float *values, const match *m, const param *p, const safetensors_tensor *t) {
    float *rows = malloc((size_t)t->elements * sizeof *rows + 1);
    if (!rows)
        return error_set(STATUS_OS, "free some memory", "%s: no memory for tensor %s",
                         safetensors_path(m->file), t->name);
    int64_t shape[PARAM_MAX_RANK];
    param_file_shape(p, shape);
    status s = safetensors_read_f32(rows, m->file, t);
    if (s == STATUS_OK)
        CHECK(class_rows_copy(values, shape[0], rows, t->shape[0], p->size / shape[0],
                              class_rows_per_class(p->name), &m->rows),
              "rows of %s were not checked", p->name);
    free(rows);
    return s;
}

/* Reads the tensor of parameter `p` into a buffer of the store. */
static status read_value(const match *m, const staging *staged, const param *p, param_buffer which,
                         const safetensors_tensor *t, bool is_copied) {
    float *target = param_store_place(m->store, which, p, staged->memory_order);
    if (is_copied) {
        param_to_file_order(p, staged->file_order,
                            param_store_read(m->store, which, p, staged->memory_order));
        RETURN_IF_ERROR(read_rows(staged->file_order, m, p, t));
    } else {
        RETURN_IF_ERROR(safetensors_read_f32(staged->file_order, m->file, t));
    }
    param_from_file_order(p, target, staged->file_order);
    param_store_commit(m->store, which, p, target);
    return STATUS_OK;
}

/* Reads all matched tensors into a buffer of the store. */
static status read_values(const match *m, param_buffer which) {
    int64_t largest = 0;
    for (int i = 0; i < m->store->count; i++)
        if (m->sources[i] && m->store->params[i].size > largest) largest = m->store->params[i].size;
    staging staged;
    status s = staging_init(&staged, m->store, largest, safetensors_path(m->file));
    for (int i = 0; i < m->store->count && s == STATUS_OK; i++) {
        const param *p = &m->store->params[i];
        if (m->sources[i]) s = read_value(m, &staged, p, which, m->sources[i], m->is_copied[i]);
    }
    staging_release(&staged);
    return s;
}

/* Every matched tensor can be read, so that a refusal comes before the first change. */
static status check_dtypes(const match *m) {
    for (int i = 0; i < m->store->count; i++) {
        const safetensors_tensor *t = m->sources[i];
        if (t && t->dtype != SAFETENSORS_F32 && t->dtype != SAFETENSORS_F64 && t->dtype != SAFETENSORS_F16 &&
            t->dtype != SAFETENSORS_BF16)
            return error_set(STATUS_DATA, "store it as F32, F16, BF16 or F64",
                             "%s: tensor %s: dtype %s is not a float", safetensors_path(m->file), t->name,
                             safetensors_dtype_name(t->dtype));
    }
    return STATUS_OK;
}

static weights_report make_report(const match *m) {
    weights_report r = {.kept = m->missing.count,
                        .restarted = m->restarted.count,
                        .copied = m->copied.count,
                        .ignored = m->ignored.count + m->counters + m->aside};
    for (int i = 0; i < m->store->count; i++) {
        if (!takes_part(m, i)) continue;
        const param *p = &m->store->params[i];
        if (m->is_copied[i]) continue;
        if (m->sources[i]) {
            r.loaded++;
            r.loaded_values += p->size;
        } else if (!p->trainable) {
            r.kept_frozen++;
        }
    }
    return r;
}

/* Classes in and out of the file, by name. */
static void log_classes(const match *m, const weights_classes *classes) {
    name_list *lists = calloc(2, sizeof *lists);
    if (!lists) return;
    for (int i = 0; i < classes->count; i++) add_name(&lists[m->rows.source[i] < 0], classes->names[i]);
    log_info("weights", "rows of the background and of %d of %d classes copied by name: %s", lists[0].count,
             classes->count, lists[0].text);
    if (lists[1].count)
        log_info("weights", "classes that the file does not have, start anew: %s", lists[1].text);
    free(lists);
}

static void log_report(const match *m, const weights_report *r, const weights_classes *classes) {
    char in_part[32] = "";
    if (r->copied) snprintf(in_part, sizeof in_part, ", %d in part", r->copied);
    log_info("weights",
             "%s: %d tensors (%lld values) loaded%s, %d kept their start value, %d of the file ignored",
             safetensors_path(m->file), r->loaded, (long long)r->loaded_values, in_part,
             r->kept + r->restarted, r->ignored);
    if (m->missing.count) log_info("weights", "not in the file, start value kept: %s", m->missing.text);
    if (m->restarted.count)
        log_info("weights", "of %s, start anew: %s",
                 !m->has_rows          ? "another number of classes"
                 : m->rows.matched > 0 ? "other classes (MODEL.COPY_CLASS_ROWS is False)"
                                       : "other classes (none of the same name)",
                 m->restarted.text);
    if (m->copied.count) {
        log_info("weights", "of other classes, start anew but for the rows of the same classes: %s",
                 m->copied.text);
        log_classes(m, classes);
    }
    if (m->ignored.count) log_info("weights", "in the file, not in the model, ignored: %s", m->ignored.text);
    if (m->aside && m->rpn_only)
        log_info("weights",
                 "MODEL.META_ARCHITECTURE is ProposalNetwork: the file's heads (%d tensors) are not used",
                 m->aside);
    else if (m->aside)
        log_info("weights", "MODEL.MASK_ON is False: the file's mask head (%d tensors) is not used",
                 m->aside);
    if (m->counters)
        log_info("weights", "in the file, never used, ignored: %d num_batches_tracked", m->counters);
}

/* A backbone with another kind of norm loads in part, and learns badly. */
static void warn_of_norm(const weights_kind *kind, const char *path, const config *cfg) {
    bool is_gn = strcmp(cfg->MODEL_RESNETS_NORM, "GN") == 0;
    if (kind->has_norm && kind->has_statistics == is_gn)
        log_warn("weights",
                 "%s holds a ResNet with %s norm, but MODEL.RESNETS.NORM is %s: it starts from a part of its "
                 "weights; set MODEL.RESNETS.NORM %s",
                 path, is_gn ? "batch" : "group", cfg->MODEL_RESNETS_NORM, is_gn ? "FrozenBN" : "GN");
}

/* Rows in an order that only their names could tell, e.g. torchvision's, whose rows are category ids. */
static void warn_of_order(const match *m, const weights_classes *classes) {
    int index = param_store_find(m->store, "roi_heads.box_predictor.cls_score.weight");
    if (index < 0 || !m->sources[index] || m->has_rows || !classes || !classes->names) return;
    int64_t rows = m->store->params[index].shape[0] - 1;
    if (rows > classes->count)
        log_warn(
            "weights",
            "%s does not name its %lld classes, and the data set has %d: the first rows are taken for them "
            "in "
            "their order. If the file is torchvision's, whose rows are category ids, give it names first: "
            "maskrcnn convert --class-names configs/coco_classes_91.txt",
            safetensors_path(m->file), (long long)rows, classes->count);
}

/* The blocks of a deeper ResNet fit a shallower one, but it is not that network any more. */
static status check_depth(const weights_kind *kind, const char *path, const config *cfg) {
    if (kind->depth == 0 || kind->depth == cfg->MODEL_RESNETS_DEPTH) return STATUS_OK;
    status s =
        error_set(STATUS_CONFIG, "take other weights", "%s: holds a ResNet-%d, but MODEL.RESNETS.DEPTH is %d",
                  path, kind->depth, (int)cfg->MODEL_RESNETS_DEPTH);
    if (kind->depth != 152)
        error_set_remedy("set MODEL.RESNETS.DEPTH %d, or take other weights", kind->depth);
    return s;
}

static status match_file(match *m, weights_use use) {
    m->sources = calloc((size_t)m->store->count + 1, sizeof *m->sources);
    m->is_copied = calloc((size_t)m->store->count + 1, sizeof *m->is_copied);
    if (!m->sources || !m->is_copied)
        return error_set(STATUS_OS, "free some memory", "no memory to load %s", safetensors_path(m->file));
    RETURN_IF_ERROR(match_names(m));
    RETURN_IF_ERROR(check_shapes(m, use));
    if (use != WEIGHTS_START) RETURN_IF_ERROR(check_complete(m));
    return check_dtypes(m);
}

/* Reads `file` into a buffer of the store; `cfg` and `classes` NULL: momentum, which follows the weights. */
static status load(weights_report *report, match *m, param_buffer which, const config *cfg,
                   const weights_classes *classes, weights_use use) {
    status s = match_file(m, use);
    weights_kind kind = weights_kind_of(m->file);
    if (s == STATUS_OK && use == WEIGHTS_START) s = check_depth(&kind, safetensors_path(m->file), cfg);
    if (s == STATUS_OK) {
        *report = make_report(m);
        if (report->loaded + report->copied == 0)
            s = error_set(STATUS_DATA,
                          "give weights with torchvision's names: scripts/convert_weights.py renames others",
                          "%s: none of its %lld tensors belongs to the model (the first: %s)",
                          safetensors_path(m->file), (long long)safetensors_count(m->file),
                          safetensors_count(m->file) ? safetensors_at(m->file, 0)->name : "none");
    }
    if (s == STATUS_OK) s = read_values(m, which);
    if (s == STATUS_OK && use == WEIGHTS_START) {
        warn_of_norm(&kind, safetensors_path(m->file), cfg);
        warn_of_order(m, classes);
    }
    free(m->sources);
    free(m->is_copied);
    return s;
}

/* Finds the classes of the model in the file's list, where both are known. */
static status match_classes(match *m, const config *cfg, const weights_classes *classes) {
    if (!classes || !classes->names || !safetensors_metadata(m->file, "class_names")) return STATUS_OK;
    class_table own;
    RETURN_IF_ERROR(class_table_of_file(&own, m->file));
    status s =
        class_rows_match(&m->rows, classes->names, classes->count, own.classes.names, own.classes.count);
    m->has_rows = s == STATUS_OK;
    m->may_copy = cfg->MODEL_COPY_CLASS_ROWS;
    class_table_release(&own);
    return s;
}

/* detectron2's names are in part torchvision's, but their rows are in another order: never take a part of them. */
static status refuse_foreign(const safetensors *file) {
    if (weights_kind_of(file).names != WEIGHTS_NAMES_FOREIGN) return STATUS_OK;
    return error_set(
        STATUS_DATA, "convert it with scripts/convert_weights.py",
        "%s: its tensors have the names of detectron2 or Detectron, which order rows in other ways",
        safetensors_path(file));
}

static status refuse_url(const char *path) {
    if (!strstr(path, "://")) return STATUS_OK;
    return error_set(STATUS_NO_INPUT,
                     "fetch the file yourself, convert it to safetensors (scripts/convert_weights.py) and "
                     "give its path with --weights, "
                     "or MODEL.WEIGHTS \"\" for a random start",
                     "MODEL.WEIGHTS %s is not a local file, and nothing is downloaded", path);
}

status weights_load(weights_report *report, param_store *store, const char *path, const config *cfg,
                    const weights_classes *classes, weights_use use) {
    *report = (weights_report){0};
    RETURN_IF_ERROR(refuse_url(path));
    safetensors *file;
    RETURN_IF_ERROR(safetensors_open(&file, path));
    match *m = calloc(1, sizeof *m);
    status s =
        m ? refuse_foreign(file) : error_set(STATUS_OS, "free some memory", "no memory to load %s", path);
    if (s == STATUS_OK) s = weights_check_claims(file, cfg, classes, use);
    if (s == STATUS_OK) {
        *m = (match){.file = file,
                     .store = store,
                     .no_masks = use != WEIGHTS_START && !cfg->MODEL_MASK_ON,
                     .rpn_only = use != WEIGHTS_START && !config_has_roi_heads(cfg)};
        if (use == WEIGHTS_START) s = match_classes(m, cfg, classes);
        if (s == STATUS_OK) s = load(report, m, PARAM_VALUES, cfg, classes, use);
        if (s == STATUS_OK) {
            log_report(m, report, classes);
            if (use != WEIGHTS_EXACT_OWN_INPUT) weights_warn_of_silence(file, cfg);
        }
        class_rows_release(&m->rows);
    }
    free(m);
    safetensors_close(file);
    return s;
}

status weights_load_momentum(param_store *store, const char *path) {
    CHECK(store->momentum, "no momentum to load into");
    safetensors *file;
    RETURN_IF_ERROR(safetensors_open(&file, path));
    match *m = calloc(1, sizeof *m);
    status s = error_set(STATUS_OS, "free some memory", "no memory to load %s", path);
    if (m) {
        *m = (match){.file = file, .store = store, .trainable_only = true};
        weights_report report;
        s = load(&report, m, PARAM_MOMENTUM, NULL, NULL, WEIGHTS_EXACT);
    }
    free(m);
    safetensors_close(file);
    return s;
}

/* Declares and appends the records of a buffer of the store. */
static status write_values(safetensors_writer *writer, const char *path, const param_store *store,
                           param_buffer which) {
    bool trainable_only = which == PARAM_MOMENTUM;
    int64_t largest = 0, shape[PARAM_MAX_RANK];
    for (int i = 0; i < store->count; i++) {
        const param *p = &store->params[i];
        if (trainable_only && !p->trainable) continue;
        int rank = param_file_shape(p, shape);
        safetensors_writer_declare(writer, p->name, SAFETENSORS_F32, rank, shape);
        if (p->size > largest) largest = p->size;
    }
    RETURN_IF_ERROR(safetensors_writer_begin(writer));
    staging staged;
    status s = staging_init(&staged, store, largest, path);
    for (int i = 0; i < store->count && s == STATUS_OK; i++) {
        const param *p = &store->params[i];
        if (trainable_only && !p->trainable) continue;
        const float *values = param_store_read(store, which, p, staged.memory_order);
        param_to_file_order(p, staged.file_order, values);
        s = safetensors_writer_append(writer, staged.file_order, (size_t)p->size * sizeof *values);
    }
    staging_release(&staged);
    return s;
}

status weights_save(const char *path, const param_store *store, const config *cfg,
                    const weights_classes *classes, int64_t iteration) {
    safetensors_writer *writer;
    RETURN_IF_ERROR(safetensors_writer_new(&writer, path));
    weights_write_claims(writer, cfg, classes, iteration);
    return safetensors_writer_finish(writer, write_values(writer, path, store, PARAM_VALUES));
}

status weights_save_momentum(const char *path, const param_store *store, int64_t iteration) {
    CHECK(store->momentum, "no momentum to save");
    safetensors_writer *writer;
    RETURN_IF_ERROR(safetensors_writer_new(&writer, path));
    char number[32];
    snprintf(number, sizeof number, "%lld", (long long)iteration);
    safetensors_writer_metadata(writer, "holds", "momentum");
    safetensors_writer_metadata(writer, "iteration", number);
    return safetensors_writer_finish(writer, write_values(writer, path, store, PARAM_MOMENTUM));
}
