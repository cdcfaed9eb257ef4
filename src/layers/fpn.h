/* Feature pyramid (Lin et al.): lateral 1x1 convolutions, top-down nearest x2 sums, 3x3 output convolutions, and P6 as
 * every second pixel of P5. No ReLU. Names are torchvision's under `backbone.fpn.`. */
#ifndef LAYERS_FPN_H
#define LAYERS_FPN_H

#include "layers/conv_layer.h"

enum { FPN_INPUTS = 4, FPN_LEVELS = 5 };

typedef struct fpn_spec {
    int64_t in_channels[FPN_INPUTS];
    int64_t channels;
    norm_spec norm;
} fpn_spec;

typedef struct fpn {
    conv_layer lateral[FPN_INPUTS], output[FPN_INPUTS];
} fpn;

void fpn_init(fpn *net, param_store *store, const fpn_spec *spec);

/* features C2..C5, sides halving exactly -> levels P2..P6, all with spec->channels. */
void fpn_apply(const fpn *net, graph *g, tensor *const features[FPN_INPUTS], tensor *levels[FPN_LEVELS]);

#endif
