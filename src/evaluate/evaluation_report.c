#include "evaluate/evaluation_report.h"

#include "base/file_util.h"
#include "base/log.h"
#include "eval/eval_report.h"
#include "record/json_lines.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char proposals_group[] = "box_proposals"; /* detectron2's name */

static int first_loss(const evaluation_set *set) {
    return set->is_proposals ? LOSS_RPN_CLS : 0;
}

/* --- for people ---------------------------------------------------------------------------------------------------- */

static void print_recall(const evaluation_set *set) {
    log_info("evaluation", "Recall of proposals for %s:", set->name);
    proposal_recall_print(stdout, &set->recall);
    proposal_recall_log(&set->recall);
    fflush(stdout);
}

static void print_scores(const evaluation_set *set) {
    const coco_scores *masks = set->has_masks ? &set->scores[COCO_IOU_SEGM] : NULL;
    for (int type = 0; type < COCO_IOU_TYPES; type++) {
        if (type == COCO_IOU_SEGM && !masks) continue;
        log_info("evaluation", "Evaluation results for %s of %s:", coco_iou_type_name(type), set->name);
        coco_scores_print(stdout, &set->scores[type]);
    }
    putchar('\n');
    coco_classes_print(stdout, &set->scores[COCO_IOU_BBOX], masks);
    coco_scores_log(&set->scores[COCO_IOU_BBOX]);
    if (masks) coco_scores_log(masks);
    fflush(stdout);
}

static void print_losses(const evaluation_set *set) {
    char text[LOSS_COUNT * 48] = "";
    for (int i = first_loss(set); i < LOSS_COUNT; i++) {
        size_t at = strlen(text);
        snprintf(text + at, sizeof text - at, "  %s: %.4g", loss_names[i], set->losses[i]);
    }
    log_info("evaluation", "validation_loss of %s: %.4g%s  (%lld images)", set->name, set->validation_loss,
             text, (long long)set->validated_images);
}

void evaluation_print(const evaluation *e) {
    for (int i = 0; i < e->count; i++) {
        const evaluation_set *set = &e->sets[i];
        if (set->is_proposals)
            print_recall(set);
        else
            print_scores(set);
        if (set->validated_images > 0) print_losses(set);
    }
}

/* --- for programs -------------------------------------------------------------------------------------------------- */

static void write_scores(json_writer *w, const evaluation_set *set) {
    if (set->is_proposals) {
        json_write_key(w, proposals_group);
        proposal_recall_json(w, &set->recall);
        return;
    }
    for (int type = 0; type < COCO_IOU_TYPES; type++) {
        if (type == COCO_IOU_SEGM && !set->has_masks) continue;
        json_write_key(w, coco_iou_type_name(type));
        coco_scores_json(w, &set->scores[type]);
    }
}

static void write_losses(json_writer *w, const evaluation_set *set) {
    json_write_key(w, "validation_loss");
    json_write_f64(w, set->validation_loss);
    json_write_key(w, "validation_losses");
    json_write_begin_object(w);
    for (int i = first_loss(set); i < LOSS_COUNT; i++) {
        json_write_key(w, loss_names[i]);
        json_write_f64(w, set->losses[i]);
    }
    json_write_end_object(w);
}

static void write_line(json_writer *w, const evaluation *e, const evaluation_set *set) {
    json_write_begin_object(w);
    json_write_key(w, "iteration");
    json_write_i64(w, e->iteration);
    json_write_key(w, "dataset");
    json_write_string(w, set->name);
    json_write_key(w, "images");
    json_write_i64(w, set->images);
    json_write_key(w, "bad_images");
    json_write_i64(w, set->bad_images);
    json_write_key(w, "seconds");
    json_write_f64(w, set->seconds);
    write_scores(w, set);
    if (!set->is_proposals) {
        json_write_key(w, "classes");
        coco_classes_json(w, &set->scores[COCO_IOU_BBOX],
                          set->has_masks ? &set->scores[COCO_IOU_SEGM] : NULL);
    }
    if (set->validated_images > 0) write_losses(w, set);
    json_write_end_object(w);
    json_write_newline(w);
}

static status append_lines(const char *path, const json_writer *w) {
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) return error_from_output(errno, "create", path);
    status s = json_lines_append(fd, w->text, w->size, path);
    close(fd);
    return s;
}

status evaluation_append(const evaluation *e, const char *output_dir) {
    char path[PATH_MAX];
    json_writer w;
    RETURN_IF_ERROR(path_join(path, output_dir, "evaluations.json"));
    json_write_init(&w);
    for (int i = 0; i < e->count; i++) write_line(&w, e, &e->sets[i]);
    status s = json_write_finish(&w);
    if (s == STATUS_OK && w.size > 0) s = append_lines(path, &w);
    json_write_release(&w);
    return s;
}

