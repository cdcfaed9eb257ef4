#include "train/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "device/device.h"
#include "train/weight_names.h"

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
    name_list missing, restarted, ignored;
    int counters; /* num_batches_tracked */
} match;

static bool takes_part(const match *m, int index) {
    return !m->trainable_only || m->store->params[index].trainable;
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
        if (is_same_shape(shape, rank, t->shape, t->rank)) continue;
        bool is_predictor = weight_name_is_predictor(p->name);
        if (use == WEIGHTS_START && is_predictor && t->rank == rank &&
            is_same_shape(shape + 1, rank - 1, t->shape + 1, rank - 1)) {
            add_name(&m->restarted, p->name);
            m->sources[i] = NULL;
            continue;
        }
        char in_file[SAFETENSORS_SHAPE_TEXT], in_model[SAFETENSORS_SHAPE_TEXT];
        return error_set(
            STATUS_DATA,
            is_predictor
                ? "set MODEL.ROI_HEADS.NUM_CLASSES to the file's classes (its first size less the background)"
                : "take weights of this model, or the config that made them",
            "%s: tensor %s has shape %s in the file, but %s in the model", safetensors_path(m->file), t->name,
            safetensors_shape_text(in_file, t->shape, t->rank),
            safetensors_shape_text(in_model, shape, rank));
    }
    return STATUS_OK;
}

static status check_complete(const match *m) {
    if (m->missing.count == 0 && m->ignored.count == 0) return STATUS_OK;
    return error_set(
        STATUS_DATA, "take weights of this model, or the config that made them",
        "%s: does not fit the model: %d tensors are missing (%.700s), %d do not belong to it (%.700s)",
        safetensors_path(m->file), m->missing.count, m->missing.text, m->ignored.count, m->ignored.text);
}

/* Host memory for one record in each order, as large as the largest one asked for. On the CPU a record is
 * used where it lies, so `memory_order` is NULL. */
typedef struct staging {
    float *file_order, *memory_order;
} staging;

static status staging_init(staging *s, const param_store *store, int64_t largest, const char *path) {
    size_t bytes = (size_t)(largest > 0 ? largest : 1) * sizeof(float);
    bool is_host = device_get_kind(store->dev) == DEVICE_CPU;
    *s = (staging){.file_order = malloc(bytes), .memory_order = is_host ? NULL : malloc(bytes)};
    if (s->file_order && (is_host || s->memory_order)) return STATUS_OK;
    return error_set(STATUS_OS, "free some memory", "%s: no memory for a tensor of %zu bytes", path, bytes);
}

static void staging_release(staging *s) {
    free(s->file_order);
    free(s->memory_order);
}

/* Reads all matched tensors into `buffer`, one of the store's. */
static status read_values(const match *m, float *buffer) {
    int64_t largest = 0;
    for (int i = 0; i < m->store->count; i++)
        if (m->sources[i] && m->store->params[i].size > largest) largest = m->store->params[i].size;
    staging staged;
    status s = staging_init(&staged, m->store, largest, safetensors_path(m->file));
    for (int i = 0; i < m->store->count && s == STATUS_OK; i++) {
        const param *p = &m->store->params[i];
        if (!m->sources[i]) continue;
        s = safetensors_read_f32(staged.file_order, m->file, m->sources[i]);
        if (s != STATUS_OK) break;
        float *target = staged.memory_order ? staged.memory_order : buffer + p->offset;
        param_from_file_order(p, target, staged.file_order);
        if (!staged.memory_order) continue;
        device_copy(m->store->dev, NULL, buffer + p->offset, target, (size_t)p->size * sizeof *target);
        device_synchronize(m->store->dev, NULL);
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
    weights_report r = {
        .kept = m->missing.count, .restarted = m->restarted.count, .ignored = m->ignored.count + m->counters};
    for (int i = 0; i < m->store->count; i++) {
        if (!takes_part(m, i)) continue;
        const param *p = &m->store->params[i];
        if (m->sources[i]) {
            r.loaded++;
            r.loaded_values += p->size;
        } else if (!p->trainable) {
            r.kept_frozen++;
        }
    }
    return r;
}

static void log_report(const match *m, const weights_report *r) {
    log_info("weights",
             "%s: %d tensors (%lld values) loaded, %d kept their start value, %d of the file ignored",
             safetensors_path(m->file), r->loaded, (long long)r->loaded_values, r->kept + r->restarted,
             r->ignored);
    if (m->missing.count) log_info("weights", "not in the file, start value kept: %s", m->missing.text);
    if (m->restarted.count)
        log_info("weights", "of another number of classes, start anew: %s", m->restarted.text);
    if (m->ignored.count) log_info("weights", "in the file, not in the model, ignored: %s", m->ignored.text);
    if (m->counters)
        log_info("weights", "in the file, never used, ignored: %d num_batches_tracked", m->counters);
}

static status match_file(match *m, weights_use use) {
    m->sources = calloc((size_t)m->store->count + 1, sizeof *m->sources);
    if (!m->sources)
        return error_set(STATUS_OS, "free some memory", "no memory to load %s", safetensors_path(m->file));
    RETURN_IF_ERROR(match_names(m));
    RETURN_IF_ERROR(check_shapes(m, use));
    if (use != WEIGHTS_START) RETURN_IF_ERROR(check_complete(m));
    return check_dtypes(m);
}

/* Reads `file` into `buffer`. */
static status load(weights_report *report, match *m, float *buffer, weights_use use) {
    status s = match_file(m, use);
    if (s == STATUS_OK) {
        *report = make_report(m);
        if (report->loaded == 0)
            s = error_set(STATUS_DATA,
                          "give weights with torchvision's names: scripts/convert_weights.py renames others",
                          "%s: none of its %lld tensors belongs to the model (the first: %s)",
                          safetensors_path(m->file), (long long)safetensors_count(m->file),
                          safetensors_count(m->file) ? safetensors_at(m->file, 0)->name : "none");
    }
    if (s == STATUS_OK) s = read_values(m, buffer);
    free(m->sources);
    return s;
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
    status s = m ? weights_check_claims(file, cfg, classes, use)
                 : error_set(STATUS_OS, "free some memory", "no memory to load %s", path);
    if (s == STATUS_OK) {
        *m = (match){.file = file, .store = store};
        s = load(report, m, store->values, use);
    }
    if (s == STATUS_OK) log_report(m, report);
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
        s = load(&report, m, store->momentum, WEIGHTS_EXACT);
    }
    free(m);
    safetensors_close(file);
    return s;
}

/* Declares and appends the records of `buffer`. */
static status write_values(safetensors_writer *writer, const char *path, const param_store *store,
                           const float *buffer, bool trainable_only) {
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
        const float *values = buffer + p->offset;
        if (staged.memory_order) {
            device_copy(store->dev, NULL, staged.memory_order, values, (size_t)p->size * sizeof *values);
            device_synchronize(store->dev, NULL);
            values = staged.memory_order;
        }
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
    return safetensors_writer_finish(writer, write_values(writer, path, store, store->values, false));
}

status weights_save_momentum(const char *path, const param_store *store, int64_t iteration) {
    CHECK(store->momentum, "no momentum to save");
    safetensors_writer *writer;
    RETURN_IF_ERROR(safetensors_writer_new(&writer, path));
    char number[32];
    snprintf(number, sizeof number, "%lld", (long long)iteration);
    safetensors_writer_metadata(writer, "holds", "momentum");
    safetensors_writer_metadata(writer, "iteration", number);
    return safetensors_writer_finish(writer, write_values(writer, path, store, store->momentum, true));
}
