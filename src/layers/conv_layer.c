#include "layers/conv_layer.h"

#include "add/add.h"
#include "base/check.h"
#include "conv2d/conv2d.h"
#include "fold_frozen_norm/fold_frozen_norm.h"
#include "group_norm/group_norm.h"
#include "sync_batch_norm/sync_batch_norm.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>

weight_init init_msra(int64_t outputs, int64_t taps) {
    return (weight_init){INIT_NORMAL, sqrt(2.0 / (double)(outputs * taps))};
}

weight_init init_xavier(int64_t fan_in) {
    return (weight_init){INIT_UNIFORM, sqrt(3.0 / (double)fan_in)};
}

weight_init init_pytorch(int64_t fan_in) {
    return (weight_init){INIT_UNIFORM, 1.0 / sqrt((double)fan_in)};
}

weight_init init_normal(double deviation) {
    return (weight_init){INIT_NORMAL, deviation};
}

static int add_vector(param_store *store, const char *prefix, const char *what, param_kind kind,
                      const conv_layer_spec *spec, double start) {
    char name[2 * PARAM_NAME_SIZE];
    snprintf(name, sizeof name, "%s.%s", prefix, what);
    bool frozen = spec->frozen || (kind == PARAM_NORM && spec->norm.kind == NORM_FROZEN);
    param_spec p = {.name = name,
                    .kind = kind,
                    .rank = 1,
                    .shape = {spec->out_channels},
                    .trainable = !frozen,
                    .init_value = start};
    return param_store_add(store, &p);
}

void conv_layer_init(conv_layer *layer, param_store *store, const conv_layer_spec *spec) {
    *layer =
        (conv_layer){.bias = -1, .norm_weight = -1, .norm_bias = -1, .running_mean = -1, .running_var = -1};
    snprintf(layer->name, sizeof layer->name, "%s", spec->name);
    layer->norm = spec->norm;
    bool batch = spec->norm.kind == NORM_BATCH || spec->norm.kind == NORM_SYNC;
    if (spec->frozen && batch) layer->norm.kind = NORM_FROZEN; /* as detectron2's convert_frozen_batchnorm */
    layer->stride = spec->stride;
    layer->pad = spec->kernel / 2;
    layer->relu = spec->relu;
    layer->f32_output = spec->f32_output;
    CHECK(!spec->f32_output || spec->norm.kind == NORM_NONE, "layer %s: a norm's input is an activation",
          spec->name);
    layer->live_pixels = spec->live_pixels;
    CHECK(!spec->live_pixels || spec->norm.kind == NORM_NONE, "layer %s: a norm gives every pixel a gradient",
          spec->name);
    char name[2 * PARAM_NAME_SIZE];
    snprintf(name, sizeof name, "%s.weight", spec->name);
    layer->weight = param_store_add(
        store, &(param_spec){.name = name,
                             .kind = PARAM_WEIGHT,
                             .layout = LAYOUT_CONV,
                             .rank = 4,
                             .shape = {spec->out_channels, spec->kernel, spec->kernel, spec->in_channels},
                             .trainable = !spec->frozen,
                             .init = spec->init.kind,
                             .init_value = spec->init.value});
    if (spec->norm.kind == NORM_NONE) {
        layer->bias = add_vector(store, spec->name, "bias", PARAM_BIAS, spec, 0.0);
        return;
    }
    layer->norm_weight = add_vector(store, spec->norm_name, "weight", PARAM_NORM, spec, 1.0);
    layer->norm_bias = add_vector(store, spec->norm_name, "bias", PARAM_NORM, spec, 0.0);
    if (spec->norm.kind == NORM_GROUP) return;
    layer->running_mean = add_vector(store, spec->norm_name, "running_mean", PARAM_BUFFER, spec, 0.0);
    layer->running_var = add_vector(store, spec->norm_name, "running_var", PARAM_BUFFER, spec, 1.0);
}

static tensor *batch_norm(const conv_layer *layer, graph *g, tensor *x, bool relu) {
    sync_batch_norm_params p = {
        .eps = layer->norm.eps, .momentum = 0.1, .relu = relu, .local = layer->norm.kind == NORM_BATCH};
    tensor *inputs[] = {x, graph_param(g, layer->norm_weight), graph_param(g, layer->norm_bias),
                        graph_param(g, layer->running_mean), graph_param(g, layer->running_var)};
    return sync_batch_norm(g->tape, inputs, &p);
}

/* Of the batch; as an image has no more pixels than x, also where per_image is any number. */
static int live_pixels_of(int64_t per_image, const tensor *x) {
    int64_t pixels = x->shape[1] * x->shape[2],
            live = x->shape[0] * (per_image < pixels ? per_image : pixels);
    return live < INT_MAX ? (int)live : 0;
}

tensor *conv_layer_apply(const conv_layer *layer, graph *g, tensor *x, tensor *residual) {
    tape_scope(g->tape, layer->name);
    conv2d_params p = {
        .stride = layer->stride, .pad = layer->pad, .dilation = 1, .f32_output = layer->f32_output};
    if (g->training) p.live_pixels = live_pixels_of(layer->live_pixels, x);
    /* Without gradients a batch norm uses its running statistics: the frozen form. */
    bool frozen = layer->norm.kind == NORM_FROZEN ||
                  (!g->training && (layer->norm.kind == NORM_BATCH || layer->norm.kind == NORM_SYNC));
    if (layer->norm.kind == NORM_NONE || frozen) {
        p.relu = layer->relu;
        if (layer->norm.kind == NORM_NONE)
            return conv2d(
                g->tape,
                (tensor *[]){x, graph_weight(g, layer->weight), graph_param(g, layer->bias), residual}, &p);
        tensor *inputs[] = {graph_param(g, layer->weight), graph_param(g, layer->norm_weight),
                            graph_param(g, layer->norm_bias), graph_param(g, layer->running_mean),
                            graph_param(g, layer->running_var)};
        folded_conv folded =
            fold_frozen_norm(g->tape, inputs, &(fold_frozen_norm_params){.eps = layer->norm.eps});
        return conv2d(g->tape, (tensor *[]){x, folded.weight, folded.bias, residual}, &p);
    }
    tensor *y = conv2d(g->tape, (tensor *[]){x, graph_weight(g, layer->weight), NULL, NULL}, &p);
    bool relu_in_norm = layer->relu && !residual;
    if (layer->norm.kind == NORM_GROUP) {
        group_norm_params group = {
            .groups = layer->norm.groups, .eps = layer->norm.eps, .relu = relu_in_norm};
        y = group_norm(g->tape, y, graph_param(g, layer->norm_weight), graph_param(g, layer->norm_bias),
                       &group);
    } else {
        y = batch_norm(layer, g, y, relu_in_norm);
    }
    return residual ? add(g->tape, y, residual, &(add_params){.relu = layer->relu}) : y;
}
