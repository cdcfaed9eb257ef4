/* The detector: a trained model applied to one image at a time, from RGB bytes to boxes, classes, scores and masks in the
 * image's own pixels.
 *
 *     detector_new(&d, &model, dev, &spec)
 *     detector_run(d, &found, pixels, height, width) for every image
 *
 * The graph of a canvas is recorded when the size is first met and kept; all run in one arena. An image is resized,
 * padded at the right and at the bottom to a multiple of size_divisibility for itself alone, uploaded once, and read back
 * once. Results do not depend on the number of threads, nor on the images before.
 *
 * An RPN alone gives its proposals: label 0, the probability of an object as score, by falling score; boxes as detectron2's
 * detector_postprocess makes them.
 *
 * With `augment` it is detectron2's test-time augmentation: boxes of all views (sizes, each also mirrored) are brought back
 * to the image and merged by NMS; masks of the merged boxes are predicted in every view and averaged. */
#ifndef INFER_DETECTOR_H
#define INFER_DETECTOR_H

#include "autograd/tape_times.h"
#include "data/detection.h"
#include "data/resize_rule.h"
#include "device/device.h"
#include "model/mask_rcnn.h"

enum { DETECTOR_MAX_SIZES = 64 };

typedef struct detector_spec {
    int short_edge;        /* of the resized image; 0: images keep their size */
    int max_size;          /* of its long edge */
    int size_divisibility; /* of the canvas's sides; 0: CANVAS_DIVISOR, of which it is a multiple with MAPS_FPN */
    resize_rule rule;
    double score_threshold; /* detections score above this */
    double nms_threshold;   /* IoU above which a detection of the same class goes */
    double min_box_size;    /* smallest side, in resized pixels */
    int max_detections;     /* per image, the best ones; of an RPN alone its post_nms_topk */
    int paste_rule;         /* a mask_paste_rule */
    bool masks;             /* predict masks, where the model has them */
    bool raw_masks;         /* probabilities instead of masks of the whole image */
    bool augment;
    int augment_sizes[DETECTOR_MAX_SIZES]; /* short edges */
    int augment_size_count, augment_max_size;
    bool augment_flip;
} detector_spec;

/* Stages in the order in which they run; with `augment` each is the sum over all views. */
enum detector_stage {
    DETECTOR_PREPROCESS, /* upload, resize, normalise */
    DETECTOR_BACKBONE,   /* with FPN */
    DETECTOR_RPN,
    DETECTOR_BOX,
    DETECTOR_MASK_FORWARD,
    DETECTOR_MASK_POST, /* pasting, run lengths, reading back */
    DETECTOR_STAGES
};
extern const char
    *const detector_stage_names[DETECTOR_STAGES]; /* "preprocess", "backbone", ..., "mask post" */

typedef struct detector detector;

/* The thread pool has its final size before. `model` is borrowed; its parameters may change between runs, their memory may not move. CONFIG: sizes beyond what the ops
 * can count. OS. */
status detector_new(detector **out, mask_rcnn *model, device *dev, const detector_spec *spec);
void detector_free(detector *d); /* NULL may be freed */

/* pixels: RGB8 [height,width,3]. *out is {0} or what an earlier run filled; release it with detection_list_release. DATA:
 * a side longer than 65536. OS: the host has not the memory that this size takes. After an error the detector can go on
 * with another image. */
status detector_run(detector *d, detection_list *out, const uint8_t *pixels, int height, int width);

/* Milliseconds of the last run, [DETECTOR_STAGES]. */
const double *detector_stage_ms(const detector *d);

/* From now on every op is timed, and each run of one told as soon as the detector has waited for it (see tape_times.h). */
void detector_observe(detector *d, tape_run_hook hook, void *context);

/* Bytes of device memory that it holds now, the model's parameters apart. */
size_t detector_memory(const detector *d);

#endif
