/* Whole training steps and detections through the CUDA kernels, on the fake device, next to the same on the CPU. Numbers differ
 * by rounding only; nothing of a step waits for the device, and all work is ordered.
 *
 * Tolerances: in F32 losses agree to 1e-5 and gradients to 1e-4 of the largest of their parameter. In 16 bits proposals of nearly
 * equal score change places and other RoIs are drawn, so losses agree to 5 % and gradients in direction. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <math.h>

#include "base/philox.h"
#include "base/thread_pool.h"
#include "data/gt_masks.h"
#include "fake_device.h"
#include "image_pack/image_pack.h"
#include "infer/detector.h"
#include "mask_paste/mask_paste.h"
#include "setup/step_memory.h"
#include "train/optimizer.h"

enum {
    CLASSES = 3,
    HEIGHT = 64,
    WIDTH = 96,
    IMAGE_HEIGHT = 50,
    IMAGE_WIDTH = 80,
    OBJECTS = 3,
    MOST_IMAGES = 2
};
enum { IMAGE_BYTES = IMAGE_HEIGHT * IMAGE_WIDTH * 3 };

static void ok(status s) {
    if (s != STATUS_OK) fail_msg("%s", error_cause());
}

static device *open_device(bool cuda) {
    device *d;
    if (cuda) return fake_device_open();
    ok(device_open(&d, "cpu"));
    return d;
}

/* Also says so when work was queued in an order that is a race on a GPU. */
static void close_device(device *d, bool cuda) {
    const char *problem = cuda ? fake_device_take_problem(d) : NULL;
    if (problem) fail_msg("%s", problem);
    device_close(d);
}

/* What differs between the models. */
typedef struct model_kind {
    norm_kind norm;
    map_kind maps;
    bool rpn_only;
} model_kind;

static void all_sizes_on_one_level(anchor_spec *anchors) {
    anchors->levels = 1;
    anchors->strides[0] = 16;
    anchors->n_sizes[0] = FPN_LEVELS;
    for (int i = 0; i < FPN_LEVELS; i++) anchors->sizes[0][i] = 8 << i;
}

static mask_rcnn_spec small_spec(model_kind kind) {
    norm_spec norm = {kind.norm, 1e-5, 4};
    norm_spec heads = {kind.norm == NORM_FROZEN ? NORM_NONE : kind.norm, 1e-5, 4};
    mask_rcnn_spec spec = {
        .pixels = {.bgr = true, .mean = {103, 116, 123}, .std = {57, 57, 58}},
        .backbone = {.depth = 18, .stem_channels = 8, .res2_channels = 8, .freeze_at = 1, .norm = norm},
        .maps = kind.maps,
        .rpn_only = kind.rpn_only,
        .fpn_channels = 16,
        .fpn_norm = heads,
        .rpn = {.iou_background = 0.3,
                .iou_foreground = 0.7,
                .batch_size_per_image = 32,
                .positive_fraction = 0.5,
                .straddle = -1,
                .box_weights = {1, 1, 1, 1},
                .normalizer = RPN_BY_SAMPLED,
                .loss_weight = 1,
                .box_loss_weight = 1,
                .pre_nms_topk = {2000, 300},
                .post_nms_topk = {2000, 200},
                .nms_threshold = 0.7},
        .roi = {.classes = CLASSES,
                .iou_foreground = 0.5,
                .batch_size_per_image = 16,
                .positive_fraction = 0.25,
                .append_gt = true,
                .level_eps = 1e-8,
                .box_pooler = {.resolution = 7, .sampling_ratio = 2, .aligned = true},
                .mask_pooler = {.resolution = 14, .sampling_ratio = 2, .aligned = true},
                .box_weights = {10, 10, 5, 5},
                .box_loss_weight = 1,
                .fc_dim = 32,
                .mask_convs = 1,
                .mask_dim = 8,
                .mask_norm = heads},
        .mask_on = !kind.rpn_only,
        .seed = 5};
    spec.backbone.ends_with_res4 = kind.maps == MAPS_C4;
    anchor_spec *anchors = &spec.rpn.anchors;
    anchors->levels = FPN_LEVELS;
    for (int l = 0; l < FPN_LEVELS; l++) {
        anchors->strides[l] = 4 << l;
        anchors->n_sizes[l] = 1;
        anchors->sizes[l][0] = 8 << l;
        anchors->n_ratios[l] = 3;
        for (int i = 0; i < 3; i++) anchors->ratios[l][i] = (double[]){0.5, 1, 2}[i];
    }
    if (kind.maps == MAPS_C4) all_sizes_on_one_level(anchors);
    return spec;
}

