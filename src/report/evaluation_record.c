#include "report/evaluation_record.h"

#include "data/json_pairs.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char *const task_names[EVALUATION_TASKS] = {"bbox", "segm", "box_proposals"};

static status no_memory(void) {
    return error_set(STATUS_OS, "free some memory", "no memory for the evaluations of a run");
}

static evaluation_score *find_score(evaluation *e, const char *name) {
    for (int i = 0; i < e->score_count; i++)
        if (strcmp(e->scores[i].name, name) == 0) return &e->scores[i];
    size_t size = strlen(name);
    if (e->score_count == EVALUATION_MAX_SCORES || size >= EVALUATION_SCORE_NAME) return NULL;
    evaluation_score *score = &e->scores[e->score_count++];
    *score = (evaluation_score){.values = {NAN, NAN, NAN}};
    memcpy(score->name, name, size + 1);
    return score;
}

/* "bbox/AP" */
static void read_score(evaluation *e, const json_pair *pair) {
    for (int task = 0; task < EVALUATION_TASKS; task++) {
        size_t size = strlen(task_names[task]);
        double value;
        if (strncmp(pair->path, task_names[task], size) != 0 || pair->path[size] != '/') continue;
        const char *name = pair->path + size + 1;
        if (strchr(name, '/') || !json_pair_f64(&value, pair)) return;
        evaluation_score *score = find_score(e, name);
        if (score) score->values[task] = value;
    }
}

static status add_class(evaluation *e) {
    if (e->class_count == e->class_capacity) {
        int capacity = e->class_capacity ? 2 * e->class_capacity : 16;
        evaluation_class *classes = realloc(e->classes, (size_t)capacity * sizeof *classes);
        if (!classes) return no_memory();
        e->classes = classes;
        e->class_capacity = capacity;
    }
    e->classes[e->class_count++] = (evaluation_class){.id = -1, .ap = {NAN, NAN, NAN}};
    return STATUS_OK;
}

/* "classes/12/name"; elements of a list come in order. */
static status read_class(evaluation *e, const json_pair *pair) {
    static const char list[] = "classes/";
    if (strncmp(pair->path, list, sizeof list - 1) != 0) return STATUS_OK;
    char *end;
    errno = 0;
    long long index = strtoll(pair->path + sizeof list - 1, &end, 10);
    if (errno || end == pair->path + sizeof list - 1 || *end != '/') return STATUS_OK;
    if (index == e->class_count) RETURN_IF_ERROR(add_class(e));
    if (index < 0 || index != e->class_count - 1) return STATUS_OK;
    evaluation_class *class = &e->classes[index];
    const char *key = end + 1;
    double value;
    int64_t id;
    if (strcmp(key, "name") == 0) {
        free(class->name);
        if (!(class->name = strdup(pair->value))) return no_memory();
    } else if (strcmp(key, "id") == 0 && json_pair_i64(&id, pair))
        class->id = id;
    else
        for (int task = 0; task < EVALUATION_TASKS; task++)
            if (strcmp(key, task_names[task]) == 0 && json_pair_f64(&value, pair)) class->ap[task] = value;
    return STATUS_OK;
}

static void evaluation_release(evaluation *e) {
    for (int i = 0; i < e->class_count; i++) free(e->classes[i].name);
    free(e->classes);
    free(e->dataset);
}

static status read_pairs(evaluation *e, const json_pairs *pairs) {
    const char *dataset = json_pairs_get(pairs, "dataset");
    if (!(e->dataset = strdup(dataset ? dataset : ""))) return no_memory();
    if (!json_pairs_i64(&e->images, pairs, "images") || e->images < 0) e->images = -1;
    if (!json_pairs_f64(&e->seconds, pairs, "seconds")) e->seconds = NAN;
    if (!json_pairs_f64(&e->validation_loss, pairs, "validation_loss")) e->validation_loss = NAN;
    for (int i = 0; i < pairs->count; i++) {
        read_score(e, &pairs->items[i]);
        RETURN_IF_ERROR(read_class(e, &pairs->items[i]));
    }
    return STATUS_OK;
}

static status add_line(void *context, const json_pairs *pairs) {
    evaluation_record *record = context;
    evaluation e = {0};
    if (!json_pairs_i64(&e.iteration, pairs, "iteration") || e.iteration < -1 ||
        e.iteration > (int64_t)1e15) {
        record->unread_lines++;
        return STATUS_OK;
    }
    if (record->count == record->capacity) {
        int capacity = record->capacity ? 2 * record->capacity : 16;
        evaluation *items = realloc(record->items, (size_t)capacity * sizeof *items);
        if (!items) return no_memory();
        record->items = items;
        record->capacity = capacity;
    }
    status s = read_pairs(&e, pairs);
    record->items[record->count++] = e;
    return s;
}

status evaluation_record_parse(evaluation_record *out, const char *text, size_t size) {
    int64_t no_json;
    *out = (evaluation_record){0};
    status s = json_pairs_parse_lines(&no_json, add_line, out, text, size);
    out->unread_lines += no_json;
    return s;
}

void evaluation_record_release(evaluation_record *record) {
    for (int i = 0; i < record->count; i++) evaluation_release(&record->items[i]);
    free(record->items);
    *record = (evaluation_record){0};
}

double evaluation_ap(const evaluation *e, evaluation_task task) {
    const char *name = task == TASK_PROPOSALS ? "AR@1000" : "AP";
    for (int i = 0; i < e->score_count; i++)
        if (strcmp(e->scores[i].name, name) == 0)
            return e->scores[i].values[task] >= 0 ? e->scores[i].values[task] : NAN;
    return NAN;
}
