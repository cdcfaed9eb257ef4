#include "eval/coco_eval.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>
#include "base/thread_pool.h"
#include "eval/eval_match.h"

enum { RECALLS = 101, LIMITS = 3 };
static const uint32_t limits[LIMITS] = {1, 10, EVAL_MAX_DETECTIONS};

/* Averages of one category; an area range without ground truth has neither. */
typedef struct class_result {
    bool present[EVAL_AREAS];
    double precision[EVAL_AREAS][EVAL_THRESHOLDS]; /* mean over the recalls, with the highest limit */
    double recall[EVAL_AREAS][LIMITS][EVAL_THRESHOLDS];
} class_result;

typedef struct scoring {
    const eval_set *set;
    const eval_matches *matches;
    size_t *first_pair; /* [categories + 1] */
    class_result *results;
    bool *failed;
} scoring;

/* A detection of a category, over all images. */
typedef struct scored {
    double score;
    size_t at; /* in set->detections: their order is that of the images, and decides ties */
} scored;

static int by_score(const void *a, const void *b) {
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* Precision made to fall with recall, read where recall first reaches 0, 0.01, .. 1. precision, recall: scratch [n]. */
static double mean_precision(const scoring *s, const scored *order, size_t n, int bit, uint32_t objects,
                             double *precision, double *recall) {
    double hits = 0, misses = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        const eval_verdict *v = &s->matches->verdicts[order[i].at];
        bool ignored = v->ignored >> bit & 1, matched = v->matched >> bit & 1;
        hits += matched && !ignored;
        misses += !matched && !ignored;
        recall[i] = hits / objects;
        precision[i] = hits / (misses + hits + DBL_EPSILON);
    }
    for (size_t i = n; i-- > 1;)
        if (precision[i] > precision[i - 1]) precision[i - 1] = precision[i];
    for (size_t r = 0, i = 0; r < RECALLS; r++) {
        while (i < n && recall[i] < (double)r * 0.01) i++;
        if (i == n) break;
        sum += precision[i];
    }
    return sum / RECALLS;
}

static double last_recall(const scoring *s, const scored *order, size_t n, int bit, uint32_t objects,
                          uint32_t limit) {
    uint64_t hits = 0;
    for (size_t i = 0; i < n; i++) {
        const eval_verdict *v = &s->matches->verdicts[order[i].at];
        hits += v->rank < limit && (v->matched & ~v->ignored) >> bit & 1;
    }
    return (double)hits / objects;
}

static void score_class(scoring *s, int64_t category, scored *order, size_t n, double *scratch) {
    class_result *out = &s->results[category];
    qsort(order, n, sizeof *order, by_score);
    for (int area = 0; area < EVAL_AREAS; area++) {
        uint32_t objects = 0;
        for (size_t p = s->first_pair[category]; p < s->first_pair[category + 1]; p++)
            objects += s->matches->objects[p][area];
        out->present[area] = objects > 0;
        for (int t = 0; t < EVAL_THRESHOLDS && objects > 0; t++) {
            int bit = area * EVAL_THRESHOLDS + t;
            out->precision[area][t] = mean_precision(s, order, n, bit, objects, scratch, scratch + n);
            for (int k = 0; k < LIMITS; k++)
                out->recall[area][k][t] = last_recall(s, order, n, bit, objects, limits[k]);
        }
    }
}

static void score_tile(void *context, int64_t category, int thread) {
    scoring *s = context;
    (void)thread;
    size_t n = 0;
    for (size_t p = s->first_pair[category]; p < s->first_pair[category + 1]; p++)
        n += s->set->pairs[p].detections;
    scored *order = malloc((n + 1) * sizeof *order);
    double *scratch = malloc((2 * n + 1) * sizeof *scratch);
    s->failed[category] = !order || !scratch;
    if (order && scratch) {
        size_t used = 0;
        for (size_t p = s->first_pair[category]; p < s->first_pair[category + 1]; p++)
            for (uint32_t d = 0; d < s->set->pairs[p].detections; d++) {
                size_t at = s->set->pairs[p].first_detection + d;
                order[used++] = (scored){s->set->detections[at].score, at};
            }
        score_class(s, category, order, n, scratch);
    }
    free(order);
    free(scratch);
}

