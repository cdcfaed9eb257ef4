#include "eval/eval_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "base/file_util.h"
#include "base/log.h"
#include "base/text.h"

/* `limit` is a place in max_detections; AR at a limit is named by it. */
static const struct {
    const char *key, *threshold, *area;
    int limit;
} numbers[COCO_NUMBERS] = {
    [COCO_AP] = {"AP", "0.50:0.95", "all", 2},
    [COCO_AP50] = {"AP50", "0.50", "all", 2},
    [COCO_AP75] = {"AP75", "0.75", "all", 2},
    [COCO_AP_SMALL] = {"APs", "0.50:0.95", "small", 2},
    [COCO_AP_MEDIUM] = {"APm", "0.50:0.95", "medium", 2},
    [COCO_AP_LARGE] = {"APl", "0.50:0.95", "large", 2},
    [COCO_AR1] = {"AR", "0.50:0.95", "all", 0},
    [COCO_AR10] = {"AR", "0.50:0.95", "all", 1},
    [COCO_AR100] = {"AR", "0.50:0.95", "all", 2},
    [COCO_AR_SMALL] = {"ARs", "0.50:0.95", "small", 2},
    [COCO_AR_MEDIUM] = {"ARm", "0.50:0.95", "medium", 2},
    [COCO_AR_LARGE] = {"ARl", "0.50:0.95", "large", 2},
};

const char *coco_iou_type_name(coco_iou_type type) {
    return type == COCO_IOU_SEGM ? "segm" : "bbox";
}

/* A name in a column of `width` characters (not bytes), without control characters. */
static void print_name(FILE *to, const char *name, int width) {
    int used = 0;
    for (size_t at = 0; name[at] && used < width; used++) {
        size_t length = text_utf8_length(name + at, SIZE_MAX);
        bool plain = length > 1 || (length == 1 && (unsigned char)name[at] >= 0x20 && name[at] != 0x7f);
        if (length == 0) length = 1;
        if (plain)
            fwrite(name + at, 1, length, to);
        else
            fputc('?', to);
        at += length;
    }
    fprintf(to, "%*s", width - used, "");
}

void coco_scores_print(FILE *to, const coco_scores *scores) {
    for (int i = 0; i < COCO_NUMBERS; i++)
        fprintf(to, " %-18s %s @[ IoU=%-9s | area=%6s | maxDets=%3u ] = %0.3f\n",
                i < COCO_AR1 ? "Average Precision" : "Average Recall", i < COCO_AR1 ? "(AP)" : "(AR)",
                numbers[i].threshold, numbers[i].area, scores->max_detections[numbers[i].limit],
                scores->numbers[i]);
    static const coco_number by_area[] = {COCO_AP, COCO_AP_SMALL, COCO_AP_MEDIUM, COCO_AP_LARGE};
    for (size_t i = 0; i < sizeof by_area / sizeof *by_area; i++)
        if (scores->numbers[by_area[i]] < 0) {
            const char *area = numbers[by_area[i]].area;
            fprintf(to, " n/a (-1) for area=%6s: there is no ground truth%s\n", area,
                    i == 0 ? " but crowds" : " of that size");
        }
    if (scores->detections == 0)
        fprintf(to, " n/a: there is no detection%s\n",
                scores->unknown_categories ? " of a category that the ground truth has" : "");
}

static void print_ap(FILE *to, double ap) {
    if (ap < 0)
        fprintf(to, " %8s", "n/a");
    else
        fprintf(to, " %8.3f", 100 * ap);
}

/* The scores to take class ids and names from. */
static const coco_scores *either(const coco_scores *boxes, const coco_scores *masks) {
    CHECK(boxes || masks, "no scores at all");
    CHECK(!boxes || !masks || boxes->class_count == masks->class_count, "scores of two datasets");
    return boxes ? boxes : masks;
}