static void make_pixels(uint8_t *pixels, int image) {
    philox_key key = {.seed = 9, .purpose = PHILOX_TEST, .item = (uint64_t)image};
    for (int i = 0; i < IMAGE_BYTES; i++)
        pixels[i] =
            (uint8_t)((philox_u32(&key, (uint64_t)i / 48) & 127) + (philox_u32(&key, 1u << 30 | i) & 63));
}

/* What the loader would bring: each image enlarged to the canvas's width, objects with box-shaped polygons. */
static step_used fill(step_inputs *in, int images) {
    static const float sides[OBJECTS][2] = {{20, 24}, {30, 18}, {44, 40}};
    gt_mask_writer writer = {.blob = in->mask_blob, .capacity = 4096};
    for (int n = 0; n < images; n++) {
        in->info[n] = (image_info){.original_height = IMAGE_HEIGHT,
                                   .original_width = IMAGE_WIDTH,
                                   .height = 60,
                                   .width = 96,
                                   .flip = n,
                                   .id_low = 7 + n};
        image_pack_record record = {.offset = (int32_t)(n * IMAGE_BYTES / IMAGE_PACK_ALIGNMENT),
                                    .height = IMAGE_HEIGHT,
                                    .width = IMAGE_WIDTH,
                                    .resized_height = 60,
                                    .resized_width = 96,
                                    .flip = n};
        memcpy(in->pixel_table + n * IMAGE_PACK_RECORD_INTS, &record, sizeof record);
        make_pixels(in->pixels + n * IMAGE_BYTES, n);
        in->gt_count[n] = OBJECTS - n;
        for (int g = 0; g < OBJECTS; g++) {
            int at = n * OBJECTS + g;
            float x = (float)(6 + 13 * g + 5 * n), y = (float)(5 + 6 * g), right = x + sides[g][0],
                  bottom = y + sides[g][1] * 0.8f;
            memcpy(in->gt_boxes + 4 * at, (float[]){x, y, right, bottom}, 4 * sizeof(float));
            in->gt_labels[at] = g % CLASSES;
            float scale = (float)IMAGE_WIDTH / 96;
            const float xy[] = {x * scale,     y * scale,      right * scale, y * scale,
                                right * scale, bottom * scale, x * scale,     bottom * scale};
            gt_mask_record mask;
            ok(gt_mask_pack_polygon(&mask, &writer, xy, (int32_t[]){4}, 1));
            memcpy(in->gt_masks + GT_MASK_RECORD_INTS * at, &mask, sizeof mask);
        }
    }
    *in->step = 3;
    return (step_used){.mask_bytes = writer.used, .pixel_bytes = (size_t)(images * IMAGE_BYTES)};
}

/* One step's results on the host. */
typedef struct outcome {
    float losses[LOSS_COUNT];
    gradient_report report;
    float *gradients, *values; /* [count], the trained parameters' one behind the other */
    int64_t count;
} outcome;

static void release(outcome *o) {
    free(o->gradients);
    free(o->values);
}