/* Mean over the categories that have ground truth in the area range, and the thresholds first..last. */
static double mean_of(const scoring *s, int area, int limit, int first, int last) {
    double sum = 0;
    size_t n = 0;
    for (size_t k = 0; k < s->set->category_count; k++)
        for (int t = first; t <= last && s->results[k].present[area]; t++, n++)
            sum += limit < 0 ? s->results[k].precision[area][t] : s->results[k].recall[area][limit][t];
    return n ? sum / (double)n : -1;
}

static status summarize(coco_scores *out, const scoring *s) {
    const eval_set *set = s->set;
    const int last = EVAL_THRESHOLDS - 1;
    *out = (coco_scores){
        .images = set->image_count, .objects = set->truth_count, .detections = set->results.annotation_count};
    out->numbers[COCO_AP] = mean_of(s, 0, -1, 0, last);
    out->numbers[COCO_AP50] = mean_of(s, 0, -1, 0, 0);
    out->numbers[COCO_AP75] = mean_of(s, 0, -1, 5, 5);
    for (int k = 0; k < LIMITS; k++) {
        out->numbers[COCO_AP_SMALL + k] = mean_of(s, k + 1, -1, 0, last);
        out->numbers[COCO_AR1 + k] = mean_of(s, 0, k, 0, last);
        out->numbers[COCO_AR_SMALL + k] = mean_of(s, k + 1, LIMITS - 1, 0, last);
    }
    out->classes = calloc(set->category_count + 1, sizeof *out->classes);
    bool good = out->classes != NULL;
    for (size_t k = 0; k < set->category_count && good; k++) {
        coco_class_score *class = &out->classes[out->class_count++];
        double sum = 0;
        for (int t = 0; t < EVAL_THRESHOLDS; t++) sum += s->results[k].precision[0][t];
        class->id = set->categories[k].id;
        class->name = strdup(set->truth.strings + set->truth.categories[set->categories[k].raw].name);
        class->ap = s->results[k].present[0] ? sum / EVAL_THRESHOLDS : -1;
        good = class->name != NULL;
    }
    if (good) return STATUS_OK;
    coco_scores_release(out);
    return error_set(STATUS_OS, "free memory", "no memory for the scores");
}

static status score_set(coco_scores *out, const eval_set *set, const eval_matches *matches) {
    size_t n = set->category_count;
    scoring s = {.set = set,
                 .matches = matches,
                 .first_pair = malloc((n + 1) * sizeof *s.first_pair),
                 .results = calloc(n + 1, sizeof *s.results),
                 .failed = calloc(n + 1, sizeof *s.failed)};
    bool good = s.first_pair && s.results && s.failed;
    if (good) {
        for (size_t k = 0, p = 0; k <= n; k++) {
            while (p < set->pair_count && set->pairs[p].category < k) p++;
            s.first_pair[k] = p;
        }
        parallel_for((int64_t)n, score_tile, &s);
        for (size_t k = 0; k < n; k++) good = good && !s.failed[k];
    }
    status result = good
                        ? summarize(out, &s)
                        : error_set(STATUS_OS, "free memory", "%s: no memory to score it", set->results_path);
    free(s.first_pair);
    free(s.results);
    free(s.failed);
    return result;
}

status coco_eval_files(coco_scores *out, const char *annotations, const char *results, coco_iou_type type) {
    eval_set set;
    eval_matches matches = {0};
    status s = eval_set_open(&set, annotations, results, type);
    if (s == STATUS_OK) s = eval_match(&matches, &set);
    if (s == STATUS_OK) s = score_set(out, &set, &matches);
    eval_matches_release(&matches);
    eval_set_release(&set);
    return s;
}

void coco_scores_release(coco_scores *scores) {
    for (size_t k = 0; k < scores->class_count; k++) free(scores->classes[k].name);
    free(scores->classes);
    *scores = (coco_scores){0};
}
