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
    struct detector_stage_memory
        *host; /* page-locked: small inputs on their way to the device, results on theirs back */
    size_t host_bytes;
    uint8_t *host_pixels; /* page-locked [pixel_bytes]; NULL where the host writes device memory itself */
    struct detector_augment *augment; /* NULL without */
    double stage_ms[DETECTOR_STAGES];
    tape_run_hook hook; /* NULL: nobody observes */
    void *hook_context;
    device_instant origin; /* of the run, where it is observed */
};

/* A resized, possibly mirrored image. */
typedef struct detector_view {
    int32_t original_height, original_width, height, width;
    bool flip;
} detector_view;

/* mask_paster_reserve for d->paster. */
status detector_reserve_paster(detector *d, int width);

/* Queues one graph on the image that was uploaded, without waiting; every earlier view has been waited for. OS. */
status detector_run_view(infer_graph **out, detector *d, const detector_view *view, infer_kind kind);

/* Queues the way to the host of count, boxes, rois, scores and labels of the graph that was queued last. */
void detector_fetch(detector *d, const infer_graph *pass);

/* Waits for all that is queued, and adds the times of the graph's stages. */
void detector_wait(detector *d, const infer_graph *pass);

/* What detector_fetch brought, after the wait. */
void detector_read(host_detections *out, const detector *d);

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
