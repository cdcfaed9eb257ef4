/* The training step as a tape: backbone, FPN, RPN, proposals and targets (no gradient), heads, losses. */
#include "model/mask_rcnn.h"

#include "all_reduce_counts/all_reduce_counts.h"
#include "base/check.h"
#include "data/gt_masks.h"
#include "device/device.h"
#include "foreground_rows/foreground_rows.h"
#include "gather_levels/gather_levels.h"
#include "image_pack/image_pack.h"
#include "mask_targets/mask_targets.h"
#include "model/forward.h"
#include "roi_targets/roi_targets.h"
#include "rpn_targets/rpn_targets.h"
#include "select_class/select_class.h"
#include "sigmoid_bce/sigmoid_bce.h"
#include "smooth_l1/smooth_l1.h"
#include "softmax_cross_entropy/softmax_cross_entropy.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Elements of the count vector that all ranks sum: the normalisers are global. */
enum { COUNT_ANCHORS, COUNT_ANCHORS_FG, COUNT_ROIS, COUNT_ROIS_FG, COUNT_SIZE };

/* The inputs as tensors of the tape. */
typedef struct step_tensors {
    tensor *images, *info, *step, *gt_boxes, *gt_labels, *gt_count, *gt_masks, *mask_blob;
} step_tensors;

static tensor *declare_images(tape *t, const mask_rcnn *model, const step_shape *s, const step_inputs *in) {
    if (in->images)
        return tape_constant(t, "images", model->params.precision.storage, 4,
                             (int64_t[]){s->images, s->height, s->width, 3}, in->images);
    tensor *bytes = tape_constant(t, "pixels", DTYPE_U8, 1, (int64_t[]){s->pixel_bytes}, in->pixels);
    tensor *table = tape_constant(t, "pixel_table", DTYPE_I32, 2,
                                  (int64_t[]){s->images, IMAGE_PACK_RECORD_INTS}, in->pixel_table);
    return forward_images(t, &model->spec.pixels, bytes, table, s->height, s->width);
}

static step_tensors declare_inputs(tape *t, const mask_rcnn *model, const step_shape *s,
                                   const step_inputs *in) {
    int64_t n = s->images, g = s->gt_capacity;
    return (step_tensors){
        .images = declare_images(t, model, s, in),
        .info = tape_constant(t, "image_info", DTYPE_I32, 2, (int64_t[]){n, IMAGE_INFO_INTS}, in->info),
        .step = tape_constant(t, "step", DTYPE_I32, 1, (int64_t[]){1}, in->step),
        .gt_boxes = tape_constant(t, "gt_boxes", DTYPE_F32, 3, (int64_t[]){n, g, 4}, in->gt_boxes),
        .gt_labels = tape_constant(t, "gt_labels", DTYPE_I32, 2, (int64_t[]){n, g}, in->gt_labels),
        .gt_count = tape_constant(t, "gt_count", DTYPE_I32, 1, (int64_t[]){n}, in->gt_count),
        .gt_masks =
            tape_constant(t, "gt_masks", DTYPE_I32, 3, (int64_t[]){n, g, GT_MASK_RECORD_INTS}, in->gt_masks),
        .mask_blob = tape_constant(t, "mask_blob", DTYPE_U8, 1, (int64_t[]){s->mask_bytes}, in->mask_blob),
    };
}

static rpn_targets_result sample_anchors(const mask_rcnn *model, train_graph *step, const step_tensors *in) {
    const rpn_spec *spec = &model->spec.rpn;
    tape_scope(step->t, "rpn.targets");
    rpn_targets_params p = {.anchors = spec->anchors,
                            .canvas_height = step->shape.height,
                            .canvas_width = step->shape.width,
                            .iou_background = spec->iou_background,
                            .iou_foreground = spec->iou_foreground,
                            .batch_size_per_image = spec->batch_size_per_image,
                            .positive_fraction = spec->positive_fraction,
                            .straddle = spec->straddle,
                            .seed = model->spec.seed};
    memcpy(p.box_weights, spec->box_weights, sizeof p.box_weights);
    return rpn_targets(step->t, (tensor *[]){in->gt_boxes, in->gt_count, in->info, in->step}, &p);
}