void coco_classes_print(FILE *to, const coco_scores *boxes, const coco_scores *masks) {
    const coco_scores *any = either(boxes, masks);
    fprintf(to, "%20s  %-30s %8s %10s", "category id", "name", "objects", "detections");
    if (boxes) fprintf(to, " %8s", masks ? "box AP" : "AP");
    if (masks) fprintf(to, " %8s", boxes ? "mask AP" : "AP");
    fputc('\n', to);
    for (size_t k = 0; k < any->class_count; k++) {
        const coco_class_score *class = &any->classes[k];
        fprintf(to, "%20lld  ", (long long)class->id);
        print_name(to, class->name, 30);
        fprintf(to, " %8llu %10llu", (unsigned long long)class->objects,
                (unsigned long long)class->detections);
        if (boxes) print_ap(to, boxes->classes[k].ap);
        if (masks) print_ap(to, masks->classes[k].ap);
        fputs(class->objects ? "\n" : "  no ground truth\n", to);
    }
}

void coco_scores_log(const coco_scores *scores) {
    char names[64] = "", values[256] = "";
    bool none = scores->detections == 0;
    for (int i = COCO_AP; i <= COCO_AP_LARGE; i++) {
        size_t named = strlen(names), valued = strlen(values);
        double value = scores->numbers[i];
        snprintf(names + named, sizeof names - named, "%s%s", i ? "," : "", numbers[i].key);
        if (none || value < 0)
            snprintf(values + valued, sizeof values - valued, "%snan", i ? "," : "");
        else
            snprintf(values + valued, sizeof values - valued, "%s%.4f", i ? "," : "", 100 * value);
    }
    log_info("evaluation", "copypaste: Task: %s", coco_iou_type_name(scores->type));
    log_info("evaluation", "copypaste: %s", names);
    log_info("evaluation", "copypaste: %s", values);
    const char *kind = scores->type == COCO_IOU_SEGM ? "mask" : "box";
    if (scores->numbers[COCO_AP] < 0)
        log_info("evaluation", "%s AP: n/a (there is no ground truth but crowds)", kind);
    else if (none)
        log_info("evaluation", "%s AP: n/a (there is no detection)", kind);
    else
        log_info("evaluation", "%s AP: %.2f", kind, 100 * scores->numbers[COCO_AP]);
}

void coco_scores_json(json_writer *to, const coco_scores *scores) {
    json_write_begin_object(to);
    for (int i = 0; i < COCO_NUMBERS; i++) {
        char key[16];
        if (i >= COCO_AR1 && i <= COCO_AR100)
            snprintf(key, sizeof key, "%s%u", numbers[i].key, scores->max_detections[numbers[i].limit]);
        else
            snprintf(key, sizeof key, "%s", numbers[i].key);
        json_write_key(to, key);
        json_write_f64(to, scores->numbers[i]);
    }
    json_write_end_object(to);
}

void coco_classes_json(json_writer *to, const coco_scores *boxes, const coco_scores *masks) {
    const coco_scores *any = either(boxes, masks);
    json_write_begin_array(to);
    for (size_t k = 0; k < any->class_count; k++) {
        json_write_begin_object(to);
        json_write_key(to, "id");
        json_write_i64(to, any->classes[k].id);
        json_write_key(to, "name");
        json_write_string(to, any->classes[k].name);
        for (int type = 0; type < COCO_IOU_TYPES; type++) {
            const coco_scores *scores = type == COCO_IOU_SEGM ? masks : boxes;
            if (!scores) continue;
            json_write_key(to, coco_iou_type_name((coco_iou_type)type));
            json_write_f64(to, scores->classes[k].ap);
        }
        json_write_end_object(to);
    }
    json_write_end_array(to);
}

status coco_scores_write_json(const coco_scores *scores, const char *path) {
    json_writer w;
    json_write_init(&w);
    coco_scores_json(&w, scores);
    json_write_newline(&w);
    status s = json_write_finish(&w);
    if (s == STATUS_OK) s = write_file_atomic(path, w.text, w.size);
    json_write_release(&w);
    return s;
}