static void read_all(outcome *o, const param_store *store) {
    o->gradients = malloc((size_t)store->trainable * sizeof(float));
    o->values = malloc((size_t)store->trainable * sizeof(float));
    float *staging = malloc((size_t)store->trainable * sizeof(float));
    assert_true(o->gradients && o->values && staging);
    for (int i = 0; i < store->count; i++) {
        const param *p = &store->params[i];
        if (!p->trainable) continue;
        size_t bytes = (size_t)p->size * sizeof(float);
        memcpy(o->gradients + o->count, param_store_read(store, PARAM_GRADIENTS, p, staging), bytes);
        memcpy(o->values + o->count, param_store_read(store, PARAM_VALUES, p, staging), bytes);
        o->count += p->size;
    }
    free(staging);
}

typedef struct rig {
    bool cuda;
    device *dev;
    mask_rcnn model;
    step_memory memory;
    config cfg;
    optimizer *opt;
    optimizer_record *record; /* page-locked */
    train_graph *step;
} rig;

static void rig_open(rig *r, bool cuda, model_kind kind, dtype storage, int images) {
    memset(r, 0, sizeof *r);
    r->cuda = cuda;
    r->dev = open_device(cuda);
    mask_rcnn_spec spec = small_spec(kind);
    step_shape shape = {.images = images,
                        .height = HEIGHT,
                        .width = WIDTH,
                        .gt_capacity = OBJECTS,
                        .mask_bytes = 4096,
                        .pixel_bytes = images * IMAGE_BYTES};
    ok(mask_rcnn_init(&r->model, &spec));
    ok(param_store_allocate(&r->model.params, r->dev, &(precision){.storage = storage}, true));
    ok(param_store_initialise(&r->model.params, spec.seed));
    ok(step_memory_init(&r->memory, r->dev, &shape));
    char *words[] = {"SOLVER.MOMENTUM", "0.5", "SOLVER.WEIGHT_DECAY", "0.01"};
    ok(config_load(&r->cfg, NULL, words, 4));
    ok(optimizer_new(&r->opt, &r->model.params, &r->cfg, r->memory.inputs.rates));
    r->memory.inputs.losses = optimizer_record_place(r->opt)->losses;
    r->memory.inputs.loss_scale = optimizer_loss_scale(r->opt);
    void *record;
    ok(device_alloc_host(r->dev, &record, sizeof *r->record, "record"));
    r->record = record;
    r->step = train_graph_new(&r->model, r->dev, NULL, &shape, &r->memory.inputs, images, false);
    ok(step_memory_reserve(&r->memory, r->step->bytes));
    tape_attach(r->step->t, r->memory.arena, r->memory.arena_bytes);
}

static void rig_close(rig *r) {
    train_graph_free(r->step);
    device_free_host(r->dev, r->record, sizeof *r->record);
    optimizer_free(r->opt);
    config_release(&r->cfg);
    step_memory_release(&r->memory);
    mask_rcnn_release(&r->model);
    close_device(r->dev, r->cuda);
}

static void queue_step(rig *r) {
    tape_forward(r->step->t);
    tape_backward(r->step->t, NULL, NULL);
    optimizer_queue(r->opt);
}

/* Everything a step queues, in a recording where that is wanted; the host waits for none of it. */
static void rig_step(rig *r, bool recorded) {
    uint64_t waits = device_host_waits(r->dev);
    step_inputs *host = step_memory_next(&r->memory);
    step_used used = fill(host, r->memory.largest.images);
    optimizer_rates(host->rates, r->opt, 0.1, 0.1);
    step_memory_bring(&r->memory, &used);
    if (recorded) {
        device_capture_begin(r->dev);
        queue_step(r);
        ok(device_capture_end(r->dev, &r->step->recording));
        device_graph_launch(r->dev, r->step->recording);
    } else {
        queue_step(r);
    }
    device_copy(r->dev, NULL, r->record, optimizer_record_place(r->opt), sizeof *r->record);
    assert_true(device_host_waits(r->dev) == waits);
    device_synchronize(r->dev, NULL);
}

static outcome run(bool cuda, model_kind kind, dtype storage, int images, int steps) {
    rig r;
    outcome o = {0};
    rig_open(&r, cuda, kind, storage, images);
    for (int i = 0; i < steps; i++) rig_step(&r, cuda && i > 0);
    memcpy(o.losses, r.record->losses, sizeof o.losses);
    o.report = optimizer_report(r.opt, r.record);
    read_all(&o, &r.model.params);
    rig_close(&r);
    return o;
}