status evaluation_cut(const char *output_dir, int64_t start) {
    char path[PATH_MAX];
    RETURN_IF_ERROR(path_join(path, output_dir, "evaluations.json"));
    return json_lines_cut(path, start);
}

status evaluation_write_json(const evaluation *e, const char *path) {
    json_writer w;
    json_write_init(&w);
    json_write_begin_object(&w);
    for (int i = 0; i < e->count; i++) {
        if (e->count > 1) {
            json_write_key(&w, e->sets[i].name);
            json_write_begin_object(&w);
        }
        write_scores(&w, &e->sets[i]);
        if (e->count > 1) json_write_end_object(&w);
    }
    json_write_end_object(&w);
    json_write_newline(&w);
    status s = json_write_finish(&w);
    if (s == STATUS_OK) s = write_file_atomic(path, w.text, w.size);
    json_write_release(&w);
    return s;
}

/* --- single numbers ------------------------------------------------------------------------------------------------ */

/* Those that detectron2 records, and TEST.KEEP_BEST chooses from. */
static const char *const number_names[] = {"AP", "AP50", "AP75", "APs", "APm", "APl"};
enum {
    NUMBERS = COCO_AP_LARGE + 1,
    TAG_SIZE = 192,
    MOST_SCALARS = COCO_IOU_TYPES * NUMBERS + LOSS_COUNT + 1
};

/* Scalars of a set, with room for their tags. */
typedef struct scalar_list {
    event_scalar items[MOST_SCALARS];
    char tags[MOST_SCALARS][TAG_SIZE];
    int count;
    const char *prefix;
} scalar_list;

static void add_scalar(scalar_list *list, const char *group, const char *name, double value) {
    char *tag = list->tags[list->count];
    snprintf(tag, TAG_SIZE, "%.100s%s%s%s%s", list->prefix, *list->prefix ? "/" : "", group,
             *group ? "/" : "", name);
    list->items[list->count++] = (event_scalar){tag, (float)value};
}

/* In percent, as detectron2 has them. */
static void add_numbers(scalar_list *list, const coco_scores *scores) {
    for (int i = 0; i < NUMBERS; i++)
        if (scores->numbers[i] >= 0)
            add_scalar(list, coco_iou_type_name(scores->type), number_names[i], 100 * scores->numbers[i]);
}

static void add_recall(scalar_list *list, const proposal_recall *r) {
    for (int i = 0; i < RECALL_NUMBERS; i++)
        if (proposal_recall_number(r, i) >= 0)
            add_scalar(list, proposals_group, proposal_recall_name(i), 100 * proposal_recall_number(r, i));
}

void evaluation_add_scalars(const evaluation *e, metrics *log) {
    for (int i = 0; i < e->count; i++) {
        const evaluation_set *set = &e->sets[i];
        scalar_list list = {.prefix = e->count > 1 ? set->name : ""};
        if (set->is_proposals)
            add_recall(&list, &set->recall);
        else
            add_numbers(&list, &set->scores[COCO_IOU_BBOX]);
        if (set->has_masks) add_numbers(&list, &set->scores[COCO_IOU_SEGM]);
        if (set->validated_images > 0) {
            add_scalar(&list, "", "validation_loss", set->validation_loss);
            for (int k = first_loss(set); k < LOSS_COUNT; k++)
                add_scalar(&list, "validation", loss_names[k], set->losses[k]);
        }
        metrics_add_scalars(log, e->iteration, list.items, list.count);
    }
}

bool evaluation_number(double *out, const evaluation *e, const char *name) {
    if (e->count == 0) return false;
    const evaluation_set *set = &e->sets[0];
    if (strcmp(name, "validation_loss") == 0) {
        *out = set->validation_loss;
        return set->validated_images > 0;
    }
    const char *slash = strchr(name, '/');
    if (set->is_proposals) {
        *out = set->recall.ar[strcmp(name, "box_proposals/AR@100") != 0][0];
        return *out >= 0;
    }
    bool masks = strncmp(name, "segm/", 5) == 0 && set->has_masks;
    const coco_scores *scores = &set->scores[masks ? COCO_IOU_SEGM : COCO_IOU_BBOX];
    for (int i = 0; slash && i < NUMBERS; i++) {
        if (strcmp(slash + 1, number_names[i]) != 0) continue;
        *out = scores->numbers[i];
        return *out >= 0;
    }
    return false;
}
