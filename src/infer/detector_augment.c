/* Test-time augmentation as detectron2's GeneralizedRCNNWithTTA: boxes of all views merged, masks averaged. */
#include "infer/detector_internal.h"

#include "base/clock.h"
#include "nms/nms.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_VIEWS = 2 * DETECTOR_MAX_SIZES };

static const float LOWEST_SCORE = 1e-8f; /* of a merged detection */

typedef struct detector_augment {
    int views, capacity; /* capacity: boxes of all views together */
    host_detections all; /* boxes of all views in original pixels */
    int32_t *keep;       /* [capacity] host: places in `all` */
    float *sum, *one;    /* [D,S,S] host: masks summed over the views; of one view */
    /* On the device: boxes of all views, what NMS keeps of them, what is pasted. */
    float *boxes, *scores;
    int32_t *groups, *count;
    float *probs, *merged_boxes;
    tape *merge;
    tensor *kept;
    void *arena;
    size_t arena_bytes;
    device *dev;
    size_t masks_bytes; /* of [D,S,S]; 0 without masks */
    int detections;     /* D */
} detector_augment;

typedef struct piece {
    void **memory;
    size_t bytes;
} piece;

enum { PIECES = 6 };

static void list_pieces(piece pieces[PIECES], detector_augment *a) {
    size_t n = (size_t)a->capacity;
    piece list[PIECES] = {{(void **)&a->boxes, n * 4 * sizeof(float)},
                          {(void **)&a->scores, n * sizeof(float)},
                          {(void **)&a->groups, n * sizeof(int32_t)},
                          {(void **)&a->count, sizeof(int32_t)},
                          {(void **)&a->probs, a->masks_bytes},
                          {(void **)&a->merged_boxes, (size_t)a->detections * 4 * sizeof(float)}};
    memcpy(pieces, list, sizeof list);
}

static void record_merge(detector_augment *a, double threshold) {
    int64_t n = a->capacity;
    tape *t = a->merge = tape_new(a->dev, NULL);
    tape_scope(t, "augment.merge");
    tensor *boxes = tape_constant(t, "boxes", DTYPE_F32, 2, (int64_t[]){n, 4}, a->boxes);
    tensor *scores = tape_constant(t, "scores", DTYPE_F32, 1, &n, a->scores);
    tensor *groups = tape_constant(t, "groups", DTYPE_I32, 1, &n, a->groups);
    tensor *count = tape_constant(t, "count", DTYPE_I32, 1, (int64_t[]){1}, a->count);
    boxes->rows = scores->rows = groups->rows = count;
    a->kept = nms(t, boxes, scores, groups, &(nms_params){.iou_threshold = threshold});
    tape_keep(t, a->kept);
    a->arena_bytes = tape_plan(t);
}

static status allocate(detector_augment *a, double threshold) {
    piece pieces[PIECES];
    list_pieces(pieces, a);
    for (int i = 0; i < PIECES; i++) {
        void *memory = NULL;
        RETURN_IF_ERROR(device_alloc(a->dev, &memory, pieces[i].bytes, "boxes of augmented images"));
        *pieces[i].memory = memory;
    }
    RETURN_IF_ERROR(host_detections_init(&a->all, a->capacity));
    a->keep = calloc((size_t)a->capacity, sizeof *a->keep);
    a->sum = malloc(a->masks_bytes + 1);
    a->one = malloc(a->masks_bytes + 1);
    if (!a->keep || !a->sum || !a->one)
        return error_set(STATUS_OS, "choose a smaller TEST.DETECTIONS_PER_IMAGE",
                         "no memory for %d boxes of augmented images", a->capacity);
    record_merge(a, threshold);
    status s = device_alloc(a->dev, &a->arena, a->arena_bytes, "merging of boxes");
    if (s == STATUS_OK) tape_attach(a->merge, a->arena, a->arena_bytes);
    return s;
}

