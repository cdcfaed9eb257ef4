/* An image's proposals and targets depend on the image, the iteration and the seed only: not on its place in the batch, on
 * the batch's size, or on what else is in it. So any split of a batch over ranks trains the same. */
#include "roi_targets/roi_targets.h"
#include "rpn_proposals/rpn_proposals.h"
#include "rpn_targets/rpn_targets.h"

#include "base/philox.h"
#include "base/thread_pool.h"
#include "image_info.h"
#include "kernels/op_run.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum {
    HEIGHT = 96,
    WIDTH = 160,
    LEVELS = 3,
    OBJECTS = 8,
    POST_NMS = 50,
    MAX_IMAGES = 3,
    RPN_BATCH = 24,
    ROI_BATCH = 20
};

#define ANCHORS                                                                                              \
    {                                                                                                        \
        .levels = LEVELS, .n_sizes = {1, 1, 1}, .n_ratios = {3, 3, 3}, .sizes = {{16}, {32}, {64}},          \
        .ratios = {{0.5, 1, 2}, {0.5, 1, 2}, {0.5, 1, 2}}, .strides = {                                      \
            8,                                                                                               \
            16,                                                                                              \
            32                                                                                               \
        }                                                                                                    \
    }

/* What a batch's ops wrote. Samples of one image stand together. */
typedef struct batch {
    op_run proposals, anchors, rois;
    int64_t anchor_first[MAX_IMAGES + 1], roi_first[MAX_IMAGES + 1];
} batch;

typedef struct batch_spec {
    int images;
    int ids
        [MAX_IMAGES]; /* an image's content is a function of its id; even ids have objects, odd ones fewer, 4 none */
    uint64_t seed;
    int32_t step;
} batch_spec;

static float draw(int id, int stream, int64_t i) {
    philox_key key = {.seed = 99, .purpose = PHILOX_TEST, .step = (uint32_t)stream, .item = (uint64_t)id};
    return philox_uniform(&key, (uint64_t)i);
}

static int32_t object_count(int id) {
    return id == 4 ? 0 : id % 2 ? 3 : OBJECTS;
}

static void fill_info(op_run *run, int input, const batch_spec *spec) {
    image_info *info =
        op_run_input(run, input, DTYPE_I32, 2, (int64_t[]){spec->images, IMAGE_INFO_INTS}, NULL);
    for (int n = 0; n < spec->images; n++)
        info[n] = (image_info){.original_height = 90,
                               .original_width = 150,
                               .height = 90 - spec->ids[n],
                               .width = 150,
                               .id_low = spec->ids[n],
                               .id_high = 1};
}

static void fill_objects(op_run *run, int boxes_input, int count_input, const batch_spec *spec) {
    float *boxes = op_run_input(run, boxes_input, DTYPE_F32, 3, (int64_t[]){spec->images, OBJECTS, 4}, NULL);
    int32_t *counts = op_run_input(run, count_input, DTYPE_I32, 1, (int64_t[]){spec->images}, NULL);
    for (int n = 0; n < spec->images; n++) {
        counts[n] = object_count(spec->ids[n]);
        for (int g = 0; g < OBJECTS; g++, boxes += 4) {
            boxes[0] = 100 * draw(spec->ids[n], 1, 4 * g);
            boxes[1] = 50 * draw(spec->ids[n], 1, 4 * g + 1);
            boxes[2] = boxes[0] + 5 + 50 * draw(spec->ids[n], 1, 4 * g + 2);
            boxes[3] = boxes[1] + 5 + 30 * draw(spec->ids[n], 1, 4 * g + 3);
        }
    }
}

static void run_proposals(batch *b, const batch_spec *spec) {
    static const rpn_proposals_params p = {.anchors = ANCHORS,
                                           .canvas_height = HEIGHT,
                                           .canvas_width = WIDTH,
                                           .pre_nms_topk = 40,
                                           .post_nms_topk = POST_NMS,
                                           .nms_threshold = 0.7,
                                           .box_weights = {1, 1, 1, 1}};
    op_run_init(&b->proposals, &rpn_proposals_op, &p);
    for (int l = 0; l < LEVELS; l++) {
        int64_t h = HEIGHT / (8 << l), w = WIDTH / (8 << l), cells = h * w;
        float *logits = op_run_input(&b->proposals, RPN_PROPOSALS_LOGITS + l, DTYPE_F32, 4,
                                     (int64_t[]){spec->images, h, w, 3}, NULL);
        float *deltas = op_run_input(&b->proposals, RPN_PROPOSALS_DELTAS + l, DTYPE_F32, 4,
                                     (int64_t[]){spec->images, h, w, 12}, NULL);
        for (int n = 0; n < spec->images; n++) {
            for (int64_t i = 0; i < 3 * cells; i++) logits[n * 3 * cells + i] = draw(spec->ids[n], 10 + l, i);
            for (int64_t i = 0; i < 12 * cells; i++)
                deltas[n * 12 * cells + i] = draw(spec->ids[n], 20 + l, i) - 0.5f;
        }
    }
    fill_info(&b->proposals, RPN_PROPOSALS_INFO, spec);
    op_run_forward(&b->proposals);
}

