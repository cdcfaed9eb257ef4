/* Box predictor: from a vector for each region to class logits (row 0 is the background) and four box deltas per class. Names
 * are torchvision's under `roi_heads.box_predictor.`. */
#ifndef LAYERS_BOX_PREDICTOR_H
#define LAYERS_BOX_PREDICTOR_H

#include "layers/linear_layer.h"

typedef struct box_predictor_spec {
    int64_t features;  /* of the vector */
    int classes;       /* foreground classes */
    bool pytorch_init; /* nn.Linear's default start values (torchvision) instead of detectron2's */
} box_predictor_spec;

typedef struct box_predictor {
    linear_layer scores, deltas;
} box_predictor;

void box_predictor_init(box_predictor *predictor, param_store *store, const box_predictor_spec *spec);

/* x [R,C] -> *scores [R,K+1], *deltas [R,4(K+1)], in float32. */
void box_predictor_apply(const box_predictor *predictor, graph *g, tensor *x, tensor **scores,
                         tensor **deltas);

#endif
