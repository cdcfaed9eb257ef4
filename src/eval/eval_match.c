#include "eval/eval_match.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/thread_pool.h"
#include "data/mask_polygon.h"
#include "data/mask_rle.h"

/* numpy.linspace(.5, .95, 10), digit for digit. */
static const double thresholds[EVAL_THRESHOLDS] = {
    0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.8999999999999999, 0.95};
static const double area_ranges[EVAL_AREAS][2] = {{0, 1e10}, {0, 1024}, {1024, 9216}, {9216, 1e10}};

/* An object ready for comparison. */
typedef struct shape {
    double box[4], area; /* box: x y width height, of a mask its bounds */
    mask_rle mask;       /* COCO_IOU_SEGM only */
    int64_t pixels;      /* of the mask */
    bool owned;          /* the runs are not the file's */
    bool crowd;
    bool never_matches; /* annotation id 0: pycocotools takes the match for none */
} shape;

typedef struct matching {
    const eval_set *set;
    eval_matches *out;
    uint8_t *failed; /* [pairs] */
} matching;

static status draw_polygons(mask_rle *out, const raw_coco *raw, const raw_annotation *a,
                            const raw_image *image) {
    int32_t *points = malloc((a->count + (size_t)1) * sizeof *points);
    double *xy = NULL;
    uint64_t numbers = 0, used = 0;
    for (uint32_t i = 0; i < a->count; i++) numbers += raw->parts[a->part + i];
    if (!points || !(xy = malloc((numbers + 1) * sizeof *xy))) {
        free(points);
        return error_set(STATUS_OS, "free memory", "no memory for a polygon of %llu numbers",
                         (unsigned long long)numbers);
    }
    const double *from = raw->coordinates ? raw->coordinates + a->data : xy;
    for (uint32_t i = 0; i < a->count; i++) { /* a number without a partner at a part's end is left out */
        uint32_t part = raw->parts[a->part + i];
        points[i] = (int32_t)(part / 2);
        if (part) memcpy(xy + used, from, (part & ~1u) * sizeof *xy);
        used += part & ~1u;
        from += part;
    }
    status s = mask_rle_from_polygons(out, xy, points, (int)a->count, (int)image->height, (int)image->width);
    free(points);
    free(xy);
    return s;
}

static status draw_box(mask_rle *out, const double box[4], const raw_image *image) {
    double left = box[0], top = box[1], right = box[0] + box[2], bottom = box[1] + box[3];
    const double xy[] = {left, top, left, bottom, right, bottom, right, top};
    return mask_rle_from_polygon(out, xy, 4, (int)image->height, (int)image->width);
}

static status shape_mask(shape *out, const eval_set *set, const raw_coco *raw, const raw_annotation *a,
                         uint32_t image) {
    const raw_image *where = &set->truth->images[set->images[image].raw];
    if (a->mask_kind == COCO_MASK_RLE) {
        out->mask = (mask_rle){
            .height = a->rle_height, .width = a->rle_width, .counts = raw->runs + a->data, .count = a->count};
    } else {
        out->owned = true;
        bool polygons = a->mask_kind == COCO_MASK_POLYGONS && a->count > 0;
        RETURN_IF_ERROR(polygons ? draw_polygons(&out->mask, raw, a, where)
                                 : draw_box(&out->mask, a->box, where));
    }
    mask_box bounds = mask_rle_bounding_box(&out->mask);
    out->pixels = mask_rle_area(&out->mask);
    out->area = (double)out->pixels;
    const double box[4] = {bounds.x, bounds.y, bounds.width, bounds.height};
    memcpy(out->box, box, sizeof box);
    return STATUS_OK;
}

/* Areas: ground truth's as written, else its shape's; a detection's that of its mask where it has one and masks are
 * compared, else that of its box; a detection without a box is its mask and the bounds of it. */