static void run_batch(batch *b, const batch_spec *spec) {
    rpn_targets_params anchors = {.anchors = ANCHORS,
                                  .canvas_height = HEIGHT,
                                  .canvas_width = WIDTH,
                                  .iou_background = 0.3,
                                  .iou_foreground = 0.5,
                                  .batch_size_per_image = RPN_BATCH,
                                  .positive_fraction = 0.5,
                                  .straddle = -1,
                                  .box_weights = {1, 1, 1, 1},
                                  .seed = spec->seed};
    roi_targets_params rois = {.append_gt = true,
                               .iou_foreground = 0.3,
                               .batch_size_per_image = ROI_BATCH,
                               .positive_fraction = 0.25,
                               .box_weights = {10, 10, 5, 5},
                               .seed = spec->seed};
    run_proposals(b, spec);
    op_run_init(&b->anchors, &rpn_targets_op, &anchors);
    fill_objects(&b->anchors, RPN_TARGETS_GT_BOXES, RPN_TARGETS_GT_COUNT, spec);
    fill_info(&b->anchors, RPN_TARGETS_INFO, spec);
    op_run_input(&b->anchors, RPN_TARGETS_STEP, DTYPE_I32, 1, (int64_t[]){1}, &spec->step);
    op_run_forward(&b->anchors);
    op_run_init(&b->rois, &roi_targets_op, &rois);
    op_run_input(&b->rois, ROI_TARGETS_PROPOSALS, DTYPE_F32, 3, (int64_t[]){spec->images, POST_NMS, 4},
                 b->proposals.out[RPN_PROPOSALS_BOXES].data);
    op_run_input(&b->rois, ROI_TARGETS_COUNTS, DTYPE_I32, 1, (int64_t[]){spec->images},
                 b->proposals.out[RPN_PROPOSALS_COUNTS].data);
    fill_objects(&b->rois, ROI_TARGETS_GT_BOXES, ROI_TARGETS_GT_COUNT, spec);
    int32_t *labels =
        op_run_input(&b->rois, ROI_TARGETS_GT_LABELS, DTYPE_I32, 2, (int64_t[]){spec->images, OBJECTS}, NULL);
    for (int i = 0; i < spec->images * OBJECTS; i++) labels[i] = (spec->ids[i / OBJECTS] + i % OBJECTS) % 80;
    fill_info(&b->rois, ROI_TARGETS_INFO, spec);
    op_run_input(&b->rois, ROI_TARGETS_STEP, DTYPE_I32, 1, (int64_t[]){1}, &spec->step);
    op_run_forward(&b->rois);

    anchor_spec a = ANCHORS;
    int64_t per_image = anchor_grid_make(&a, HEIGHT, WIDTH).count,
            anchor_rows = tensor_valid_rows(&b->anchors.out[RPN_TARGETS_INDEX]);
    int64_t roi_rows = tensor_valid_rows(&b->rois.out[ROI_TARGETS_ROIS]), row = 0;
    for (int n = 0; n <= spec->images; n++) {
        for (row = 0;
             row < anchor_rows && tensor_i32(&b->anchors.out[RPN_TARGETS_INDEX])[row] < n * per_image;)
            row++;
        b->anchor_first[n] = row;
        for (row = 0; row < roi_rows && tensor_f32(&b->rois.out[ROI_TARGETS_ROIS])[5 * row] < (float)n;)
            row++;
        b->roi_first[n] = row;
    }
}

static void release_batch(batch *b) {
    op_run_release(&b->proposals);
    op_run_release(&b->anchors);
    op_run_release(&b->rois);
}

static void assert_slices(const tensor *a, int64_t a_row, const tensor *b, int64_t b_row, int64_t rows) {
    size_t size = (size_t)tensor_row_size(a) * dtype_size(a->type);
    assert_memory_equal((char *)a->data + (size_t)a_row * size, (char *)b->data + (size_t)b_row * size,
                        (size_t)rows * size);
}