static roi_targets_result sample_rois(const mask_rcnn *model, train_graph *step,
                                      const rpn_proposals_result *proposals, const step_tensors *in) {
    const roi_spec *spec = &model->spec.roi;
    tape_scope(step->t, "roi_heads.targets");
    roi_targets_params p = {.append_gt = spec->append_gt,
                            .iou_foreground = spec->iou_foreground,
                            .batch_size_per_image = spec->batch_size_per_image,
                            .positive_fraction = spec->positive_fraction,
                            .seed = model->spec.seed};
    memcpy(p.box_weights, spec->box_weights, sizeof p.box_weights);
    tensor *inputs[ROI_TARGETS_INPUTS] = {
        proposals->proposals, proposals->counts, in->gt_boxes, in->gt_labels,
        in->gt_count,         in->info,          in->step,     proposals->anchors};
    return roi_targets(step->t, inputs, &p);
}

static tensor *gather(train_graph *step, tensor *index, tensor *const maps[FPN_LEVELS], int per_place,
                      int size) {
    tensor *inputs[1 + FPN_LEVELS] = {index};
    memcpy(inputs + 1, maps, FPN_LEVELS * sizeof *maps);
    return gather_levels(step->t, inputs, &(gather_levels_params){.anchors = per_place, .size = size});
}

static void rpn_losses(const mask_rcnn *model, train_graph *step, const forward_rpn *rpn,
                       const rpn_targets_result *targets, tensor *const *counts, int global_images) {
    const rpn_spec *spec = &model->spec.rpn;
    int per_place = spec->anchors.n_sizes[0] * spec->anchors.n_ratios[0];
    bool by_sampled = spec->normalizer == RPN_BY_SAMPLED;
    double wanted = by_sampled ? 1.0 : (double)spec->batch_size_per_image * global_images;
    tensor *divisor = by_sampled ? counts[COUNT_ANCHORS] : NULL;
    tape_scope(step->t, "rpn.loss_cls");
    tensor *logits = gather(step, targets->index, rpn->logits, per_place, 1);
    step->losses[LOSS_RPN_CLS] =
        sigmoid_bce(step->t, (tensor *[]){logits, targets->labels, NULL, divisor},
                    &(sigmoid_bce_params){.normalizer = wanted / spec->loss_weight, .unweighted = true});
    tape_scope(step->t, "rpn.loss_loc");
    tensor *deltas = gather(step, targets->index, rpn->deltas, per_place, 4);
    step->losses[LOSS_RPN_LOC] = smooth_l1(
        step->t, (tensor *[]){deltas, targets->box_targets, targets->box_weights, divisor},
        &(smooth_l1_params){.beta = spec->smooth_l1_beta, .normalizer = wanted / spec->box_loss_weight});
}

/* Returns what C4's masks are read from. */
static tensor *box_losses(const mask_rcnn *model, train_graph *step, const roi_targets_result *targets,
                          tensor *const *counts) {
    const roi_spec *spec = &model->spec.roi;
    forward_boxes boxes = forward_box_head(model, &step->g, step->levels, targets->rois);
    tape_scope(step->t, "roi_heads.loss_cls");
    step->losses[LOSS_CLS] = softmax_cross_entropy(step->t, boxes.scores, targets->labels, counts[COUNT_ROIS],
                                                   &(softmax_cross_entropy_params){.normalizer = 1.0});
    tape_scope(step->t, "roi_heads.loss_box_reg");
    tensor *own = select_class(step->t, boxes.deltas, targets->labels, &(select_class_params){.size = 4});
    step->losses[LOSS_BOX_REG] = smooth_l1(
        step->t, (tensor *[]){own, targets->box_targets, targets->box_weights, counts[COUNT_ROIS]},
        &(smooth_l1_params){.beta = spec->smooth_l1_beta, .normalizer = 1.0 / spec->box_loss_weight});
    return boxes.features;
}