static status shape_init(shape *out, const eval_set *set, const raw_coco *raw, const eval_ref *ref) {
    const raw_annotation *a = &raw->annotations[ref->raw];
    bool truth = raw == set->truth, box = a->have & RAW_HAS_BOX;
    bool mask = a->mask_kind != COCO_MASK_NONE && a->count > 0;
    *out =
        (shape){.crowd = truth && a->crowd, .never_matches = truth && (a->have & RAW_HAS_ID) && a->id == 0};
    if (set->type == COCO_IOU_SEGM || !box) RETURN_IF_ERROR(shape_mask(out, set, raw, a, ref->image));
    if (set->type == COCO_IOU_BBOX && box) memcpy(out->box, a->box, sizeof out->box);
    if (box && (set->type == COCO_IOU_BBOX || !mask)) out->area = a->box[2] * a->box[3];
    if (truth && (a->have & RAW_HAS_AREA)) out->area = a->area;
    return STATUS_OK;
}

/* pycocotools' bbIou. */
static double box_iou(const shape *d, const shape *g) {
    const double *D = d->box, *G = g->box;
    double w = fmin(D[2] + D[0], G[2] + G[0]) - fmax(D[0], G[0]);
    if (w <= 0) return 0;
    double h = fmin(D[3] + D[1], G[3] + G[1]) - fmax(D[1], G[1]);
    if (h <= 0) return 0;
    double inside = w * h, area = D[2] * D[3];
    return inside / (g->crowd ? area : area + G[2] * G[3] - inside);
}

static int64_t common_pixels(const mask_rle *a, const mask_rle *b) {
    size_t i = 0, k = 0;
    int64_t end_a = 0, end_b = 0, at = 0, sum = 0;
    while (i < a->count && k < b->count) {
        /* Runs i and k; the one that ends first is left. */
        int64_t next_a = end_a + a->counts[i], next_b = end_b + b->counts[k];
        int64_t end = next_a < next_b ? next_a : next_b;
        if (i & k & 1) sum += end - at;
        at = end;
        if (next_a == end) end_a = next_a, i++;
        if (next_b == end) end_b = next_b, k++;
    }
    return sum;
}

/* pycocotools' rleIou: masks of two sizes never match. */
static double mask_iou(const shape *d, const shape *g) {
    if (!(box_iou(d, g) > 0)) return 0;
    if (d->mask.height != g->mask.height || d->mask.width != g->mask.width) return -1;
    int64_t inside = common_pixels(&d->mask, &g->mask);
    if (inside == 0) return 0;
    return (double)inside / (double)(g->crowd ? d->pixels : d->pixels + g->pixels - inside);
}

static bool outside(double area, int range) {
    return area < area_ranges[range][0] || area > area_ranges[range][1];
}

/* One area range and threshold, whose verdicts are `bit`. order: ground truth, the `counted` that count first; taken:
 * scratch. */
static void match_at(eval_verdict *verdicts, const double *ious, const shape *truths, const uint32_t *order,
                     uint8_t *taken, const eval_pair *pair, uint32_t counted, int bit) {
    const uint64_t mask = (uint64_t)1 << bit;
    memset(taken, 0, pair->truths);
    for (uint32_t d = 0; d < pair->detections; d++) {
        double best = thresholds[bit % EVAL_THRESHOLDS];
        uint32_t match = UINT32_MAX;
        for (uint32_t k = 0; k < pair->truths; k++) {
            if (k == counted && match != UINT32_MAX) break; /* an object that counts is preferred */
            const shape *g = &truths[order[k]];
            double iou = ious[(size_t)d * pair->truths + order[k]];
            if ((taken[k] && !g->crowd) || iou < best) continue;
            best = iou;
            match = k;
        }
        if (match == UINT32_MAX) continue;
        taken[match] = 1;
        if (!truths[order[match]].never_matches) verdicts[d].matched |= mask;
        if (match >= counted) verdicts[d].ignored |= mask;
    }
}

