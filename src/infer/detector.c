#include "infer/detector_internal.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/host_memory.h"
#include "base/round_up.h"
#include "image_pack/image_pack.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const detector_stage_names[DETECTOR_STAGES] = {"preprocess", "backbone",     "rpn",
                                                           "box",        "mask forward", "mask post"};

status host_detections_init(host_detections *list, int capacity) {
    size_t n = (size_t)capacity;
    *list = (host_detections){.boxes = calloc(n, 4 * sizeof(float)),
                              .rois = calloc(n, 5 * sizeof(float)),
                              .scores = calloc(n, sizeof(float)),
                              .labels = calloc(n, sizeof(int32_t))};
    if (list->boxes && list->rois && list->scores && list->labels) return STATUS_OK;
    return error_set(STATUS_OS, "choose a smaller TEST.DETECTIONS_PER_IMAGE", "no memory for %d detections",
                     capacity);
}

void host_detections_release(host_detections *list) {
    free(list->boxes);
    free(list->rois);
    free(list->scores);
    free(list->labels);
    *list = (host_detections){0};
}

typedef struct piece {
    void **memory;
    size_t bytes;
} piece;

enum { PIECES = 5 };

/* Inputs of fixed size; the pixels grow with the images. */
static void list_pieces(piece pieces[PIECES], detector *d) {
    size_t n = d->spec.augment ? (size_t)d->spec.max_detections : 1;
    piece all[PIECES] = {{(void **)&d->inputs.pixel_table, IMAGE_PACK_RECORD_INTS * sizeof(int32_t)},
                         {(void **)&d->inputs.info, IMAGE_INFO_INTS * sizeof(int32_t)},
                         {(void **)&d->inputs.rois, n * 5 * sizeof(float)},
                         {(void **)&d->inputs.labels, n * sizeof(int32_t)},
                         {(void **)&d->inputs.count, sizeof(int32_t)}};
    memcpy(pieces, all, sizeof all);
}

static status allocate_inputs(detector *d) {
    piece pieces[PIECES];
    list_pieces(pieces, d);
    for (int i = 0; i < PIECES; i++) {
        void *memory = NULL;
        RETURN_IF_ERROR(device_alloc(d->dev, &memory, pieces[i].bytes, "inputs of the detector"));
        *pieces[i].memory = memory;
    }
    return STATUS_OK;
}

/* Head of d->host; D scores, labels, boxes [4] and rois [5] follow. */
typedef struct detector_stage_memory {
    image_pack_record record;
    image_info info;
    int32_t count;
    float results[];
} detector_stage_memory;

static status allocate_host(detector *d) {
    void *memory;
    d->host_bytes = sizeof *d->host + (size_t)d->spec.max_detections * 11 * sizeof(float);
    RETURN_IF_ERROR(device_alloc_host(d->dev, &memory, d->host_bytes, "results of the detector"));
    d->host = memory;
    return STATUS_OK;
}

static status prepare(detector *d) {
    RETURN_IF_ERROR(infer_graph_check(&d->model->spec, &d->spec));
    RETURN_IF_ERROR(allocate_inputs(d));
    RETURN_IF_ERROR(allocate_host(d));
    RETURN_IF_ERROR(host_detections_init(&d->found, d->spec.max_detections));
    mask_paster_init(&d->paster, d->dev, d->mask_side, d->spec.max_detections, d->spec.paste_rule);
    return d->spec.augment ? detector_augment_new(&d->augment, d) : STATUS_OK;
}

status detector_new(detector **out, mask_rcnn *model, device *dev, const detector_spec *spec) {
    *out = NULL;
    detector *d = calloc(1, sizeof *d);
    if (!d) return error_set(STATUS_OS, "free some memory", "out of memory for a detector");
    d->dev = dev;
    d->model = model;
    d->spec = *spec;
    d->masks = spec->masks && model->spec.mask_on;
    d->mask_side = mask_rcnn_mask_side(&model->spec);
    status s = prepare(d);
    if (s == STATUS_OK)
        *out = d;
    else
        detector_free(d);
    return s;
}

void detector_observe(detector *d, tape_run_hook hook, void *context) {
    d->hook = hook;
    d->hook_context = context;
    if (device_is_host_accessible(d->dev) || d->origin.event) return;
    status got = device_event_new_timed(d->dev, &d->origin.event);
    CHECK(got == STATUS_OK, "%s", error_cause());
}

/* Tells the runs of a tape that the device is done with. */
static void tell_runs(const detector *d, tape *t) {
    if (d->hook && t) tape_take_runs(t, d->hook, d->hook_context);
}

