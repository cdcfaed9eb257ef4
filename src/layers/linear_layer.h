/* Fully connected layer: y = relu?(x W^T + b), x [N,C]. Parameters <name>.weight [K,C] and <name>.bias [K]. */
#ifndef LAYERS_LINEAR_LAYER_H
#define LAYERS_LINEAR_LAYER_H

#include "layers/conv_layer.h"

typedef struct linear_layer_spec {
    const char *name;
    int64_t in_features, out_features;
    int64_t map[3];        /* H,W,C where the input is a flattened [H,W,C] map; zeros otherwise */
    bool relu, f32_output; /* f32_output: the result stays float32 where activations have 16 bits */
    weight_init init;
    double bias_bound; /* bias starts in U(-bound, bound); 0: at zero */
} linear_layer_spec;

typedef struct linear_layer {
    char name[PARAM_NAME_SIZE];
    int weight, bias;
    bool relu, f32_output;
} linear_layer;

void linear_layer_init(linear_layer *layer, param_store *store, const linear_layer_spec *spec);

/* x may have any rank: axes behind the first are flattened. */
tensor *linear_layer_apply(const linear_layer *layer, graph *g, tensor *x);

#endif
