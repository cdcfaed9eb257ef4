#include "rpn_proposals/rpn_proposals.h"

#include "autograd/op_cost.h"
#include "autograd/tape.h"
#include "image_info.h"

#include <math.h>

static status check_params(const op_call *call) {
    const rpn_proposals_params *p = call->params;
    if (!anchor_spec_valid(&p->anchors, p->canvas_height, p->canvas_width))
        return op_bad_attr(call, "anchors", "a valid list of anchors and a canvas");
    if (p->pre_nms_topk < 1) return op_bad_attr(call, "pre_nms_topk", "positive");
    if (p->post_nms_topk < 1) return op_bad_attr(call, "post_nms_topk", "positive");
    if (!(p->nms_threshold >= 0 && p->nms_threshold <= 1))
        return op_bad_attr(call, "nms_threshold", "from 0 to 1");
    for (int i = 0; i < 4; i++)
        if (!(p->box_weights[i] > 0)) return op_bad_attr(call, "box_weights", "four positive numbers");
    return STATUS_OK;
}

static status check_map(const op_call *call, int input, const anchor_level *level, int64_t channels) {
    RETURN_IF_ERROR(op_expect_rank(call, input, 4));
    RETURN_IF_ERROR(op_expect_dims_equal(call, input, 0, RPN_PROPOSALS_INFO, 0));
    RETURN_IF_ERROR(op_expect_dim(call, input, 1, level->height, "canvas height / stride"));
    RETURN_IF_ERROR(op_expect_dim(call, input, 2, level->width, "canvas width / stride"));
    return op_expect_dim(call, input, 3, channels, "anchors of a cell");
}

static status rpn_proposals_infer(op_call *call) {
    const rpn_proposals_params *p = call->params;
    RETURN_IF_ERROR(check_params(call));
    RETURN_IF_ERROR(op_expect_rank(call, RPN_PROPOSALS_INFO, 2));
    RETURN_IF_ERROR(op_expect_dim(call, RPN_PROPOSALS_INFO, 1, IMAGE_INFO_INTS, "image_info"));
    anchor_grid grid = anchor_grid_make(&p->anchors, p->canvas_height, p->canvas_width);
    for (int l = 0; l < ANCHOR_MAX_LEVELS; l++) {
        if (!call->in[RPN_PROPOSALS_LOGITS + l] != (l >= grid.levels) ||
            !call->in[RPN_PROPOSALS_DELTAS + l] != (l >= grid.levels))
            return error_set(STATUS_DATA, "give one map of logits and one of deltas per level",
                             "%s: level %d of %d: a map is missing or too much", call->op->name, l,
                             grid.levels);
        if (l >= grid.levels) continue;
        RETURN_IF_ERROR(check_map(call, RPN_PROPOSALS_LOGITS + l, &grid.level[l], grid.per_cell));
        RETURN_IF_ERROR(check_map(call, RPN_PROPOSALS_DELTAS + l, &grid.level[l], 4 * grid.per_cell));
    }
    int64_t images = call->in[RPN_PROPOSALS_INFO]->shape[0];
    dtype real = op_real_type(call);
    op_describe_output(call, RPN_PROPOSALS_BOXES, real, 3, (int64_t[]){images, p->post_nms_topk, 4}, NULL);
    op_describe_output(call, RPN_PROPOSALS_SCORES, real, 2, (int64_t[]){images, p->post_nms_topk}, NULL);
    op_describe_output(call, RPN_PROPOSALS_ANCHORS, DTYPE_I32, 2, (int64_t[]){images, p->post_nms_topk},
                       NULL);
    op_describe_output(call, RPN_PROPOSALS_COUNTS, DTYPE_I32, 1, (int64_t[]){images}, NULL);
    return STATUS_OK;
}

#define ANCHORS3                                                                                             \
    {                                                                                                        \
        .levels = 3, .n_sizes = {1, 1, 1}, .n_ratios = {3, 3, 3}, .sizes = {{16}, {32}, {64}},               \
        .ratios = {{0.5, 1, 2}, {0.5, 1, 2}, {0.5, 1, 2}}, .strides = {                                      \
            8,                                                                                               \
            16,                                                                                              \
            32                                                                                               \
        }                                                                                                    \
    }