static void observe_tape(const detector *d, tape *t) {
    if (d->hook) tape_measure(t, &d->origin);
}

status detector_reserve_paster(detector *d, int width) {
    RETURN_IF_ERROR(mask_paster_reserve(&d->paster, width));
    observe_tape(d, d->paster.t);
    return STATUS_OK;
}

static void release_arena(detector *d) {
    device_free(d->dev, d->arena, d->arena_bytes);
    d->arena = NULL;
    d->arena_bytes = 0;
}

void detector_free(detector *d) {
    if (!d) return;
    for (int i = 0; i < CANVAS_CACHE_SIZE; i++) infer_graph_free(d->graphs[i]);
    release_arena(d);
    device_free_host(d->dev, d->host_pixels, (size_t)d->inputs.pixel_bytes);
    device_free_host(d->dev, d->host, d->host_bytes);
    device_free(d->dev, d->inputs.pixels, (size_t)d->inputs.pixel_bytes);
    piece pieces[PIECES];
    list_pieces(pieces, d);
    for (int i = 0; i < PIECES; i++) device_free(d->dev, *pieces[i].memory, pieces[i].bytes);
    if (d->origin.event) device_event_free(d->dev, d->origin.event);
    mask_paster_release(&d->paster);
    host_detections_release(&d->found);
    detector_augment_free(d->augment);
    free(d);
}

size_t detector_memory(const detector *d) {
    size_t bytes = d->arena_bytes + (size_t)d->inputs.pixel_bytes + d->paster.arena_bytes;
    piece pieces[PIECES];
    list_pieces(pieces, (detector *)d);
    for (int i = 0; i < PIECES; i++) bytes += pieces[i].bytes;
    return bytes + (d->augment ? detector_augment_memory(d->augment) : 0);
}

const double *detector_stage_ms(const detector *d) {
    return d->stage_ms;
}

static status upload_pixels(detector *d, const uint8_t *pixels, int height, int width) {
    int64_t bytes = (int64_t)height * width * 3;
    if (bytes > d->inputs.pixel_bytes) {
        void *memory = NULL;
        int64_t room = bytes > INT64_C(1) << 24 ? bytes : 2 * bytes;
        void *host = NULL;
        bool is_staged = !device_is_host_accessible(d->dev);
        if (is_staged) RETURN_IF_ERROR(device_alloc_host(d->dev, &host, (size_t)room, "pixels of an image"));
        status s = device_alloc(d->dev, &memory, (size_t)room, "pixels of an image");
        if (s != STATUS_OK) {
            device_free_host(d->dev, host, (size_t)room);
            return s;
        }
        device_free(d->dev, d->inputs.pixels, (size_t)d->inputs.pixel_bytes);
        device_free_host(d->dev, d->host_pixels, (size_t)d->inputs.pixel_bytes);
        d->inputs.pixels = memory;
        d->host_pixels = host;
        d->inputs.pixel_bytes = room;
    }
    if (d->host_pixels) memcpy(d->host_pixels, pixels, (size_t)bytes);
    device_copy(d->dev, NULL, d->inputs.pixels, d->host_pixels ? d->host_pixels : pixels, (size_t)bytes);
    return STATUS_OK;
}

static status reserve_arena(detector *d, size_t bytes, int64_t height, int64_t width) {
    if (d->arena && bytes <= d->arena_bytes) return STATUS_OK;
    size_t total = host_memory_total();
    if (device_get_kind(d->dev) == DEVICE_CPU && bytes > total)
        return error_set(
            STATUS_OS,
            "choose smaller values of INPUT.MIN_SIZE_TEST, INPUT.MAX_SIZE_TEST, "
            "MODEL.RPN.POST_NMS_TOPK_TEST or TEST.DETECTIONS_PER_IMAGE",
            "inference on a canvas of %lld x %lld needs %zu MiB, this host has %zu MiB of memory",
            (long long)height, (long long)width, bytes >> 20, total >> 20);
    void *memory = NULL;
    RETURN_IF_ERROR(device_alloc(d->dev, &memory, bytes, "activations of inference"));
    release_arena(d);
    d->arena = memory;
    d->arena_bytes = bytes;
    for (int i = 0; i < CANVAS_CACHE_SIZE; i++)
        if (d->graphs[i]) tape_attach(d->graphs[i]->t, d->arena, d->arena_bytes);
    return STATUS_OK;
}

