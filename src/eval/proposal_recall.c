#include "eval/proposal_recall.h"

#include <stdlib.h>
#include <string.h>
#include "base/file_util.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "eval/eval_set.h"

enum { THRESHOLDS = 10 };

static const uint32_t limits[RECALL_LIMITS] = {100, 1000};

/* Squares of sides, both ends included. */
static const float area_ranges[RECALL_AREAS][2] = {{0, 1e10f}, {0, 1024}, {1024, 9216}, {9216, 1e10f}};

/* Of one image: objects of an area range, and how many of them are covered to each threshold. */
typedef struct image_recall {
    uint32_t objects[RECALL_AREAS];
    uint32_t covered[RECALL_LIMITS][RECALL_AREAS][THRESHOLDS];
    bool counts, failed;
} image_recall;

typedef struct scoring {
    const eval_set *set;
    image_recall *images; /* [set->pair_count] */
} scoring;

/* An object that takes part: its row of overlaps, and the best proposal that is left. */
typedef struct object {
    const float *overlaps; /* with each proposal */
    float best;
    uint32_t at;
    bool done;
} object;

typedef struct float_box {
    float x1, y1, x2, y2;
} float_box;

/* x, y, width, height; a proposal's right and lower edge are exact in double, an object's are added in single precision. */
static float_box proposal_box(const raw_annotation *a) {
    const double *b = a->box;
    return (float_box){(float)b[0], (float)b[1], (float)(b[0] + b[2]), (float)(b[1] + b[3])};
}

static float_box object_box(const raw_annotation *a) {
    float x = (float)a->box[0], y = (float)a->box[1];
    return (float_box){x, y, x + (float)a->box[2], y + (float)a->box[3]};
}

static float object_area(const raw_annotation *a) {
    return (float)(a->have & RAW_HAS_AREA ? a->area : a->box[2] * a->box[3]);
}

static float overlap(float_box a, float_box b) {
    float w = (a.x2 < b.x2 ? a.x2 : b.x2) - (a.x1 > b.x1 ? a.x1 : b.x1);
    float h = (a.y2 < b.y2 ? a.y2 : b.y2) - (a.y1 > b.y1 ? a.y1 : b.y1);
    float inter = (w > 0 ? w : 0) * (h > 0 ? h : 0);
    if (!(inter > 0)) return 0;
    return inter / ((a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - inter);
}

static void find_best(object *o, const bool *used, uint32_t count) {
    o->best = -1;
    for (uint32_t i = 0; i < count; i++)
        if (!used[i] && o->overlaps[i] > o->best) {
            o->best = o->overlaps[i];
            o->at = i;
        }
}

/* Each round takes the object that is covered best by a proposal that is left. */
static void cover(uint32_t covered[THRESHOLDS], object *objects, uint32_t n, bool *used, uint32_t count) {
    memset(used, 0, count * sizeof *used);
    for (uint32_t k = 0; k < n; k++) {
        objects[k].done = false;
        find_best(&objects[k], used, count);
    }
    for (uint32_t round = 0; round < n && round < count; round++) {
        object *best = NULL;
        for (uint32_t k = 0; k < n; k++)
            if (!objects[k].done && (!best || objects[k].best > best->best)) best = &objects[k];
        best->done = used[best->at] = true;
        for (int t = 0; t < THRESHOLDS; t++) covered[t] += best->best >= (float)(0.5 + 0.05 * t);
        for (uint32_t k = 0; k < n; k++)
            if (!objects[k].done && objects[k].at == best->at) find_best(&objects[k], used, count);
    }
}

/* The pair's objects that are no crowds, in the range. */
static uint32_t list_objects(object *objects, const eval_set *set, const eval_pair *pair, int area,
                             const float *overlaps) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < pair->truths; i++) {
        const raw_annotation *a = &set->truth->annotations[set->truths[pair->first_truth + i].raw];
        float size = object_area(a);
        if (a->crowd || size < area_ranges[area][0] || size > area_ranges[area][1]) continue;
        objects[n++] = (object){.overlaps = overlaps + (size_t)i * pair->detections};
    }
    return n;
}

static void compare_all(float *overlaps, const eval_set *set, const eval_pair *pair) {
    for (uint32_t i = 0; i < pair->truths; i++) {
        float_box a = object_box(&set->truth->annotations[set->truths[pair->first_truth + i].raw]);
        for (uint32_t k = 0; k < pair->detections; k++)
            overlaps[(size_t)i * pair->detections + k] = overlap(
                proposal_box(&set->results->annotations[set->detections[pair->first_detection + k].raw]), a);
    }
}

static void score_image(void *context, int64_t tile, int thread) {
    (void)thread;
    const scoring *s = context;
    const eval_pair *pair = &s->set->pairs[tile];
    image_recall *out = &s->images[tile];
    if (pair->truths == 0 || pair->detections == 0) return;
    float *overlaps = malloc((size_t)pair->truths * pair->detections * sizeof *overlaps);
    object *objects = malloc(pair->truths * sizeof *objects);
    bool *used = malloc(pair->detections * sizeof *used);
    out->failed = !overlaps || !objects || !used;
    if (!out->failed) {
        compare_all(overlaps, s->set, pair);
        for (int area = 0; area < RECALL_AREAS; area++) {
            out->objects[area] = list_objects(objects, s->set, pair, area, overlaps);
            for (int l = 0; l < RECALL_LIMITS; l++)
                cover(out->covered[l][area], objects, out->objects[area], used,
                      pair->detections < limits[l] ? pair->detections : limits[l]);
        }
        out->counts = out->objects[0] > 0;
    }
    free(overlaps);
    free(objects);
    free(used);
}