/* Image `m` of `a` is image `n` of `b`. */
static void assert_same_image(const batch *a, int m, const batch *b, int n) {
    assert_slices(&a->proposals.out[RPN_PROPOSALS_COUNTS], m, &b->proposals.out[RPN_PROPOSALS_COUNTS], n, 1);
    assert_slices(&a->proposals.out[RPN_PROPOSALS_BOXES], m, &b->proposals.out[RPN_PROPOSALS_BOXES], n, 1);
    assert_slices(&a->proposals.out[RPN_PROPOSALS_SCORES], m, &b->proposals.out[RPN_PROPOSALS_SCORES], n, 1);
    anchor_spec spec = ANCHORS;
    int32_t per_image = (int32_t)anchor_grid_make(&spec, HEIGHT, WIDTH).count;
    int64_t rows = a->anchor_first[m + 1] - a->anchor_first[m];
    assert_int_equal(rows, b->anchor_first[n + 1] - b->anchor_first[n]);
    for (int64_t i = 0; i < rows; i++)
        assert_int_equal(
            tensor_i32(&a->anchors.out[RPN_TARGETS_INDEX])[a->anchor_first[m] + i] - m * per_image,
            tensor_i32(&b->anchors.out[RPN_TARGETS_INDEX])[b->anchor_first[n] + i] - n * per_image);
    for (int i = RPN_TARGETS_LABELS; i <= RPN_TARGETS_BOX_TARGETS; i++)
        assert_slices(&a->anchors.out[i], a->anchor_first[m], &b->anchors.out[i], b->anchor_first[n], rows);
    rows = a->roi_first[m + 1] - a->roi_first[m];
    assert_int_equal(rows, b->roi_first[n + 1] - b->roi_first[n]);
    for (int64_t i = 0; i < rows; i++)
        assert_memory_equal(tensor_f32(&a->rois.out[ROI_TARGETS_ROIS]) + 5 * (a->roi_first[m] + i) + 1,
                            tensor_f32(&b->rois.out[ROI_TARGETS_ROIS]) + 5 * (b->roi_first[n] + i) + 1,
                            4 * sizeof(float));
    for (int i = ROI_TARGETS_LABELS; i <= ROI_TARGETS_BOX_WEIGHTS; i++)
        assert_slices(&a->rois.out[i], a->roi_first[m], &b->rois.out[i], b->roi_first[n], rows);
}

static void an_image_is_the_same_in_every_batch(void **state) {
    (void)state;
    batch together, alone, turned;
    run_batch(&together, &(batch_spec){.images = 3, .ids = {2, 3, 4}, .seed = 1, .step = 17});
    run_batch(&turned, &(batch_spec){.images = 2, .ids = {4, 2}, .seed = 1, .step = 17});
    for (int n = 0; n < 3; n++) {
        run_batch(&alone, &(batch_spec){.images = 1, .ids = {2 + n}, .seed = 1, .step = 17});
        assert_same_image(&together, n, &alone, 0);
        release_batch(&alone);
    }
    assert_same_image(&together, 2, &turned, 0);
    assert_same_image(&together, 0, &turned, 1);
    release_batch(&together);
    release_batch(&turned);
}

static bool same_anchors(const batch *a, const batch *b) {
    const tensor *x = &a->anchors.out[RPN_TARGETS_INDEX], *y = &b->anchors.out[RPN_TARGETS_INDEX];
    return memcmp(x->data, y->data, (size_t)tensor_valid_rows(x) * sizeof(int32_t)) == 0;
}

static bool same_rois(const batch *a, const batch *b) {
    const tensor *x = &a->rois.out[ROI_TARGETS_ROIS], *y = &b->rois.out[ROI_TARGETS_ROIS];
    return memcmp(x->data, y->data, (size_t)tensor_valid_rows(x) * 5 * sizeof(float)) == 0;
}