static status graph_of(infer_graph **out, detector *d, int64_t height, int64_t width, infer_kind kind) {
    bool is_new;
    int slot = canvas_cache_slot(&d->canvases, height, width, (int)kind, &is_new);
    if (is_new || !d->graphs[slot]) {
        infer_graph_free(d->graphs[slot]);
        d->graphs[slot] = NULL;
        infer_graph *pass = infer_graph_new(d->model, d->dev, &d->spec, kind, &d->inputs, height, width);
        status s = reserve_arena(d, pass->bytes, height, width);
        if (s != STATUS_OK) {
            infer_graph_free(pass);
            return s;
        }
        tape_attach(pass->t, d->arena, d->arena_bytes);
        d->graphs[slot] = pass;
    }
    *out = d->graphs[slot];
    return STATUS_OK;
}

status detector_run_view(infer_graph **out, detector *d, const detector_view *view, infer_kind kind) {
    size_t multiple = d->spec.size_divisibility ? (size_t)d->spec.size_divisibility : CANVAS_DIVISOR;
    int64_t height = (int64_t)round_up((size_t)view->height, multiple);
    int64_t width = (int64_t)round_up((size_t)view->width, multiple);
    RETURN_IF_ERROR(graph_of(out, d, height, width, kind));
    d->host->record = (image_pack_record){.height = view->original_height,
                                          .width = view->original_width,
                                          .resized_height = view->height,
                                          .resized_width = view->width,
                                          .flip = view->flip};
    d->host->info = (image_info){.original_height = view->original_height,
                                 .original_width = view->original_width,
                                 .height = view->height,
                                 .width = view->width,
                                 .flip = view->flip};
    device_copy(d->dev, NULL, d->inputs.pixel_table, &d->host->record, sizeof d->host->record);
    device_copy(d->dev, NULL, d->inputs.info, &d->host->info, sizeof d->host->info);
    observe_tape(d, (*out)->t);
    (*out)->pixels->data = d->inputs.pixels;
    (*out)->pixels->shape[0] = d->inputs.pixel_bytes;
    tape_forward((*out)->t);
    return STATUS_OK;
}

/* Where the host's copies of the results lie. */
static host_detections places(const detector *d) {
    size_t n = (size_t)d->spec.max_detections;
    float *at = d->host->results;
    return (host_detections){
        .scores = at, .labels = (int32_t *)(at + n), .boxes = at + 2 * n, .rois = at + 6 * n};
}

void detector_fetch(detector *d, const infer_graph *pass) {
    host_detections to = places(d);
    size_t n = (size_t)d->spec.max_detections;
    device_copy(d->dev, NULL, &d->host->count, pass->count->data, sizeof d->host->count);
    device_copy(d->dev, NULL, to.boxes, pass->boxes->data, n * 4 * sizeof(float));
    device_copy(d->dev, NULL, to.scores, pass->scores->data, n * sizeof(float));
    if (d->model->spec.rpn_only) return;
    device_copy(d->dev, NULL, to.rois, pass->rois->data, n * 5 * sizeof(float));
    device_copy(d->dev, NULL, to.labels, pass->labels->data, n * sizeof(int32_t));
}

void detector_wait(detector *d, const infer_graph *pass) {
    device_synchronize(d->dev, NULL);
    infer_graph_add_ms(pass, d->stage_ms);
    tell_runs(d, pass->t);
    tell_runs(d, d->paster.t);
}

static float limited(float x, int side) {
    return fminf(fmaxf(x, 0), (float)side);
}

/* Proposals in pixels of the original image; those that are empty there are dropped. */
static void read_proposals(host_detections *out, const host_detections *from, int count,
                           const image_info *info) {
    float x = (float)info->original_width / (float)info->width,
          y = (float)info->original_height / (float)info->height;
    out->count = 0;
    for (int i = 0; i < count; i++) {
        const float *roi = from->boxes + 4 * i;
        float *box = out->boxes + 4 * out->count;
        for (int k = 0; k < 4; k++)
            box[k] = limited(roi[k] * (k % 2 ? y : x), k % 2 ? info->original_height : info->original_width);
        if (!(box[2] > box[0] && box[3] > box[1])) continue;
        out->scores[out->count] = (float)(1 / (1 + exp(-(double)from->scores[i])));
        out->labels[out->count++] = 1;
    }
}

void detector_read(host_detections *out, const detector *d) {
    host_detections from = places(d);
    int32_t count = d->host->count;
    CHECK(count >= 0 && count <= d->spec.max_detections, "%d detections, room is for %d", count,
          d->spec.max_detections);
    if (d->model->spec.rpn_only) {
        read_proposals(out, &from, count, &d->host->info);
        return;
    }
    size_t n = (size_t)count;
    out->count = count;
    memcpy(out->boxes, from.boxes, n * 4 * sizeof(float));
    memcpy(out->rois, from.rois, n * 5 * sizeof(float));
    memcpy(out->scores, from.scores, n * sizeof(float));
    memcpy(out->labels, from.labels, n * sizeof(int32_t));
}