static void check_near(const char *what, const float *actual, const float *expected, const param_store *store,
                       double share) {
    int64_t at = 0;
    for (int i = 0; i < store->count; i++) {
        const param *p = &store->params[i];
        if (!p->trainable) continue;
        double largest = 1e-6, worst = 0;
        for (int64_t k = at; k < at + p->size; k++) {
            largest = fmax(largest, fabs((double)expected[k]));
            worst = fmax(worst, fabs((double)actual[k] - (double)expected[k]));
        }
        if (!(worst <= share * largest))
            fail_msg("%s of %s: off by %g, its largest is %g", what, p->name, worst, largest);
        at += p->size;
    }
}

static void check_losses(const outcome *cuda, const outcome *cpu, double share) {
    for (int i = 0; i < LOSS_COUNT; i++) {
        double a = (double)cuda->losses[i], e = (double)cpu->losses[i];
        if (!(fabs(a - e) <= share * fmax(fabs(e), 0.01)))
            fail_msg("%s is %.9g, not %.9g", loss_names[i], a, e);
    }
    assert_true(cpu->losses[LOSS_RPN_LOC] > 0);
}

static void steps_in_f32_equal_the_cpus(void **state) {
    (void)state;
    static const struct {
        model_kind kind;
        int images;
    } rows[] = {{{NORM_FROZEN, MAPS_FPN, false}, 1},
                {{NORM_GROUP, MAPS_FPN, false}, 2},
                {{NORM_FROZEN, MAPS_C4, false}, 2},
                {{NORM_GROUP, MAPS_C4, true}, 1}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mask_rcnn model;
        model_kind kind = rows[i].kind;
        int images = rows[i].images;
        mask_rcnn_spec spec = small_spec(kind);
        ok(mask_rcnn_init(&model, &spec));
        outcome cpu = run(false, kind, DTYPE_F32, images, images),
                cuda = run(true, kind, DTYPE_F32, images, images);
        assert_true((cpu.losses[LOSS_MASK] > 0.1f) == !kind.rpn_only);
        check_losses(&cuda, &cpu, 1e-5);
        assert_true(fabs(cuda.report.norm / cpu.report.norm - 1) < 1e-5 && !cuda.report.is_stopped);
        check_near("gradient", cuda.gradients, cpu.gradients, &model.params, 1e-4);
        check_near("new value", cuda.values, cpu.values, &model.params, 1e-5);
        release(&cpu);
        release(&cuda);
        mask_rcnn_release(&model);
    }
}

static void steps_in_16_bits_follow_the_cpus(void **state) {
    (void)state;
    static const dtype storages[] = {DTYPE_BF16, DTYPE_F16};
    static const model_kind usual = {.norm = NORM_GROUP};
    outcome cpu = run(false, usual, DTYPE_F32, 1, 1);
    for (int k = 0; k < 2; k++) {
        outcome cuda = run(true, usual, storages[k], 1, 1);
        double scale = cuda.report.loss_scale > 0 ? cuda.report.loss_scale : 1, dot = 0, a = 0, b = 0;
        assert_true((scale > 1) == (storages[k] == DTYPE_F16));
        assert_false(cuda.report.is_skipped || cuda.report.is_stopped);
        check_losses(&cuda, &cpu, 0.05);
        for (int64_t i = 0; i < cpu.count; i++) {
            double x = (double)cuda.gradients[i] / scale, y = (double)cpu.gradients[i];
            dot += x * y;
            a += x * x;
            b += y * y;
        }
        if (!(dot / sqrt(a * b) > 0.95))
            fail_msg("%s: cosine %g", dtype_name(storages[k]), dot / sqrt(a * b));
        assert_true(fabs(cuda.report.norm / cpu.report.norm - 1) < 0.1);
        release(&cuda);
    }
    release(&cpu);
}

