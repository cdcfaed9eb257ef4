/* Mask R-CNN: the parameters of the whole model, and its training step as a tape.
 *
 * A step's inputs have fixed capacity (step_shape); what varies is a count on the device. The graph of one shape is
 * recorded once (train_graph_new) and then run for every batch of that shape. */
#ifndef MODEL_MASK_RCNN_H
#define MODEL_MASK_RCNN_H

#include "anchors.h"
#include "image_info.h"
#include "layers/box_head.h"
#include "layers/fpn.h"
#include "layers/mask_head.h"
#include "layers/rpn_head.h"
#include "model/res5_head.h"
#include "model/resnet.h"

struct comm;

enum {
    CANVAS_DIVISOR = 32
}; /* C5's stride: canvas sides are multiples of it (without an FPN in testing any size goes) */

/* The maps that proposals come from and regions are pooled from. */
typedef enum map_kind {
    MAPS_FPN, /* P2..P6, strides 4..64; regions are pooled from P2..P5 */
    MAPS_C4   /* C4 alone, stride 16 */
} map_kind;

/* How the losses of the RPN are normalised. */
typedef enum rpn_normalizer {
    RPN_BY_BATCH_SIZE, /* sampled anchors wanted: batch_size_per_image x images (detectron2) */
    RPN_BY_SAMPLED     /* sampled anchors there are (torchvision) */
} rpn_normalizer;

typedef struct rpn_spec {
    anchor_spec anchors;
    double iou_background, iou_foreground;
    int batch_size_per_image;
    double positive_fraction;
    int straddle; /* train no anchor this many pixels outside the image; -1: all */
    double box_weights[4];
    double smooth_l1_beta;
    rpn_normalizer normalizer;
    double loss_weight, box_loss_weight;
    int pre_nms_topk[2], post_nms_topk[2]; /* training, testing */
    double nms_threshold;
    double min_size;
    bool min_size_inclusive;
} rpn_spec;

typedef struct pooler_spec {
    int resolution, sampling_ratio; /* 0: adaptive */
    bool aligned;
} pooler_spec;

typedef struct roi_spec {
    int classes; /* foreground */
    double iou_foreground;
    int batch_size_per_image;
    double positive_fraction;
    bool append_gt;
    double level_eps;
    pooler_spec box_pooler, mask_pooler; /* mask_pooler: without effect with MAPS_C4 */
    double box_weights[4];
    double smooth_l1_beta, box_loss_weight;
    int64_t fc_dim;
    int mask_convs;
    int64_t mask_dim;
    norm_spec mask_norm;
    bool soft_mask_targets;   /* torchvision's; else detectron2's */
    bool bitmap_mask_targets; /* detectron2's of bitmaps, polygons too; without effect where they are soft */
} roi_spec;

/* From bytes to the network's input. */
typedef struct pixel_spec {
    /* Pillow's filter on 8-bit values (detectron2) instead of plain bilinear in float (torchvision). */
    bool antialias;
    bool bgr;
    double mean[3], std[3]; /* in the order of the network's channels */
} pixel_spec;

typedef struct mask_rcnn_spec {
    pixel_spec pixels;
    resnet_spec backbone;
    map_kind maps;
    bool rpn_only; /* no heads over the regions: proposals are the result */
    int64_t fpn_channels;
    norm_spec fpn_norm;
    rpn_spec rpn;
    roi_spec roi;
    bool mask_on;
    bool torchvision_init;
    uint64_t seed;
} mask_rcnn_spec;

typedef struct mask_rcnn {
    mask_rcnn_spec spec;
    resnet backbone;
    fpn neck;
    rpn_head rpn;
    box_head box;   /* with MAPS_FPN */
    res5_head res5; /* with MAPS_C4 */
    mask_head mask;
    param_store params;
} mask_rcnn;

/* Lists all parameters; no memory for them yet (param_store_allocate, param_store_initialise). CONFIG: a norm's groups
 * do not divide its channels. Release in any case. */
status mask_rcnn_init(mask_rcnn *model, const mask_rcnn_spec *spec);
void mask_rcnn_release(mask_rcnn *model);

