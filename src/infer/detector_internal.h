/* Shared by detector.c (one view) and detector_augment.c (many views merged). */
#ifndef INFER_DETECTOR_INTERNAL_H
#define INFER_DETECTOR_INTERNAL_H

#include "infer/detector.h"
#include "infer/infer_graph.h"
#include "infer/mask_paster.h"
#include "model/canvas_cache.h"

/* Of `count` detections, on the host. */
typedef struct host_detections {
    int count;
    float *boxes;    /* [D,4] original pixels */
    float *rois;     /* [D,5] resized pixels */
    float *scores;   /* [D] */
    int32_t *labels; /* [D] class + 1 */
} host_detections;

struct detector {
    device *dev;
    mask_rcnn *model;
    detector_spec spec;
    bool masks;
    int mask_side;
    infer_inputs inputs;
    canvas_cache canvases;
    infer_graph *graphs[CANVAS_CACHE_SIZE];
    void *arena;
    size_t arena_bytes;
    mask_paster paster;
    host_detections found;
    struct detector_augment *augment; /* NULL without */
    double stage_ms[DETECTOR_STAGES];
};

/* A resized, possibly mirrored image. */
typedef struct detector_view {
    int32_t original_height, original_width, height, width;
    bool flip;
} detector_view;

/* Runs one graph on the image that was uploaded, without waiting, and adds the stages' times. OS. */
status detector_run_view(infer_graph **out, detector *d, const detector_view *view, infer_kind kind);

/* Reads count, boxes, rois, scores and labels of a graph's last run. */
void detector_read(host_detections *out, const detector *d, const infer_graph *pass);

/* Fills the list, with masks where there are any: `pasted` says where their probabilities and boxes lie on the device; its
 * first batch has run already. */
status detector_fill(detection_list *out, detector *d, const host_detections *found,
                     const mask_paster_input *pasted, int height, int width);

status host_detections_init(host_detections *list, int capacity);
void host_detections_release(host_detections *list);

status detector_augment_new(struct detector_augment **out, detector *d);
void detector_augment_free(struct detector_augment *a);
size_t detector_augment_memory(const struct detector_augment *a);
status detector_run_augmented(detector *d, detection_list *out, int height, int width);

#endif
