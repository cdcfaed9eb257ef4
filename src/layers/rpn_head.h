/* Region proposal head, shared by all levels: 3x3 convolution with ReLU, then 1x1 to A objectness logits and to 4A box
 * deltas (anchor-major: a*4 + coordinate). Names are torchvision's under `rpn.head.`. */
#ifndef LAYERS_RPN_HEAD_H
#define LAYERS_RPN_HEAD_H

#include "layers/conv_layer.h"

typedef struct rpn_head {
    conv_layer conv, logits, deltas;
} rpn_head;

/* `sampled`: anchors of an image that the losses take at most; no other place gets a gradient. */
void rpn_head_init(rpn_head *head, param_store *store, int64_t channels, int anchors, int sampled);

/* level [N,h,w,C] -> *logits [N,h,w,A], *deltas [N,h,w,4A]. */
void rpn_head_apply(const rpn_head *head, graph *g, tensor *level, tensor **logits, tensor **deltas);

#endif
