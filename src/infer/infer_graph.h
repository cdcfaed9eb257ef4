/* Inference of one image on one canvas as a tape. */
#ifndef INFER_INFER_GRAPH_H
#define INFER_INFER_GRAPH_H

#include "image_info.h"
#include "infer/detector.h"

typedef enum infer_kind {
    INFER_ALL,   /* boxes and, where the spec asks for them, their masks */
    INFER_BOXES, /* boxes alone */
    INFER_MASKS  /* masks of boxes that are given */
} infer_kind;

/* Inputs in device memory, owned by the caller. */
typedef struct infer_inputs {
    uint8_t *pixels; /* RGB8, at least the image that pixel_table describes */
    int64_t pixel_bytes;
    int32_t *pixel_table; /* [1,8] image_pack_record */
    int32_t *info;        /* [1,8] image_info */
    float *rois;     /* [D,5] image 0, x1 y1 x2 y2 in resized pixels; INFER_MASKS only, as the next two */
    int32_t *labels; /* [D] class + 1 */
    int32_t *count;  /* [1] */
} infer_inputs;

typedef struct infer_graph {
    tape *t;
    graph g;
    tensor *pixels; /* ->data may be set anew before a run */
    tensor *boxes, *rois, *scores, *labels, *count,
        *info;     /* D = spec's max_detections rows; see select_detections.h. An RPN alone: boxes in
                                 * resized pixels, logits of objectness as scores, no rois and no labels */
    tensor *probs; /* [D,S,S] of each detection's own class; NULL: no masks */
    int marks[DETECTOR_STAGES]; /* end of each stage; -1: this graph has it not */
    size_t bytes;
} infer_graph;

/* CONFIG where tensors would grow beyond what the ops can count; before the first infer_graph_new. */
status infer_graph_check(const mask_rcnn_spec *model, const detector_spec *spec);

/* Records and plans. Everything passed is borrowed and must outlive the graph. */
infer_graph *infer_graph_new(mask_rcnn *model, device *dev, const detector_spec *spec, infer_kind kind,
                             const infer_inputs *inputs, int64_t height, int64_t width);
void infer_graph_free(infer_graph *pass);

/* Adds what each stage took in the last forward run, which the caller has waited for. */
void infer_graph_add_ms(const infer_graph *pass, double ms[DETECTOR_STAGES]);

#endif