static const rpn_proposals_params usual = {.anchors = ANCHORS3,
                                           .canvas_height = 64,
                                           .canvas_width = 96,
                                           .pre_nms_topk = 60,
                                           .post_nms_topk = 40,
                                           .nms_threshold = 0.7,
                                           .box_weights = {1, 1, 1, 1}},
                                  few = {.anchors = ANCHORS3,
                                         .canvas_height = 64,
                                         .canvas_width = 96,
                                         .pre_nms_topk = 7,
                                         .post_nms_topk = 5,
                                         .nms_threshold = 0.3,
                                         .min_size = 10,
                                         .box_weights = {10, 10, 5, 5}},
                                  roomy = {.anchors = ANCHORS3,
                                           .canvas_height = 64,
                                           .canvas_width = 96,
                                           .pre_nms_topk = 1000,
                                           .post_nms_topk = 400,
                                           .nms_threshold = 1,
                                           .min_size = 1e-3,
                                           .min_size_inclusive = true,
                                           .box_weights = {1, 1, 1, 1}};

#define THOUSANDS(topk, threshold)                                                                           \
    {                                                                                                        \
        .anchors = ANCHORS3, .canvas_height = 320, .canvas_width = 320, .pre_nms_topk = (topk),              \
        .post_nms_topk = 300, .nms_threshold = (threshold), .box_weights = {                                 \
            1,                                                                                               \
            1,                                                                                               \
            1,                                                                                               \
            1                                                                                                \
        }                                                                                                    \
    }

static const rpn_proposals_params thousands = THOUSANDS(2500, 0.6), ties = THOUSANDS(3500, 0.6);

/* Resized sizes that differ between the images; the rest is padding. */
static void set_info(const op_call *call) {
    image_info *info = call->in[RPN_PROPOSALS_INFO]->data;
    for (int64_t n = 0; n < call->in[RPN_PROPOSALS_INFO]->shape[0]; n++)
        info[n] = (image_info){.original_height = 100,
                               .original_width = 100,
                               .height = 64 - 9 * (int32_t)n,
                               .width = 85 + 11 * (int32_t)n,
                               .id_low = (int32_t)n};
}

static void equal_scores(const op_call *call) {
    set_info(call);
    for (int l = 0; l < 3; l++)
        for (int64_t i = 0; i < tensor_count(call->in[l]); i++)
            tensor_set(call->in[l], i, (double)(i * 11 % 4 - 1));
}

static void not_finite(const op_call *call) {
    static const double odd[4] = {(double)INFINITY, (double)-INFINITY, (double)NAN, 3e38};
    set_info(call);
    for (int64_t i = 0; i < tensor_count(call->in[0]); i += 3) tensor_set(call->in[0], i, odd[i % 4]);
    for (int64_t i = 0; i < tensor_count(call->in[RPN_PROPOSALS_DELTAS + 1]); i += 5)
        tensor_set(call->in[RPN_PROPOSALS_DELTAS + 1], i, odd[i % 4]);
    for (int64_t i = 0; i < tensor_count(call->in[2]); i++) tensor_set(call->in[2], i, (double)NAN);
}

/* Every box far outside: clipped to nothing. */
static void all_outside(const op_call *call) {
    set_info(call);
    for (int l = 0; l < 3; l++)
        for (int64_t i = 0; i < tensor_count(call->in[RPN_PROPOSALS_DELTAS + l]); i += 4)
            tensor_set(call->in[RPN_PROPOSALS_DELTAS + l], i, 1000);
}

#define MAPS(n, deviation)                                                                                   \
    {                                                                                                        \
        [0] = OP_IN(NORMAL, 0, 1, n, 8, 12, 3), [1] = OP_IN(NORMAL, 0, 1, n, 4, 6, 3),                       \
        [2] = OP_IN(NORMAL, 0, 1, n, 2, 3, 3),                                                               \
        [RPN_PROPOSALS_DELTAS] = OP_IN(NORMAL, 0, deviation, n, 8, 12, 12),                                  \
        [RPN_PROPOSALS_DELTAS + 1] = OP_IN(NORMAL, 0, deviation, n, 4, 6, 12),                               \
        [RPN_PROPOSALS_DELTAS + 2] = OP_IN(NORMAL, 0, deviation, n, 2, 3, 12),                               \
        [RPN_PROPOSALS_INFO] = OP_IN(CONSTANT, 0, 0, n, IMAGE_INFO_INTS)                                     \
    }

/* Levels of 4800, 1200 and 300 anchors. */
#define LARGE_MAPS(deviation)                                                                                \
    {                                                                                                        \
        [0] = OP_IN(NORMAL, 0, 1, 1, 40, 40, 3), [1] = OP_IN(NORMAL, 0, 1, 1, 20, 20, 3),                    \
        [2] = OP_IN(NORMAL, 0, 1, 1, 10, 10, 3),                                                             \
        [RPN_PROPOSALS_DELTAS] = OP_IN(NORMAL, 0, deviation, 1, 40, 40, 12),                                 \
        [RPN_PROPOSALS_DELTAS + 1] = OP_IN(NORMAL, 0, deviation, 1, 20, 20, 12),                             \
        [RPN_PROPOSALS_DELTAS + 2] = OP_IN(NORMAL, 0, deviation, 1, 10, 10, 12),                             \
        [RPN_PROPOSALS_INFO] = OP_IN(CONSTANT, 0, 0, 1, IMAGE_INFO_INTS)                                     \
    }