/* Objects are among the regions of the box head: C4 has their res5 already. */
static tensor *mask_features(const mask_rcnn *model, train_graph *step, const roi_targets_result *targets,
                             tensor *box_features) {
    if (model->spec.maps == MAPS_FPN)
        return forward_mask_features(model, &step->g, step->levels, targets->mask_rois);
    tape_scope(step->t, "roi_heads.mask_rows");
    return foreground_rows(step->t, box_features, targets->labels, targets->mask_labels);
}

static void mask_loss(const mask_rcnn *model, train_graph *step, const roi_targets_result *targets,
                      const step_tensors *in, tensor *box_features, tensor *const *counts) {
    const roi_spec *spec = &model->spec.roi;
    int side = mask_rcnn_mask_side(&model->spec);
    tape_scope(step->t, "roi_heads.mask_targets");
    mask_targets_params p = {.resolution = side,
                             .soft = spec->soft_mask_targets,
                             .bitmaps = spec->bitmap_mask_targets,
                             .canvas_height = (int)step->shape.height,
                             .canvas_width = (int)step->shape.width};
    tensor *wanted = mask_targets(
        step->t, (tensor *[]){targets->mask_rois, targets->mask_gt, in->gt_masks, in->mask_blob, in->info},
        &p);
    tensor *features = mask_features(model, step, targets, box_features),
           *logits = mask_head_apply(&model->mask, &step->g, features, targets->mask_labels);
    tape_scope(step->t, "roi_heads.loss_mask");
    step->losses[LOSS_MASK] =
        sigmoid_bce(step->t, (tensor *[]){logits, wanted, NULL, counts[COUNT_ROIS_FG]},
                    &(sigmoid_bce_params){.normalizer = (double)side * side, .unweighted = true});
}

static void record(mask_rcnn *model, train_graph *step, const step_inputs *inputs, int global_images) {
    step_tensors in = declare_inputs(step->t, model, &step->shape, inputs);
    forward_levels(model, &step->g, in.images, step->levels);
    forward_rpn rpn = forward_rpn_heads(model, &step->g, step->levels);
    /* An RPN alone makes them too, as in detectron2: nothing reads them, but a step's times and counts show them. */
    rpn_proposals_result proposals = forward_proposals(model, step->t, &rpn, in.info, in.images, false);
    rpn_targets_result anchors = sample_anchors(model, step, &in);
    roi_targets_result rois = {.sampled = anchors.sampled}; /* without heads there are no others to count */
    if (!model->spec.rpn_only) {
        rois = sample_rois(model, step, &proposals, &in);
        step->sampled[1] = rois.sampled;
        tape_keep(step->t, rois.sampled);
    }
    step->proposals = proposals.counts;
    tape_keep(step->t, proposals.counts);
    tape_scope(step->t, "counts");
    step->sampled[0] = anchors.sampled;
    tape_keep(step->t, anchors.sampled);
    tensor *global[COUNT_SIZE];
    all_reduce_counts(step->t, anchors.sampled, rois.sampled, global);
    /* In the order in which backward should meet them last: the heads' gradients are ready, and on their way to the
     * other ranks, while the backbone still computes. */
    rpn_losses(model, step, &rpn, &anchors, global, global_images);
    if (!model->spec.rpn_only) {
        tensor *features = box_losses(model, step, &rois, global);
        if (model->spec.mask_on) mask_loss(model, step, &rois, &in, features, global);
    }
    tape_set_loss_scale(step->t, inputs->loss_scale);
    for (int i = 0; i < LOSS_COUNT; i++) {
        if (!step->losses[i]) continue;
        tape_loss(step->t, step->losses[i]);
        if (inputs->losses) tape_bind(step->t, step->losses[i], inputs->losses + i);
    }
}

/* Tensors of ops have at most 2^40 elements; anchors and candidates of a batch are numbered in 31 bits. In double, where
 * nothing overflows. */