static void iteration_seed_and_image_id_change_the_sample(void **state) {
    (void)state;
    batch first, again, step, seed;
    run_batch(&first, &(batch_spec){.images = 1, .ids = {2}, .seed = 1, .step = 17});
    run_batch(&again, &(batch_spec){.images = 1, .ids = {2}, .seed = 1, .step = 17});
    run_batch(&step, &(batch_spec){.images = 1, .ids = {2}, .seed = 1, .step = 18});
    run_batch(&seed, &(batch_spec){.images = 1, .ids = {2}, .seed = 2, .step = 17});
    assert_true(same_anchors(&first, &again) && same_rois(&first, &again));
    assert_false(same_anchors(&first, &step) || same_rois(&first, &step));
    assert_false(same_anchors(&first, &seed) || same_rois(&first, &seed));
    release_batch(&first);
    release_batch(&again);
    release_batch(&step);
    release_batch(&seed);
}

static void samples_are_distinct_and_of_the_wanted_number(void **state) {
    (void)state;
    batch b;
    run_batch(&b, &(batch_spec){.images = 3, .ids = {2, 3, 4}, .seed = 5, .step = 1});
    for (int n = 0; n < 3; n++) {
        int objects = 0;
        assert_int_equal(b.anchor_first[n + 1] - b.anchor_first[n], RPN_BATCH);
        for (int64_t i = b.anchor_first[n]; i < b.anchor_first[n + 1]; i++) {
            bool positive = tensor_f32(&b.anchors.out[RPN_TARGETS_LABELS])[i] > 0;
            objects += positive;
            if (i == b.anchor_first[n] ||
                positive != (tensor_f32(&b.anchors.out[RPN_TARGETS_LABELS])[i - 1] > 0))
                continue;
            assert_true(tensor_i32(&b.anchors.out[RPN_TARGETS_INDEX])[i] >
                        tensor_i32(&b.anchors.out[RPN_TARGETS_INDEX])[i - 1]);
        }
        assert_true(objects <= RPN_BATCH / 2 && (objects > 0) == (n < 2));
        assert_int_equal(b.roi_first[n + 1] - b.roi_first[n], ROI_BATCH);
        objects = 0;
        for (int64_t i = b.roi_first[n]; i < b.roi_first[n + 1]; i++)
            objects += tensor_i32(&b.rois.out[ROI_TARGETS_LABELS])[i] > 0;
        assert_true(objects <= ROI_BATCH / 4 && (objects > 0) == (n < 2));
    }
    release_batch(&b);
}

/* Every candidate is drawn equally often. */
static void draws_are_uniform(void **state) {
    (void)state;
    enum { STEPS = 400 };
    int64_t drawn[2000] = {0}, most = 0, least = INT64_MAX;
    anchor_spec spec = ANCHORS;
    int64_t count = anchor_grid_make(&spec, HEIGHT, WIDTH).count;
    assert_true(count < 2000);
    for (int32_t step = 0; step < STEPS; step++) {
        op_run run;
        rpn_targets_params p = {.anchors = spec,
                                .canvas_height = HEIGHT,
                                .canvas_width = WIDTH,
                                .iou_background = 0.3,
                                .iou_foreground = 0.7,
                                .batch_size_per_image = 470,
                                .positive_fraction = 0.5,
                                .straddle = -1,
                                .box_weights = {1, 1, 1, 1}};
        op_run_init(&run, &rpn_targets_op, &p);
        op_run_input(&run, RPN_TARGETS_GT_BOXES, DTYPE_F32, 3, (int64_t[]){1, 0, 4}, NULL);
        op_run_input(&run, RPN_TARGETS_GT_COUNT, DTYPE_I32, 1, (int64_t[]){1}, NULL);
        fill_info(&run, RPN_TARGETS_INFO, &(batch_spec){.images = 1, .ids = {7}});
        op_run_input(&run, RPN_TARGETS_STEP, DTYPE_I32, 1, (int64_t[]){1}, &step);
        op_run_forward(&run);
        for (int64_t i = 0; i < 470; i++) drawn[tensor_i32(&run.out[RPN_TARGETS_INDEX])[i]]++;
        op_run_release(&run);
    }
    for (int64_t a = 0; a < count; a++) {
        most = drawn[a] > most ? drawn[a] : most;
        least = drawn[a] < least ? drawn[a] : least;
    }
    double mean = 470.0 * STEPS / (double)count, deviation = sqrt(mean * (1 - 470.0 / (double)count));
    assert_true((double)most < mean + 5 * deviation && (double)least > mean - 5 * deviation);
}

int main(void) {
    thread_pool_start(2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_is_the_same_in_every_batch),
        cmocka_unit_test(iteration_seed_and_image_id_change_the_sample),
        cmocka_unit_test(samples_are_distinct_and_of_the_wanted_number),
        cmocka_unit_test(draws_are_uniform),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    thread_pool_stop();
    return failed;
}