/* A large image, all of it. */
static void set_large_info(const op_call *call) {
    *(image_info *)call->in[RPN_PROPOSALS_INFO]->data =
        (image_info){.original_height = 100, .original_width = 100, .height = 320, .width = 320};
}

static void many_equal_scores(const op_call *call) {
    equal_scores(call);
    set_large_info(call);
}

static const op_case rpn_proposals_cases[] = {
    {.name = "two_images", .params = &usual, .in = MAPS(2, 0.3), .prepare = set_info},
    {.name = "few_and_small_dropped", .params = &few, .in = MAPS(3, 2), .prepare = set_info},
    {.name = "more_room_than_boxes", .params = &roomy, .in = MAPS(1, 1), .prepare = set_info},
    {.name = "equal_scores", .params = &usual, .in = MAPS(2, 0.2), .prepare = equal_scores},
    {.name = "not_finite", .params = &usual, .in = MAPS(2, 0.2), .prepare = not_finite},
    {.name = "nothing_left", .params = &few, .in = MAPS(2, 0.1), .prepare = all_outside},
    {.name = "thousands", .params = &thousands, .in = LARGE_MAPS(0.5), .prepare = set_large_info},
    {.name = "thousands_of_equal_scores",
     .params = &ties,
     .in = LARGE_MAPS(0.5),
     .prepare = many_equal_scores},
    {.name = "no_images", .params = &few, .in = MAPS(0, 0.1)},
};

enum { DECODE_FLOPS = 20 };

static void rpn_proposals_cost(op_cost *cost, const op_call *call, bool backward) {
    (void)backward;
    const rpn_proposals_params *p = call->params;
    for (int l = 0; l < ANCHOR_MAX_LEVELS && call->in[RPN_PROPOSALS_LOGITS + l]; l++) {
        const tensor *logits = call->in[RPN_PROPOSALS_LOGITS + l],
                     *deltas = call->in[RPN_PROPOSALS_DELTAS + l];
        double images = (double)logits->shape[0], anchors = (double)tensor_row_size(logits);
        double best = anchors < p->pre_nms_topk ? anchors : p->pre_nms_topk;
        cost->flops += images * (anchors + best * DECODE_FLOPS + best * (best - 1) / 2 * OP_COST_IOU);
        if (anchors > 0) cost->read_bytes -= (1 - best / anchors) * op_cost_bytes(deltas);
    }
}

#define PYRAMID_OF_800x1344                                                                                  \
    .anchors = {.levels = 5,                                                                                 \
                .n_sizes = {1, 1, 1, 1, 1},                                                                  \
                .n_ratios = {3, 3, 3, 3, 3},                                                                 \
                .sizes = {{32}, {64}, {128}, {256}, {512}},                                                  \
                .ratios = {{0.5, 1, 2}, {0.5, 1, 2}, {0.5, 1, 2}, {0.5, 1, 2}, {0.5, 1, 2}},                 \
                .strides = {4, 8, 16, 32, 64}},                                                              \
    .canvas_height = 800, .canvas_width = 1344
#define TRAINING_MAPS(n, channels)                                                                           \
    OP_IN(NORMAL, 0, 0.3, n, 200, 336, channels), OP_IN(NORMAL, 0, 0.3, n, 100, 168, channels),              \
        OP_IN(NORMAL, 0, 0.3, n, 50, 84, channels), OP_IN(NORMAL, 0, 0.3, n, 25, 42, channels),              \
        OP_IN(NORMAL, 0, 0.3, n, 13, 21, channels)

static const rpn_proposals_params training = {PYRAMID_OF_800x1344, .pre_nms_topk = 2000,
                                              .post_nms_topk = 1000, .nms_threshold = 0.7,
                                              .box_weights = {1, 1, 1, 1}},
                                  testing = {PYRAMID_OF_800x1344, .pre_nms_topk = 1000, .post_nms_topk = 1000,
                                             .nms_threshold = 0.7, .box_weights = {1, 1, 1, 1}};