/* Recall at each threshold and its mean in single precision. */
static double average(const uint64_t covered[THRESHOLDS], uint64_t objects) {
    float sum = 0;
    if (objects == 0) return -1;
    for (int t = 0; t < THRESHOLDS; t++) sum += (float)covered[t] / (float)objects;
    return (double)(sum / THRESHOLDS);
}

static void add_up(proposal_recall *out, const scoring *s) {
    uint64_t covered[RECALL_LIMITS][RECALL_AREAS][THRESHOLDS] = {0};
    for (size_t p = 0; p < s->set->pair_count; p++) {
        const image_recall *image = &s->images[p];
        out->images += image->counts;
        for (int area = 0; area < RECALL_AREAS; area++) {
            out->objects[area] += image->objects[area];
            for (int l = 0; l < RECALL_LIMITS; l++)
                for (int t = 0; t < THRESHOLDS; t++) covered[l][area][t] += image->covered[l][area][t];
        }
    }
    out->proposals = s->set->detection_count;
    for (int l = 0; l < RECALL_LIMITS; l++)
        for (int area = 0; area < RECALL_AREAS; area++)
            out->ar[l][area] = average(covered[l][area], out->objects[area]);
}

static status score_set(proposal_recall *out, eval_set *set) {
    RETURN_IF_ERROR(eval_set_resolve(set));
    scoring s = {.set = set, .images = calloc(set->pair_count + 1, sizeof *s.images)};
    bool good = s.images;
    if (good) parallel_for((int64_t)set->pair_count, score_image, &s);
    for (size_t p = 0; good && p < set->pair_count; p++) good = !s.images[p].failed;
    if (good) add_up(out, &s);
    free(s.images);
    if (!good) return error_set(STATUS_OS, "free memory", "%s: no memory to score it", set->results_path);
    if (set->notes.unusable)
        log_warn("evaluation", "%s: %llu annotations are left out of the recall; the first: %s",
                 set->truth_path, (unsigned long long)set->notes.unusable, set->notes.first_unusable);
    return STATUS_OK;
}

status proposal_recall_results(proposal_recall *out, const coco_truth *truth, const char *results,
                               const coco_eval_options *options) {
    *out = (proposal_recall){0};
    coco_eval_options classless = *options;
    classless.classless = true;
    classless.max_detections[COCO_LIMITS - 1] = limits[RECALL_LIMITS - 1];
    raw_coco raw;
    eval_set set = {.truth_path = truth->path,
                    .results_path = results,
                    .truth = &truth->raw,
                    .results = &raw,
                    .options = &classless,
                    .type = COCO_IOU_BBOX};
    status s = eval_parse_file(&raw, results, coco_parse_results_file);
    if (s == STATUS_OK) s = score_set(out, &set);
    eval_set_release(&set);
    raw_coco_release(&raw);
    return s;
}

const char *proposal_recall_name(int number) {
    static const char *const names[RECALL_NUMBERS] = {"AR@100",  "ARs@100",  "ARm@100",  "ARl@100",
                                                      "AR@1000", "ARs@1000", "ARm@1000", "ARl@1000"};
    return names[number];
}

double proposal_recall_number(const proposal_recall *r, int number) {
    return r->ar[number / RECALL_AREAS][number % RECALL_AREAS];
}

void proposal_recall_print(FILE *to, const proposal_recall *r) {
    static const char *const areas[RECALL_AREAS] = {"all", "small", "medium", "large"};
    fprintf(to, "%llu proposals; %llu images with proposals and objects, %llu objects in them\n",
            (unsigned long long)r->proposals, (unsigned long long)r->images,
            (unsigned long long)r->objects[0]);
    for (int l = 0; l < RECALL_LIMITS; l++)
        for (int area = 0; area < RECALL_AREAS; area++) {
            fprintf(to, " Average Recall (AR) of proposals @[ IoU=0.50:0.95 | area=%6s | proposals=%4u ] = ",
                    areas[area], limits[l]);
            if (r->ar[l][area] < 0)
                fputs("n/a: no object\n", to);
            else
                fprintf(to, "%0.3f\n", r->ar[l][area]);
        }
}

void proposal_recall_log(const proposal_recall *r) {
    char names[128] = "", values[256] = "";
    for (int i = 0; i < RECALL_NUMBERS; i++) {
        size_t named = strlen(names), valued = strlen(values);
        double value = proposal_recall_number(r, i);
        const char *comma = i ? "," : "";
        snprintf(names + named, sizeof names - named, "%s%s", comma, proposal_recall_name(i));
        if (value < 0)
            snprintf(values + valued, sizeof values - valued, "%snan", comma);
        else
            snprintf(values + valued, sizeof values - valued, "%s%.4f", comma, 100 * value);
    }
    log_info("evaluation", "copypaste: Task: box_proposals");
    log_info("evaluation", "copypaste: %s", names);
    log_info("evaluation", "copypaste: %s", values);
}

void proposal_recall_json(json_writer *to, const proposal_recall *r) {
    json_write_begin_object(to);
    for (int i = 0; i < RECALL_NUMBERS; i++) {
        json_write_key(to, proposal_recall_name(i));
        json_write_f64(to, proposal_recall_number(r, i));
    }
    json_write_end_object(to);
}

status proposal_recall_write_json(const proposal_recall *r, const char *path) {
    json_writer w;
    json_write_init(&w);
    proposal_recall_json(&w, r);
    json_write_newline(&w);
    status s = json_write_finish(&w);
    if (s == STATUS_OK) s = write_file_atomic(path, w.text, w.size);
    json_write_release(&w);
    return s;
}