status detector_augment_new(detector_augment **out, detector *d) {
    const detector_spec *spec = &d->spec;
    detector_augment *a = *out = calloc(1, sizeof *a);
    if (!a) return error_set(STATUS_OS, "free some memory", "out of memory for a detector");
    a->dev = d->dev;
    a->views = spec->augment_size_count * (spec->augment_flip ? 2 : 1);
    a->detections = spec->max_detections;
    if (d->masks)
        a->masks_bytes = (size_t)a->detections * (size_t)d->mask_side * (size_t)d->mask_side * sizeof(float);
    if ((int64_t)a->views * a->detections > INT32_MAX)
        return error_set(STATUS_CONFIG, "choose a smaller TEST.DETECTIONS_PER_IMAGE or fewer sizes",
                         "TEST.AUG.MIN_SIZES: %d views of %d detections are too many", a->views,
                         a->detections);
    a->capacity = a->views * a->detections;
    return allocate(a, spec->nms_threshold);
}

void detector_augment_free(detector_augment *a) {
    if (!a) return;
    piece pieces[PIECES];
    list_pieces(pieces, a);
    for (int i = 0; i < PIECES; i++) device_free(a->dev, *pieces[i].memory, pieces[i].bytes);
    tape_free(a->merge);
    device_free(a->dev, a->arena, a->arena_bytes);
    host_detections_release(&a->all);
    free(a->keep);
    free(a->sum);
    free(a->one);
    free(a);
}

size_t detector_augment_memory(const detector_augment *a) {
    size_t bytes = a->arena_bytes;
    piece pieces[PIECES];
    list_pieces(pieces, (detector_augment *)a);
    for (int i = 0; i < PIECES; i++) bytes += pieces[i].bytes;
    return bytes;
}

/* Each size as it is and, where wanted, mirrored. */
static void list_views(detector_view views[MAX_VIEWS], const detector *d, int height, int width) {
    const detector_spec *spec = &d->spec;
    for (int i = 0, n = 0; i < spec->augment_size_count; i++) {
        detector_view view = {.original_height = height, .original_width = width};
        resize_rule_apply(&view.height, &view.width, spec->rule, height, width, spec->augment_sizes[i],
                          spec->augment_max_size);
        views[n++] = view;
        view.flip = true;
        if (spec->augment_flip) views[n++] = view;
    }
}

static float clip(float x, int side) {
    return fminf(fmaxf(x, 0), (float)side);
}

/* Boxes of a view, in its pixels, to pixels of the original image, behind those there are. */
static void append_boxes(host_detections *all, const host_detections *found, const detector_view *view) {
    float sx = (float)((double)view->original_width / view->width);
    float sy = (float)((double)view->original_height / view->height), right = (float)view->width;
    for (int i = 0; i < found->count; i++) {
        const float *r = found->rois + 5 * i + 1;
        float x1 = view->flip ? right - r[2] : r[0], x2 = view->flip ? right - r[0] : r[2];
        if (!(found->scores[i] > LOWEST_SCORE)) continue;
        float *box = all->boxes + 4 * all->count;
        box[0] = clip(x1 * sx, view->original_width);
        box[1] = clip(r[1] * sy, view->original_height);
        box[2] = clip(x2 * sx, view->original_width);
        box[3] = clip(r[3] * sy, view->original_height);
        all->scores[all->count] = found->scores[i];
        all->labels[all->count] = found->labels[i];
        all->count++;
    }
}

static status find_boxes(detector *d, const detector_view *views) {
    detector_augment *a = d->augment;
    a->all.count = 0;
    for (int v = 0; v < a->views; v++) {
        infer_graph *pass;
        RETURN_IF_ERROR(detector_run_view(&pass, d, &views[v], INFER_BOXES));
        detector_fetch(d, pass);
        detector_wait(d, pass);
        detector_read(&d->found, d);
        append_boxes(&a->all, &d->found, &views[v]);
    }
    return STATUS_OK;
}

/* The best of all views' boxes to d->found; those without area are dropped. */
static void merge_boxes(detector *d) {
    detector_augment *a = d->augment;
    const host_detections *all = &a->all;
    size_t n = (size_t)all->count;
    int32_t count = all->count, kept;
    device_copy(d->dev, NULL, a->boxes, all->boxes, n * 4 * sizeof(float));
    device_copy(d->dev, NULL, a->scores, all->scores, n * sizeof(float));
    device_copy(d->dev, NULL, a->groups, all->labels, n * sizeof(int32_t));
    device_copy(d->dev, NULL, a->count, &count, sizeof count);
    tape_forward(a->merge);
    device_synchronize(d->dev, NULL);
    device_copy(d->dev, NULL, &kept, a->kept->rows->data, sizeof kept);
    device_copy(d->dev, NULL, a->keep, a->kept->data, (size_t)kept * sizeof *a->keep);
    host_detections *out = &d->found;
    out->count = 0;
    for (int i = 0; i < kept && i < a->detections; i++) {
        const float *box = all->boxes + 4 * a->keep[i];
        if (!(box[2] > box[0] && box[3] > box[1])) continue;
        memcpy(out->boxes + 4 * out->count, box, 4 * sizeof *box);
        out->scores[out->count] = all->scores[a->keep[i]];
        out->labels[out->count] = all->labels[a->keep[i]];
        out->count++;
    }
}

