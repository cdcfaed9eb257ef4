/* Costs of calls against figures computed by hand, from shapes alone: no tensor here has memory. */
#include "autograd/op_cost.h"

#include "conv2d/conv2d.h"
#include "conv2d_transpose/conv2d_transpose.h"
#include "gather_levels/gather_levels.h"
#include "linear/linear.h"
#include "nms/nms.h"
#include "roi_align/roi_align.h"
#include "rpn_proposals/rpn_proposals.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A call and its descriptors. */
typedef struct described {
    op_call call;
    tensor in[OP_MAX_INPUTS], out[OP_MAX_OUTPUTS];
} described;

static void begin(described *d, const op_def *op, const void *params) {
    memset(d, 0, sizeof *d);
    d->call = (op_call){.op = op, .params = params};
}

static void give(described *d, int i, int rank, const int64_t *shape) {
    d->in[i] = tensor_make(d->call.op->input_names[i], d->call.op->input_types[i], rank, shape, NULL);
    d->call.in[i] = &d->in[i];
}

static void infer(described *d) {
    for (int i = 0; i < d->call.op->n_outputs; i++) d->call.out[i] = &d->out[i];
    assert_int_equal(op_infer(&d->call), STATUS_OK);
}

/* Gradients of the outputs have come, and those of these inputs are wanted. */
static void want(described *d, unsigned inputs) {
    for (int i = 0; i < d->call.op->n_outputs; i++)
        d->call.d_out[i] = d->call.op->constant_outputs >> i & 1u ? NULL : &d->out[i];
    for (int i = 0; i < d->call.op->n_inputs; i++) d->call.d_in[i] = inputs >> i & 1u ? d->call.in[i] : NULL;
}

#define GIVE(d, i, ...) give(d, i, OP_SHAPE_RANK(__VA_ARGS__), (int64_t[]){__VA_ARGS__})

/* Whole numbers far below 2^53. */
#define assert_same(a, b) assert_int_equal(llround(a), llround(b))

static void a_convolution_costs_two_operations_per_tap(void **state) {
    (void)state;
    const double map = 200.0 * 336 * 256, weight = 256.0 * 256 * 9, flops = 2 * weight * 200 * 336;
    described d;
    begin(&d, &conv2d_op, &(conv2d_params){.stride = 1, .pad = 1, .dilation = 1});
    GIVE(&d, CONV2D_X, 1, 200, 336, 256);
    GIVE(&d, CONV2D_WEIGHT, 256, 3, 3, 256);
    infer(&d);
    op_cost cost = op_cost_of(&d.call, false);
    assert_same(cost.flops, 79272345600.0);
    assert_same(cost.flops, flops);
    assert_same(cost.read_bytes, 4 * (map + weight));
    assert_same(cost.written_bytes, 4 * map);
    want(&d, 1u << CONV2D_X | 1u << CONV2D_WEIGHT);
    cost = op_cost_of(&d.call, true);
    assert_same(cost.flops, 2 * flops);
    assert_same(cost.read_bytes, 4 * (2 * map + weight)); /* x, d_y, weight */
    assert_same(cost.written_bytes, 4 * (map + weight));
    d.call.accumulate[CONV2D_X] = true;
    assert_same(op_cost_of(&d.call, true).read_bytes, 4 * (3 * map + weight));
    want(&d, 1u << CONV2D_WEIGHT);
    assert_same(op_cost_of(&d.call, true).flops, flops);
}

static void few_live_pixels_cost_what_they_need(void **state) {
    (void)state;
    described d;
    begin(&d, &conv2d_op,
          &(conv2d_params){.stride = 2, .pad = 1, .dilation = 1, .relu = true, .live_pixels = 10});
    GIVE(&d, CONV2D_X, 3, 8, 8, 16);
    GIVE(&d, CONV2D_WEIGHT, 24, 3, 3, 16);
    infer(&d);
    want(&d, 1u << CONV2D_X | 1u << CONV2D_WEIGHT);
    assert_same(op_cost_of(&d.call, false).flops, 2.0 * 24 * 9 * 16 * 3 * 4 * 4);
    assert_same(op_cost_of(&d.call, true).flops, 2 * 2.0 * 24 * 9 * 16 * 10);
}

static void a_transposed_convolution_counts_input_pixels(void **state) {
    (void)state;
    described d;
    begin(&d, &conv2d_transpose_op, &(conv2d_transpose_params){.stride = 2, .relu = true});
    GIVE(&d, CONV2D_TRANSPOSE_X, 128, 14, 14, 256);
    GIVE(&d, CONV2D_TRANSPOSE_WEIGHT, 256, 2, 2, 256);
    infer(&d);
    assert_same(op_cost_of(&d.call, false).flops, 2.0 * 128 * 14 * 14 * 256 * 4 * 256);
}

static void a_linear_layer_is_a_product(void **state) {
    (void)state;
    described d;
    begin(&d, &linear_op, &(linear_params){.flatten = true});
    GIVE(&d, LINEAR_X, 512, 7, 7, 256);
    GIVE(&d, LINEAR_WEIGHT, 1024, 12544);
    GIVE(&d, LINEAR_BIAS, 1024);
    infer(&d);
    assert_same(op_cost_of(&d.call, false).flops, 2.0 * 512 * 12544 * 1024);
    want(&d, 1u << LINEAR_WEIGHT | 1u << LINEAR_BIAS);
    assert_same(op_cost_of(&d.call, true).flops, 2.0 * 512 * 12544 * 1024);
}

