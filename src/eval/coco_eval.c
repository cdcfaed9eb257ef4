#include "eval/coco_eval.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "eval/eval_match.h"
#include "eval/eval_report.h"

enum { RECALLS = 101 };

const coco_eval_options coco_eval_defaults = {.max_detections = {1, 10, 100}};

/* Averages of one category; an area range without ground truth has neither. */
typedef struct class_result {
    bool present[EVAL_AREAS];
    double precision[EVAL_AREAS][EVAL_THRESHOLDS]; /* mean over the recalls, with the highest limit */
    double recall[EVAL_AREAS][COCO_LIMITS][EVAL_THRESHOLDS];
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
            for (int k = 0; k < COCO_LIMITS; k++)
                out->recall[area][k][t] =
                    last_recall(s, order, n, bit, objects, s->set->options->max_detections[k]);
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

static status score_classes(coco_scores *out, const scoring *s) {
    const eval_set *set = s->set;
    out->classes = calloc(set->category_count + 1, sizeof *out->classes);
    bool good = out->classes != NULL;
    for (size_t k = 0; k < set->category_count && good; k++) {
        coco_class_score *class = &out->classes[out->class_count++];
        double sum = 0;
        for (int t = 0; t < EVAL_THRESHOLDS; t++) sum += s->results[k].precision[0][t];
        class->id = set->categories[k].id;
        class->name = strdup(set->truth->strings + set->truth->categories[set->categories[k].raw].name);
        class->ap = s->results[k].present[0] ? sum / EVAL_THRESHOLDS : -1;
        good = class->name != NULL;
    }
    for (size_t i = 0; good && i < set->truth_count; i++)
        out->classes[set->truths[i].category].objects += !set->truth->annotations[set->truths[i].raw].crowd;
    for (size_t i = 0; good && i < set->detection_count; i++)
        out->classes[set->detections[i].category].detections++;
    return good ? STATUS_OK : error_set(STATUS_OS, "free memory", "no memory for the scores");
}

static status summarize(coco_scores *out, const scoring *s) {
    const eval_set *set = s->set;
    const int last = EVAL_THRESHOLDS - 1;
    out->type = set->type;
    memcpy(out->max_detections, set->options->max_detections, sizeof out->max_detections);
    for (size_t i = 0; i < set->image_count; i++) out->images += !set->images[i].left_out;
    out->objects = set->truth_count;
    out->detections = set->detection_count;
    out->numbers[COCO_AP] = mean_of(s, 0, -1, 0, last);
    out->numbers[COCO_AP50] = mean_of(s, 0, -1, 0, 0);
    out->numbers[COCO_AP75] = mean_of(s, 0, -1, 5, 5);
    for (int k = 0; k < COCO_LIMITS; k++) {
        out->numbers[COCO_AP_SMALL + k] = mean_of(s, k + 1, -1, 0, last);
        out->numbers[COCO_AR1 + k] = mean_of(s, 0, k, 0, last);
        out->numbers[COCO_AR_SMALL + k] = mean_of(s, k + 1, COCO_LIMITS - 1, 0, last);
    }
    return score_classes(out, s);
}

static status score_matches(coco_scores *out, const eval_set *set, const eval_matches *matches) {
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

/* Objects that no detection can reach, because too few detections count or are given. */
static status warn_of_dense_images(coco_scores *out, const eval_set *set) {
    const uint32_t limit = set->options->max_detections[COCO_LIMITS - 1],
                   given = set->options->detections_per_image;
    uint32_t *objects = calloc(set->image_count + 1, sizeof *objects), most = 0, fullest = 0;
    if (!objects) return error_set(STATUS_OS, "free memory", "%s: no memory to score it", set->results_path);
    const eval_pair *worst = NULL;
    uint32_t worst_count = 0;
    for (size_t p = 0; p < set->pair_count; p++) {
        const eval_pair *pair = &set->pairs[p];
        uint32_t n = 0;
        for (uint32_t i = 0; i < pair->truths; i++)
            n += !set->truth->annotations[set->truths[pair->first_truth + i].raw].crowd;
        objects[pair->image] += n;
        out->dense_pairs += n > limit;
        if (n > limit && n > worst_count) worst = pair, worst_count = n;
    }
    for (uint32_t i = 0; i < set->image_count; i++) {
        out->dense_images += given > 0 && objects[i] > given;
        if (objects[i] > most) most = objects[i], fullest = i;
    }
    if (worst)
        log_warn("evaluation",
                 "%s: in %llu cases an image has more objects of one category than the %u detections that "
                 "count (%u "
                 "in image %lld, category %lld): its recall cannot reach 1; a larger limit is set by "
                 "--max-dets or "
                 "TEST.MAX_DETS",
                 set->truth_path, (unsigned long long)out->dense_pairs, limit, worst_count,
                 (long long)set->images[worst->image].id, (long long)set->categories[worst->category].id);
    if (out->dense_images)
        log_warn(
            "evaluation",
            "%s: %llu images have more objects than TEST.DETECTIONS_PER_IMAGE %u (image %lld has %u): their "
            "recall cannot reach 1",
            set->truth_path, (unsigned long long)out->dense_images, given, (long long)set->images[fullest].id,
            most);
    free(objects);
    return STATUS_OK;
}

static void warn_of_notes(coco_scores *out, const eval_set *set) {
    const eval_notes *notes = &set->notes;
    out->unknown_categories = notes->unknown;
    out->unusable = notes->unusable;
    out->same_ids = notes->same_ids;
    out->zero_ids = notes->zero_ids;
    if (notes->unknown)
        log_warn(
            "evaluation",
            "%s: %llu results do not count, for %s has no category %s (results need the file's category ids, "
            "not indices of classes)",
            set->results_path, (unsigned long long)notes->unknown, set->truth_path, notes->unknown_ids);
    if (notes->unusable)
        log_warn("evaluation", "%s: %llu annotations are left out of the %s scores; the first: %s",
                 set->truth_path, (unsigned long long)notes->unusable, coco_iou_type_name(set->type),
                 notes->first_unusable);
    if (notes->same_ids)
        log_warn("evaluation",
                 "%s: %llu annotations have the id of a later one, which is scored in their place as "
                 "pycocotools does; "
                 "give each an id of its own",
                 set->truth_path, (unsigned long long)notes->same_ids);
    if (notes->zero_ids)
        log_warn(
            "evaluation",
            "%s: %llu annotations have the id 0, which is never matched as in pycocotools; count ids from 1",
            set->truth_path, (unsigned long long)notes->zero_ids);
}

static status score_type(coco_scores *out, eval_set *set) {
    eval_matches matches = {0};
    *out = (coco_scores){0};
    double start = clock_seconds();
    status s = eval_set_resolve(set);
    double grouped = clock_seconds();
    if (s == STATUS_OK) s = eval_match(&matches, set);
    double matched = clock_seconds();
    if (s == STATUS_OK) s = score_matches(out, set, &matches);
    out->seconds.group = grouped - start;
    out->seconds.match = matched - grouped;
    out->seconds.average = clock_seconds() - matched;
    if (s == STATUS_OK) warn_of_notes(out, set);
    if (s == STATUS_OK) s = warn_of_dense_images(out, set);
    eval_matches_release(&matches);
    eval_set_release(set);
    if (s != STATUS_OK) coco_scores_release(out);
    return s;
}

static status score_types(coco_scores *scores, const coco_truth *truth, const raw_coco *results,
                          const char *results_path, const coco_eval_options *options) {
    const uint32_t *limits = options->max_detections;
    CHECK(limits[0] >= 1 && limits[1] > limits[0] && limits[2] > limits[1], "limits of detections %u, %u, %u",
          limits[0], limits[1], limits[2]);
    memset(scores, 0, COCO_IOU_TYPES * sizeof *scores);
    status s = STATUS_OK;
    for (int type = 0; type < COCO_IOU_TYPES && s == STATUS_OK; type++) {
        eval_set set = {.truth_path = truth->path,
                        .results_path = results_path,
                        .truth = &truth->raw,
                        .results = results,
                        .options = options,
                        .type = (coco_iou_type)type};
        if (options->types[type]) s = score_type(&scores[type], &set);
    }
    for (int type = 0; type < COCO_IOU_TYPES && s != STATUS_OK; type++) coco_scores_release(&scores[type]);
    return s;
}

status coco_eval_results(coco_scores scores[COCO_IOU_TYPES], const coco_truth *truth, const char *results,
                         const coco_eval_options *options) {
    raw_coco raw;
    double start = clock_seconds();
    status s = eval_parse_file(&raw, results, coco_parse_results_file);
    double read = clock_seconds() - start;
    if (s == STATUS_OK) s = score_types(scores, truth, &raw, results, options);
    for (int type = 0; type < COCO_IOU_TYPES && s == STATUS_OK; type++) scores[type].seconds.read = read;
    raw_coco_release(&raw);
    return s;
}

status coco_eval_check(const coco_truth *truth, const coco_eval_options *options) {
    coco_scores scores[COCO_IOU_TYPES];
    RETURN_IF_ERROR(score_types(scores, truth, &(raw_coco){0}, truth->path, options));
    for (int type = 0; type < COCO_IOU_TYPES; type++) coco_scores_release(&scores[type]);
    return STATUS_OK;
}

status coco_truth_open(coco_truth **out, const char *annotations) {
    *out = NULL;
    coco_truth *truth = calloc(1, sizeof *truth);
    status s = truth && (truth->path = strdup(annotations))
                   ? eval_parse_file(&truth->raw, annotations, coco_parse_file)
                   : error_set(STATUS_OS, "free memory", "%s: no memory to read it", annotations);
    if (s == STATUS_OK)
        *out = truth;
    else
        coco_truth_free(truth);
    return s;
}

void coco_truth_free(coco_truth *truth) {
    if (!truth) return;
    raw_coco_release(&truth->raw);
    free(truth->path);
    free(truth);
}

void coco_scores_release(coco_scores *scores) {
    for (size_t k = 0; k < scores->class_count; k++) free(scores->classes[k].name);
    free(scores->classes);
    *scores = (coco_scores){0};
}
