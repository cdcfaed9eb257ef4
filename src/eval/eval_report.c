#include "base/file_util.h"
#include "base/json_write.h"
#include "base/text.h"
#include "eval/coco_eval.h"

#include <string.h>

static const struct {
    const char *key, *threshold, *area;
    int limit;
} numbers[COCO_NUMBERS] = {
    [COCO_AP] = {"AP", "0.50:0.95", "all", 100},
    [COCO_AP50] = {"AP50", "0.50", "all", 100},
    [COCO_AP75] = {"AP75", "0.75", "all", 100},
    [COCO_AP_SMALL] = {"APs", "0.50:0.95", "small", 100},
    [COCO_AP_MEDIUM] = {"APm", "0.50:0.95", "medium", 100},
    [COCO_AP_LARGE] = {"APl", "0.50:0.95", "large", 100},
    [COCO_AR1] = {"AR1", "0.50:0.95", "all", 1},
    [COCO_AR10] = {"AR10", "0.50:0.95", "all", 10},
    [COCO_AR100] = {"AR100", "0.50:0.95", "all", 100},
    [COCO_AR_SMALL] = {"ARs", "0.50:0.95", "small", 100},
    [COCO_AR_MEDIUM] = {"ARm", "0.50:0.95", "medium", 100},
    [COCO_AR_LARGE] = {"ARl", "0.50:0.95", "large", 100},
};

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
        fprintf(to, " %-18s %s @[ IoU=%-9s | area=%6s | maxDets=%3d ] = %0.3f\n",
                i < COCO_AR1 ? "Average Precision" : "Average Recall", i < COCO_AR1 ? "(AP)" : "(AR)",
                numbers[i].threshold, numbers[i].area, numbers[i].limit, scores->numbers[i]);
    fprintf(to, "\n%20s  %-30s %8s\n", "category id", "name", "AP");
    for (size_t k = 0; k < scores->class_count; k++) {
        const coco_class_score *class = &scores->classes[k];
        fprintf(to, "%20lld  ", (long long)class->id);
        print_name(to, class->name, 30);
        if (class->ap < 0)
            fprintf(to, " %8s\n", "n/a");
        else
            fprintf(to, " %8.3f\n", 100 * class->ap);
    }
}

status coco_scores_write_json(const coco_scores *scores, const char *path) {
    json_writer w;
    json_write_init(&w);
    json_write_begin_object(&w);
    for (int i = 0; i < COCO_NUMBERS; i++) {
        json_write_key(&w, numbers[i].key);
        json_write_f64(&w, scores->numbers[i]);
    }
    json_write_end_object(&w);
    json_write_newline(&w);
    status s = json_write_finish(&w);
    if (s == STATUS_OK) s = write_file_atomic(path, w.text, w.size);
    json_write_release(&w);
    return s;
}