static void roi_align_costs_four_taps_per_sample(void **state) {
    (void)state;
    described d;
    begin(&d, &roi_align_op,
          &(roi_align_params){.output_size = 7, .spatial_scale = 0.25, .sampling_ratio = 2});
    GIVE(&d, ROI_ALIGN_X, 1, 50, 50, 512);
    GIVE(&d, ROI_ALIGN_ROIS, 300, 5);
    infer(&d);
    op_cost cost = op_cost_of(&d.call, false);
    assert_same(cost.flops, 300.0 * 49 * 512 * (4 * 4 * 2 + 1));
    assert_same(cost.read_bytes, 4.0 * (50 * 50 * 512 + 300 * 5)); /* the map once, not once per sample */
    want(&d, 1u << ROI_ALIGN_X);
    assert_same(op_cost_of(&d.call, true).written_bytes, 4.0 * 50 * 50 * 512);
    GIVE(&d, ROI_ALIGN_ROIS, 1, 5);
    infer(&d);
    assert_same(op_cost_of(&d.call, false).read_bytes, 4.0 * (49 * 512 * 16 + 5));
}

static void nms_compares_all_pairs(void **state) {
    (void)state;
    described d;
    begin(&d, &nms_op, &(nms_params){.iou_threshold = 0.7});
    GIVE(&d, NMS_BOXES, 2000, 4);
    GIVE(&d, NMS_SCORES, 2000);
    infer(&d);
    assert_same(op_cost_of(&d.call, false).flops, 1999000.0 * OP_COST_IOU);
}

/* One level of 12000 candidates costs 36 times one of 2000, nearly. */
static void proposals_compare_within_a_level(void **state) {
    (void)state;
    double flops[2];
    for (int i = 0; i < 2; i++) {
        described d;
        rpn_proposals_params p = {.anchors = {.levels = 1,
                                              .n_sizes = {1},
                                              .n_ratios = {3},
                                              .sizes = {{32}},
                                              .ratios = {{0.5, 1, 2}},
                                              .strides = {4}},
                                  .canvas_height = 800,
                                  .canvas_width = 1344,
                                  .pre_nms_topk = i ? 12000 : 2000,
                                  .post_nms_topk = 1000,
                                  .nms_threshold = 0.7,
                                  .box_weights = {1, 1, 1, 1}};
        begin(&d, &rpn_proposals_op, &p);
        GIVE(&d, RPN_PROPOSALS_LOGITS, 1, 200, 336, 3);
        GIVE(&d, RPN_PROPOSALS_DELTAS, 1, 200, 336, 12);
        GIVE(&d, RPN_PROPOSALS_INFO, 1, 8);
        infer(&d);
        op_cost cost = op_cost_of(&d.call, false);
        flops[i] = cost.flops;
        /* All logits, the deltas of the best. */
        assert_same(cost.read_bytes, 4.0 * (200 * 336 * 3 + 4 * p.pre_nms_topk + 8));
    }
    assert_true(flops[1] > 30 * flops[0] && flops[1] < 36 * flops[0]);
}

static void gathering_reads_only_what_it_gathers(void **state) {
    (void)state;
    described d;
    begin(&d, &gather_levels_op, &(gather_levels_params){.anchors = 3, .size = 4});
    GIVE(&d, GATHER_INDEX, 256);
    GIVE(&d, GATHER_MAP, 1, 200, 336, 12);
    infer(&d);
    op_cost cost = op_cost_of(&d.call, false);
    assert_same(cost.flops, 0);
    assert_same(cost.read_bytes, 4.0 * (256 + 256 * 4));
    want(&d, 1u << GATHER_MAP);
    assert_same(op_cost_of(&d.call, true).written_bytes, 4.0 * 200 * 336 * 12);
}

static void assert_sound(const op_def *op, const op_case *test, op_cost cost) {
    bool sound = isfinite(cost.flops) && cost.flops >= 0 && isfinite(cost.read_bytes) &&
                 cost.read_bytes >= 0 && isfinite(cost.written_bytes) && cost.written_bytes >= 0;
    if (!sound)
        fail_msg("%s, case %s: %g operations, %g bytes read, %g written", op->name, test->name, cost.flops,
                 cost.read_bytes, cost.written_bytes);
}

/* Also those without rows. */
static void every_case_of_every_op_has_a_sound_cost(void **state) {
    (void)state;
    for (int i = 0; i < op_count(); i++) {
        const op_def *op = op_at(i);
        for (int c = 0; c < op->n_cases; c++) {
            const op_case *test = &op->cases[c];
            described d;
            begin(&d, op, test->params);
            for (int j = 0; j < op->n_inputs; j++)
                if (test->in[j].present) give(&d, j, test->in[j].rank, test->in[j].shape);
            infer(&d);
            assert_sound(op, test, op_cost_of(&d.call, false));
            want(&d, op->differentiable);
            if (op->differentiable) assert_sound(op, test, op_cost_of(&d.call, true));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_convolution_costs_two_operations_per_tap),
        cmocka_unit_test(few_live_pixels_cost_what_they_need),
        cmocka_unit_test(a_transposed_convolution_counts_input_pixels),
        cmocka_unit_test(a_linear_layer_is_a_product),
        cmocka_unit_test(roi_align_costs_four_taps_per_sample),
        cmocka_unit_test(nms_compares_all_pairs),
        cmocka_unit_test(proposals_compare_within_a_level),
        cmocka_unit_test(gathering_reads_only_what_it_gathers),
        cmocka_unit_test(every_case_of_every_op_has_a_sound_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