static void match_area(eval_verdict *verdicts, uint32_t *counted_out, const double *ious, const shape *shapes,
                       uint32_t *order, const eval_pair *pair, int area) {
    uint32_t counted = 0, n = pair->truths;
    const shape *truths = shapes + pair->detections;
    for (int pass = 0, at = 0; pass < 2; pass++)
        for (uint32_t g = 0; g < n; g++) {
            bool ignored = truths[g].crowd || outside(truths[g].area, area);
            if (ignored != (pass == 1)) continue;
            order[at++] = g;
            counted += pass == 0;
        }
    *counted_out = counted;
    uint64_t unmatched = ((uint64_t)1 << EVAL_THRESHOLDS) - 1;
    for (int t = 0; t < EVAL_THRESHOLDS; t++)
        match_at(verdicts, ious, truths, order, (uint8_t *)(order + n), pair, counted,
                 area * EVAL_THRESHOLDS + t);
    for (uint32_t d = 0; d < pair->detections; d++)
        if (outside(shapes[d].area, area))
            verdicts[d].ignored |= (unmatched << (area * EVAL_THRESHOLDS)) & ~verdicts[d].matched;
}

static status match_shapes(matching *m, int64_t at, shape *shapes, double *ious, uint32_t *order) {
    const eval_set *set = m->set;
    const eval_pair *pair = &set->pairs[at];
    const uint32_t nd = pair->detections, ng = pair->truths;
    eval_verdict *verdicts = m->out->verdicts + pair->first_detection;
    for (uint32_t d = 0; d < nd; d++) {
        RETURN_IF_ERROR(
            shape_init(&shapes[d], set, set->results, &set->detections[pair->first_detection + d]));
        verdicts[d] = (eval_verdict){.rank = d};
    }
    for (uint32_t g = 0; g < ng; g++)
        RETURN_IF_ERROR(shape_init(&shapes[nd + g], set, set->truth, &set->truths[pair->first_truth + g]));
    for (uint32_t d = 0; d < nd; d++)
        for (uint32_t g = 0; g < ng; g++)
            ious[(size_t)d * ng + g] = set->type == COCO_IOU_SEGM ? mask_iou(&shapes[d], &shapes[nd + g])
                                                                  : box_iou(&shapes[d], &shapes[nd + g]);
    for (int area = 0; area < EVAL_AREAS; area++)
        match_area(verdicts, &m->out->objects[at][area], ious, shapes, order, pair, area);
    return STATUS_OK;
}

static status match_pair(matching *m, int64_t at) {
    const eval_pair *pair = &m->set->pairs[at];
    const size_t nd = pair->detections, ng = pair->truths;
    shape *shapes = calloc(nd + ng, sizeof *shapes);
    double *ious = malloc((nd * ng + 1) * sizeof *ious);
    uint32_t *order = malloc((ng + 1) * (sizeof *order + 1)); /* and the bytes that mark the taken ones */
    status s = shapes && ious && order ? match_shapes(m, at, shapes, ious, order)
                                       : error_set(STATUS_OS, "free memory", "no memory to match detections");
    for (size_t i = 0; shapes && i < nd + ng; i++)
        if (shapes[i].owned) mask_rle_release(&shapes[i].mask);
    free(shapes);
    free(ious);
    free(order);
    return s;
}

static void match_tile(void *context, int64_t tile, int thread) {
    matching *m = context;
    (void)thread;
    m->failed[tile] = match_pair(m, tile) != STATUS_OK;
}

status eval_match(eval_matches *out, const eval_set *set) {
    *out = (eval_matches){0};
    matching m = {.set = set, .out = out, .failed = calloc(set->pair_count + 1, 1)};
    out->verdicts = calloc(set->detection_count + 1, sizeof *out->verdicts);
    out->objects = calloc(set->pair_count + 1, sizeof *out->objects);
    if (!m.failed || !out->verdicts || !out->objects) {
        free(m.failed);
        return error_set(STATUS_OS, "free memory", "%s: no memory to score it", set->results_path);
    }
    parallel_for((int64_t)set->pair_count, match_tile, &m);
    status s = STATUS_OK;
    for (size_t i = 0; i < set->pair_count && s == STATUS_OK; i++)
        if (m.failed[i]) /* once more on this thread, for the message is the thread's */
            if ((s = match_pair(&m, (int64_t)i)) != STATUS_OK)
                s = error_prefix(s, "%s, image %lld", set->results_path,
                                 (long long)set->images[set->pairs[i].image].id);
    free(m.failed);
    return s;
}

void eval_matches_release(eval_matches *matches) {
    free(matches->verdicts);
    free(matches->objects);
    *matches = (eval_matches){0};
}