static status check_size(const char *what, double size, double limit, const char *keys) {
    if (size <= limit) return STATUS_OK;
    error_set(STATUS_CONFIG, NULL,
              "a training step would need %s of %.3g elements, at most %.3g are possible", what, size, limit);
    error_set_remedy("choose smaller values of %s, or fewer images per rank (SOLVER.IMS_PER_BATCH)", keys);
    return STATUS_CONFIG;
}

static double at_most(double a, double b) {
    return a < b ? a : b;
}

status train_graph_check(const mask_rcnn_spec *spec, const step_shape *shape) {
    static const double most = 0x1p40, countable = INT32_MAX;
    const roi_spec *roi = &spec->roi;
    double images = shape->images, pixels = images * (double)shape->height * (double)shape->width;
    double widest = fmax(fmax(3, spec->backbone.stem_channels / 4.0),
                         fmax(spec->backbone.res2_channels / 16.0,
                              spec->maps == MAPS_FPN ? (double)spec->fpn_channels / 16 : 0));
    double stride = spec->maps == MAPS_FPN ? 4 : 16; /* of the first map */
    double per_place = spec->rpn.anchors.n_sizes[0] * spec->rpn.anchors.n_ratios[0];
    double candidates = spec->rpn.post_nms_topk[0] + shape->gt_capacity;
    double rois = images * at_most(roi->batch_size_per_image, candidates);
    double masks = images * at_most(roi->batch_size_per_image * roi->positive_fraction, candidates);
    double pooled = (double)roi->box_pooler.resolution * roi->box_pooler.resolution;
    double side = mask_rcnn_mask_side(spec), channels = (double)mask_rcnn_map_channels(spec);
    double per_roi = fmax(fmax(pooled * channels, (double)roi->fc_dim), 4.0 * (roi->classes + 1));
    double per_mask = side * side * fmax(fmax(channels, (double)roi->mask_dim), roi->classes + 1);
    if (spec->rpn_only) rois = masks = 0;
    RETURN_IF_ERROR(check_size("maps", pixels * widest, most, "INPUT.MIN_SIZE_TRAIN, INPUT.MAX_SIZE_TRAIN"));
    RETURN_IF_ERROR(check_size("anchors", pixels / (stride * stride) * per_place * 4 / 3 + images * 64,
                               countable, "INPUT.MIN_SIZE_TRAIN, INPUT.MAX_SIZE_TRAIN"));
    RETURN_IF_ERROR(check_size("proposals", images * candidates, countable, "MODEL.RPN.POST_NMS_TOPK_TRAIN"));
    RETURN_IF_ERROR(check_size("pooled RoIs", rois * per_roi, most, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE"));
    return check_size("masks", spec->mask_on ? masks * per_mask : 0, most,
                      "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE");
}

train_graph *train_graph_new(mask_rcnn *model, struct device *dev, struct comm *comm, const step_shape *shape,
                             const step_inputs *inputs, int global_images, bool keep_levels) {
    CHECK(shape->height % CANVAS_DIVISOR == 0 && shape->width % CANVAS_DIVISOR == 0,
          "canvas %lld x %lld is not a multiple of %d", (long long)shape->height, (long long)shape->width,
          CANVAS_DIVISOR);
    train_graph *step = calloc(1, sizeof *step);
    CHECK(step, "out of memory for a graph");
    step->shape = *shape;
    step->dev = dev;
    step->t = tape_new(dev, comm);
    graph_init(&step->g, step->t, &model->params, true);
    record(model, step, inputs, global_images);
    for (int l = 0; keep_levels && l < model->spec.rpn.anchors.levels; l++)
        tape_keep(step->t, step->levels[l]);
    step->bytes = tape_plan(step->t);
    return step;
}

void train_graph_free(train_graph *step) {
    if (!step) return;
    if (step->recording) device_graph_free(step->dev, step->recording);
    graph_release(&step->g);
    tape_free(step->t);
    free(step);
}