/* A model without FPN: all anchors stand on one map, and all boxes meet in one suppression. */
#define C4_OF_800x1344                                                                                       \
    .anchors = {.levels = 1,                                                                                 \
                .n_sizes = {5},                                                                              \
                .n_ratios = {3},                                                                             \
                .sizes = {{32, 64, 128, 256, 512}},                                                          \
                .ratios = {{0.5, 1, 2}},                                                                     \
                .strides = {16}},                                                                            \
    .canvas_height = 800, .canvas_width = 1344
#define C4_MAP(n, channels)                                                                                  \
    OP_IN(NORMAL, 0, 0.3, n, 50, 84, channels), {0}, {0}, {0}, {                                             \
        0                                                                                                    \
    }

static const rpn_proposals_params c4_training = {C4_OF_800x1344, .pre_nms_topk = 12000, .post_nms_topk = 2000,
                                                 .nms_threshold = 0.7, .box_weights = {1, 1, 1, 1}},
                                  c4_testing = {C4_OF_800x1344, .pre_nms_topk = 6000, .post_nms_topk = 1000,
                                                .nms_threshold = 0.7, .box_weights = {1, 1, 1, 1}};

static void set_training_info(const op_call *call) {
    image_info *info = call->in[RPN_PROPOSALS_INFO]->data;
    for (int64_t n = 0; n < call->in[RPN_PROPOSALS_INFO]->shape[0]; n++)
        info[n] = (image_info){.original_height = 480,
                               .original_width = 640,
                               .height = 800,
                               .width = 1333,
                               .id_low = (int32_t)n};
}

static const op_case rpn_proposals_bench[] = {
    {.name = "training_2_images",
     .params = &training,
     .in = {TRAINING_MAPS(2, 3), TRAINING_MAPS(2, 12), OP_IN(CONSTANT, 0, 0, 2, IMAGE_INFO_INTS)},
     .prepare = set_training_info},
    {.name = "testing_1_image",
     .params = &testing,
     .in = {TRAINING_MAPS(1, 3), TRAINING_MAPS(1, 12), OP_IN(CONSTANT, 0, 0, 1, IMAGE_INFO_INTS)},
     .prepare = set_training_info},
    {.name = "c4_training_2_images",
     .params = &c4_training,
     .in = {C4_MAP(2, 15), C4_MAP(2, 60), OP_IN(CONSTANT, 0, 0, 2, IMAGE_INFO_INTS)},
     .prepare = set_training_info},
    {.name = "c4_testing_1_image",
     .params = &c4_testing,
     .in = {C4_MAP(1, 15), C4_MAP(1, 60), OP_IN(CONSTANT, 0, 0, 1, IMAGE_INFO_INTS)},
     .prepare = set_training_info},
};

const op_def rpn_proposals_op = {
    .name = "rpn_proposals",
    .n_inputs = RPN_PROPOSALS_INPUTS,
    .n_outputs = RPN_PROPOSALS_OUTPUTS,
    .input_names = {"logits0", "logits1", "logits2", "logits3", "logits4", "deltas0", "deltas1", "deltas2",
                    "deltas3", "deltas4", "info"},
    .output_names = {"proposals", "scores", "anchors", "counts"},
    .parts = {"top-k", "decode", "nms", "merge"},
    .input_types = {[RPN_PROPOSALS_INFO] = DTYPE_I32}, /* the rest is real */
    .optional_inputs = (1u << RPN_PROPOSALS_INFO) - 1,
    .shares_gradient = -1,
    .params_size = sizeof(rpn_proposals_params),
    .infer = rpn_proposals_infer,
    .cost = rpn_proposals_cost,
    .reference_f32 = &rpn_proposals_reference_f32,
    .reference_f64 = &rpn_proposals_reference_f64,
    .cpu = &rpn_proposals_topk,
    .atol = 1e-4, /* pixels */
    .rtol = 1e-5,
    .cases = rpn_proposals_cases,
    .n_cases = sizeof rpn_proposals_cases / sizeof rpn_proposals_cases[0],
    .bench_cases = rpn_proposals_bench,
    .n_bench_cases = sizeof rpn_proposals_bench / sizeof rpn_proposals_bench[0],
};

rpn_proposals_result rpn_proposals(struct tape *t, tensor *const in[RPN_PROPOSALS_INPUTS],
                                   const rpn_proposals_params *params) {
    tensor *out[RPN_PROPOSALS_OUTPUTS];
    tape_apply(t, &rpn_proposals_op, params, in, out);
    return (rpn_proposals_result){.proposals = out[RPN_PROPOSALS_BOXES],
                                  .scores = out[RPN_PROPOSALS_SCORES],
                                  .anchors = out[RPN_PROPOSALS_ANCHORS],
                                  .counts = out[RPN_PROPOSALS_COUNTS]};
}
