/* Mask head: n 3x3 convolutions with ReLU over the pooled RoI, a 2x2 stride-2 transposed convolution with ReLU, and a
 * 1x1 to one logit map per class (channel 0, the background, is never used); only the map asked for is
 * computed. Names are torchvision's. */
#ifndef LAYERS_MASK_HEAD_H
#define LAYERS_MASK_HEAD_H

#include "layers/conv_layer.h"

enum { MASK_HEAD_MAX_CONVS = 8 };

typedef struct mask_head_spec {
    int64_t channels; /* of the pooled map */
    int n_convs;
    int64_t conv_dim;
    norm_spec norm;
    int classes;           /* foreground classes */
    bool torchvision_init; /* logits: MSRA (torchvision) instead of N(0, 0.001) (detectron2) */
} mask_head_spec;

typedef struct mask_head {
    conv_layer convs[MASK_HEAD_MAX_CONVS], logits;
    int n_convs;
    int upsample_weight, upsample_bias; /* parameter indices */
} mask_head;

void mask_head_init(mask_head *head, param_store *store, const mask_head_spec *spec);

/* pooled [M,P,P,C], labels i32 [M] (1..K) -> logits [M,2P,2P] of each row's class, in float32. */
tensor *mask_head_apply(const mask_head *head, graph *g, tensor *pooled, tensor *labels);

#endif
