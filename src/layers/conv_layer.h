/* Convolution with its norm: y = relu?(norm(conv(x)) + residual). How the norm is done follows from its kind:
 *   NORM_NONE      the convolution has a bias
 *   NORM_FROZEN    statistics and affine are constants: folded into weight and bias, no norm kernel runs
 *   NORM_BATCH     statistics of this rank's batch;  NORM_SYNC: of all ranks' batches
 *   NORM_GROUP     statistics per image and group of channels
 * Parameters: <name>.weight, and <name>.bias without norm; the norm's are <norm>.{weight,bias} and for the batch norms
 * <norm>.{running_mean,running_var}. */
#ifndef LAYERS_CONV_LAYER_H
#define LAYERS_CONV_LAYER_H

#include "layers/graph.h"

typedef enum norm_kind { NORM_NONE, NORM_FROZEN, NORM_BATCH, NORM_SYNC, NORM_GROUP } norm_kind;

/* A norm as the configuration names it. */
typedef struct norm_spec {
    norm_kind kind;
    double eps;
    int groups; /* NORM_GROUP: must divide the channels */
} norm_spec;

typedef struct weight_init {
    param_init kind;
    double value;
} weight_init;

/* He et al.'s normal with fan_out = outputs * taps, as detectron2's MSRA fill. */
weight_init init_msra(int64_t outputs, int64_t taps);
/* Caffe2's Xavier: uniform with bound sqrt(3 / fan_in). */
weight_init init_xavier(int64_t fan_in);
/* PyTorch's default of nn.Linear and nn.Conv2d: uniform with bound 1 / sqrt(fan_in), weight and bias alike. */
weight_init init_pytorch(int64_t fan_in);
weight_init init_normal(double deviation);

typedef struct conv_layer_spec {
    const char *name;      /* parameter prefix of the convolution */
    const char *norm_name; /* parameter prefix of the norm; unused with NORM_NONE */
    int64_t in_channels, out_channels;
    int kernel, stride; /* padding is kernel/2 */
    norm_spec norm;
    bool relu;
    bool f32_output; /* the result stays float32 where activations have 16 bits; without norm only */
    bool frozen;     /* no parameter is trained; batch norms become NORM_FROZEN */
    int live_pixels; /* at most so many pixels of an image's result get a gradient; 0: any number may. Without norm only */
    weight_init init;
} conv_layer_spec;

typedef struct conv_layer {
    char name[PARAM_NAME_SIZE]; /* on the tape */
    int weight, bias;           /* parameter indices; -1: none */
    int norm_weight, norm_bias, running_mean, running_var;
    norm_spec norm;
    int stride, pad, live_pixels;
    bool relu, f32_output;
} conv_layer;

void conv_layer_init(conv_layer *layer, param_store *store, const conv_layer_spec *spec);

/* x [N,H,W,C] -> [N,Ho,Wo,K]; residual [N,Ho,Wo,K] or NULL, added before the ReLU. */
tensor *conv_layer_apply(const conv_layer *layer, graph *g, tensor *x, tensor *residual);

#endif