/* The merged boxes in the pixels of a view, as the mask pooler takes them. */
static void give_boxes(detector *d, const detector_view *view) {
    host_detections *found = &d->found;
    float sx = (float)((double)view->width / view->original_width);
    float sy = (float)((double)view->height / view->original_height), right = (float)view->width;
    for (int i = 0; i < found->count; i++) {
        const float *box = found->boxes + 4 * i;
        float *roi = found->rois + 5 * i, x1 = box[0] * sx, x2 = box[2] * sx;
        roi[0] = 0;
        roi[1] = view->flip ? right - x2 : x1;
        roi[2] = box[1] * sy;
        roi[3] = view->flip ? right - x1 : x2;
        roi[4] = box[3] * sy;
    }
    int32_t count = found->count;
    size_t n = (size_t)count;
    device_copy(d->dev, NULL, d->inputs.rois, found->rois, n * 5 * sizeof(float));
    device_copy(d->dev, NULL, d->inputs.labels, found->labels, n * sizeof(int32_t));
    device_copy(d->dev, NULL, d->inputs.count, &count, sizeof count);
}

static void add_masks(detector_augment *a, int64_t masks, int side, bool flip) {
    for (int64_t row = 0; row < masks * side; row++)
        for (int x = 0; x < side; x++)
            a->sum[row * side + x] += a->one[row * side + (flip ? side - 1 - x : x)];
}

/* Each mask is the mean of what all views say of its box. */
static status average_masks(detector *d, const detector_view *views) {
    detector_augment *a = d->augment;
    int64_t values = (int64_t)d->found.count * d->mask_side * d->mask_side;
    size_t bytes = (size_t)values * sizeof(float);
    memset(a->sum, 0, bytes);
    for (int v = 0; v < a->views; v++) {
        infer_graph *pass;
        give_boxes(d, &views[v]);
        RETURN_IF_ERROR(detector_run_view(&pass, d, &views[v], INFER_MASKS));
        device_copy(d->dev, NULL, a->one, pass->probs->data, bytes);
        detector_wait(d, pass);
        add_masks(a, d->found.count, d->mask_side, views[v].flip);
    }
    for (int64_t i = 0; i < values; i++) a->sum[i] /= (float)a->views;
    device_copy(d->dev, NULL, a->probs, a->sum, bytes);
    device_copy(d->dev, NULL, a->merged_boxes, d->found.boxes, (size_t)d->found.count * 4 * sizeof(float));
    return STATUS_OK;
}

status detector_run_augmented(detector *d, detection_list *out, int height, int width) {
    detector_augment *a = d->augment;
    detector_view views[MAX_VIEWS];
    bool paste = d->masks && !d->spec.raw_masks;
    if (paste) RETURN_IF_ERROR(detector_reserve_paster(d, width));
    list_views(views, d, height, width);
    RETURN_IF_ERROR(find_boxes(d, views));
    double start = clock_seconds();
    merge_boxes(d);
    d->stage_ms[DETECTOR_BOX] += 1e3 * (clock_seconds() - start);
    if (d->masks && d->found.count > 0) RETURN_IF_ERROR(average_masks(d, views));
    mask_paster_input pasted = {.probs = a->probs,
                                .boxes = a->merged_boxes,
                                .rois = d->inputs.rois,
                                .count = d->inputs.count,
                                .info = d->inputs.info};
    start = clock_seconds();
    if (paste && d->found.count > 0) mask_paster_run(&d->paster, &pasted, 0, d->found.count);
    device_synchronize(d->dev, NULL);
    status s = detector_fill(out, d, &d->found, &pasted, height, width);
    d->stage_ms[DETECTOR_MASK_POST] += 1e3 * (clock_seconds() - start);
    return s;
}