static status read_masks(detection_list *out, detector *d, const mask_paster_input *pasted) {
    for (int i = 0; i < out->count; i++) {
        int at = i % d->paster.batch;
        if (i > 0 && at == 0) {
            mask_paster_run(&d->paster, pasted, i, out->count);
            device_synchronize(d->dev, NULL);
            tell_runs(d, d->paster.t);
        }
        RETURN_IF_ERROR(mask_paster_read(&out->items[i].mask, &d->paster, at, out->height, out->width));
    }
    return STATUS_OK;
}

status detector_fill(detection_list *out, detector *d, const host_detections *found,
                     const mask_paster_input *pasted, int height, int width) {
    int raw_side = d->masks && d->spec.raw_masks ? d->mask_side : 0;
    RETURN_IF_ERROR(detection_list_reserve(out, found->count, raw_side));
    out->count = found->count;
    out->height = height;
    out->width = width;
    for (int i = 0; i < found->count; i++) {
        detection *item = &out->items[i];
        item->label = found->labels[i] - 1;
        item->score = found->scores[i];
        memcpy(item->box, found->boxes + 4 * i, sizeof item->box);
        item->mask.height = item->mask.width = 0;
        item->mask.count = 0;
    }
    if (!d->masks) return STATUS_OK;
    if (!raw_side) return read_masks(out, d, pasted);
    device_copy(d->dev, NULL, out->raw_masks, pasted->probs,
                (size_t)found->count * (size_t)raw_side * (size_t)raw_side * sizeof(float));
    return STATUS_OK;
}

static double sum_of(const double ms[DETECTOR_STAGES]) {
    double sum = 0;
    for (int i = 0; i < DETECTOR_STAGES; i++) sum += ms[i];
    return sum;
}

static status run_once(detector *d, detection_list *out, int height, int width) {
    detector_view view = {
        .original_height = height, .original_width = width, .height = height, .width = width};
    if (d->spec.short_edge > 0)
        resize_rule_apply(&view.height, &view.width, d->spec.rule, height, width, d->spec.short_edge,
                          d->spec.max_size);
    bool paste = d->masks && !d->spec.raw_masks;
    if (paste) RETURN_IF_ERROR(detector_reserve_paster(d, width));
    infer_graph *pass;
    RETURN_IF_ERROR(detector_run_view(&pass, d, &view, INFER_ALL));
    mask_paster_input pasted = {.probs = d->masks ? tensor_f32(pass->probs) : NULL,
                                .boxes = tensor_f32(pass->boxes),
                                .rois = pass->rois ? tensor_f32(pass->rois) : NULL,
                                .count = tensor_i32(pass->count),
                                .info = d->inputs.info};
    double start = clock_seconds(), before = sum_of(d->stage_ms);
    detector_fetch(d, pass);
    if (paste) mask_paster_run(&d->paster, &pasted, 0, d->spec.max_detections);
    detector_wait(d, pass);
    detector_read(&d->found, d);
    status s = detector_fill(out, d, &d->found, &pasted, height, width);
    /* On a GPU the wait holds what the graph took, which is counted already. */
    double rest = 1e3 * (clock_seconds() - start);
    if (!device_is_host_accessible(d->dev)) rest -= sum_of(d->stage_ms) - before;
    d->stage_ms[DETECTOR_MASK_POST] += rest > 0 ? rest : 0;
    return s;
}

status detector_run(detector *d, detection_list *out, const uint8_t *pixels, int height, int width) {
    CHECK(height >= 1 && width >= 1, "an image of %d x %d", width, height);
    if (height > IMAGE_PACK_MAX_SIDE || width > IMAGE_PACK_MAX_SIDE)
        return error_set(STATUS_DATA, "cut the image or make it smaller",
                         "an image of %d x %d pixels; sides go to %d", width, height, IMAGE_PACK_MAX_SIDE);
    double start = d->origin.seconds = clock_seconds();
    if (d->origin.event) device_event_record(d->dev, d->origin.event, NULL);
    memset(d->stage_ms, 0, sizeof d->stage_ms);
    RETURN_IF_ERROR(upload_pixels(d, pixels, height, width));
    d->stage_ms[DETECTOR_PREPROCESS] = 1e3 * (clock_seconds() - start);
    return d->augment ? detector_run_augmented(d, out, height, width) : run_once(d, out, height, width);
}
