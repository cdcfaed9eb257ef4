/* Box head: two fully connected layers with ReLU over the pooled RoI, then the box predictor. Names are torchvision's under `roi_heads.`. */
#ifndef LAYERS_BOX_HEAD_H
#define LAYERS_BOX_HEAD_H

#include "layers/box_predictor.h"

typedef struct box_head_spec {
    int64_t channels; /* of the pooled map */
    int resolution;   /* its side */
    int64_t fc_dim;
    int classes;       /* foreground classes */
    bool pytorch_init; /* nn.Linear's default start values (torchvision) instead of detectron2's */
} box_head_spec;

typedef struct box_head {
    linear_layer fc6, fc7;
    box_predictor predictor;
} box_head;

void box_head_init(box_head *head, param_store *store, const box_head_spec *spec);

/* pooled [R,P,P,C] -> *scores [R,K+1], *deltas [R,4(K+1)]. */
void box_head_apply(const box_head *head, graph *g, tensor *pooled, tensor **scores, tensor **deltas);

#endif