/* Labels that detections have; 0: an RPN alone has none. */
int mask_rcnn_labels(const mask_rcnn_spec *spec);
/* The first of the losses that a model may have: an RPN alone has the last two. */
int mask_rcnn_first_loss(const mask_rcnn_spec *spec);
/* Side of the predicted masks. */
int mask_rcnn_mask_side(const mask_rcnn_spec *spec);
/* Channels of the maps that the RPN reads. */
int64_t mask_rcnn_map_channels(const mask_rcnn_spec *spec);

/* Sizes of one rank's batch. */
typedef struct step_shape {
    int images;
    int64_t height, width; /* canvas, multiples of CANVAS_DIVISOR */
    int gt_capacity;       /* objects per image */
    int64_t mask_bytes;    /* all images' packed masks */
    int64_t pixel_bytes;   /* all images' pixels as read; unused where `images` is given */
} step_shape;

/* Inputs of a step, in device memory that the owner sized for the largest shape. */
typedef struct step_inputs {
    uint8_t *pixels; /* [pixel_bytes]: RGB images as read, see image_pack; NULL where `images` is given */
    int32_t *pixel_table; /* [N,8]: an image_pack_record each */
    void *images;     /* [N,H,W,3] as activations are stored, normalised and padded; NULL: made of `pixels` */
    image_info *info; /* [N], i32 [N,8] on the tape */
    int32_t *step;    /* [1]: iteration, for sampling */
    float *gt_boxes;  /* [N,G,4] x1 y1 x2 y2 in pixels of the resized image */
    int32_t *gt_labels; /* [N,G] 0..classes-1 */
    int32_t *gt_count;  /* [N] */
    int32_t *gt_masks;  /* [N,G,8], see data/gt_masks.h; offsets into mask_blob */
    uint8_t *mask_blob; /* [mask_bytes] */
    float *rates; /* [2]: see optimizer_rates. This and the next three are not read by every graph's owner */
    float *skipped_images; /* [1]: replaced images of this rank so far */
    float *losses;         /* [LOSS_COUNT]: where the losses go; NULL: into the arena */
    float *loss_scale;     /* [1]: gradient of the losses; NULL: 1 */
} step_inputs;

/* Order of losses everywhere. */
enum { LOSS_CLS, LOSS_BOX_REG, LOSS_MASK, LOSS_RPN_CLS, LOSS_RPN_LOC, LOSS_COUNT };
extern const char *const loss_names[LOSS_COUNT];       /* detectron2's: loss_cls ... */
extern const char *const loss_trace_names[LOSS_COUNT]; /* torchvision's: loss_classifier ... */

typedef struct train_graph {
    step_shape shape;
    tape *t;
    graph g;
    tensor *losses
        [LOSS_COUNT]; /* this rank's share: summed over ranks they are the loss. NULL: not of this model */
    tensor *levels[FPN_LEVELS]; /* P2..P6; C4 and NULLs */
    tensor *sampled
        [2]; /* f32 [2] each, this rank's: anchors, foreground among them; RoIs, likewise (NULL: no heads) */
    tensor *proposals; /* i32 [N]: of each image, that the RoIs were sampled from */
    size_t bytes;      /* step memory it needs */
    int64_t runs;      /* for the caller: how often it ran, and its recording, freed with the graph */
    struct device_graph *recording;
    struct device *dev;
} train_graph;

/* CONFIG where the step's tensors would grow beyond what ops take: call it before the first train_graph_new, with the
 * largest shape. */
status train_graph_check(const mask_rcnn_spec *spec, const step_shape *shape);

/* Records and plans the training step for one shape. `global_images` is the batch over all ranks; keep_levels keeps
 * the maps to be looked at. Everything passed is borrowed and must outlive the graph. */
train_graph *train_graph_new(mask_rcnn *model, struct device *dev, struct comm *comm, const step_shape *shape,
                             const step_inputs *inputs, int global_images, bool keep_levels);
void train_graph_free(train_graph *step);

#endif