static detection_list detect(bool cuda, model_kind kind, dtype storage) {
    static uint8_t pixels[IMAGE_BYTES];
    device *dev = open_device(cuda);
    mask_rcnn model;
    mask_rcnn_spec spec = small_spec(kind);
    detector_spec usual = {.short_edge = 60,
                           .max_size = 96,
                           .nms_threshold = 0.5,
                           .max_detections = 20,
                           .paste_rule = MASK_PASTE_GRID_SAMPLE,
                           .masks = true};
    detector *d;
    detection_list found = {0};
    ok(mask_rcnn_init(&model, &spec));
    ok(param_store_allocate(&model.params, dev, &(precision){.storage = storage}, false));
    ok(param_store_initialise(&model.params, spec.seed));
    /* Start values are so small that every box scores alike: make the predictors decide. */
    static const char *const sharper[] = {"roi_heads.box_predictor.cls_score.weight",
                                          "roi_heads.box_predictor.bbox_pred.weight",
                                          "roi_heads.mask_predictor.mask_fcn_logits.weight"};
    for (int i = 0; i < 3; i++) {
        const param *p = &model.params.params[param_store_find(&model.params, sharper[i])];
        float *values = malloc((size_t)p->size * sizeof *values);
        assert_non_null(values);
        const float *from = param_store_read(&model.params, PARAM_VALUES, p, values);
        float *to = param_store_place(&model.params, PARAM_VALUES, p, values);
        for (int64_t k = 0; k < p->size; k++) to[k] = from[k] * 200;
        param_store_commit(&model.params, PARAM_VALUES, p, to);
        free(values);
    }
    make_pixels(pixels, 0);
    ok(detector_new(&d, &model, dev, &usual));
    ok(detector_run(d, &found, pixels, IMAGE_HEIGHT, IMAGE_WIDTH));
    uint64_t waits = device_host_waits(dev);
    ok(detector_run(d, &found, pixels, IMAGE_HEIGHT, IMAGE_WIDTH)); /* its memory and graph are there */
    if (cuda) assert_int_equal(device_host_waits(dev) - waits, 1);
    detector_free(d);
    mask_rcnn_release(&model);
    close_device(dev, cuda);
    return found;
}

static void compare_detections(model_kind kind) {
    detection_list cpu = detect(false, kind, DTYPE_F32), cuda = detect(true, kind, DTYPE_F32),
                   half = detect(true, kind, DTYPE_BF16);
    assert_true(cpu.count > 5);
    assert_int_equal(cuda.count, cpu.count);
    assert_true(half.count > 0);
    for (int i = 0; i < cpu.count; i++) {
        const detection *a = &cuda.items[i], *e = &cpu.items[i];
        assert_int_equal(a->label, e->label);
        assert_true(fabsf(a->score - e->score) < 1e-4f);
        for (int k = 0; k < 4; k++) assert_true(fabsf(a->box[k] - e->box[k]) < 0.01f);
        assert_true(a->mask.height == IMAGE_HEIGHT && a->mask.width == IMAGE_WIDTH);
        int64_t ones[2] = {0, 0};
        for (size_t k = 1; k < a->mask.count; k += 2) ones[0] += a->mask.counts[k];
        for (size_t k = 1; k < e->mask.count; k += 2) ones[1] += e->mask.counts[k];
        assert_true(llabs(ones[0] - ones[1]) <= 2 + ones[1] / 100);
    }
    detection_list_release(&cpu);
    detection_list_release(&cuda);
    detection_list_release(&half);
}

static void detections_equal_the_cpus(void **state) {
    (void)state;
    compare_detections((model_kind){NORM_GROUP, MAPS_FPN, false});
    compare_detections((model_kind){NORM_GROUP, MAPS_C4, false});
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(steps_in_f32_equal_the_cpus),
                                       cmocka_unit_test(steps_in_16_bits_follow_the_cpus),
                                       cmocka_unit_test(detections_equal_the_cpus)};
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    thread_pool_stop();
    return failures;
}
