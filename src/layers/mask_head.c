#include "layers/mask_head.h"

#include "base/check.h"
#include "class_logits/class_logits.h"
#include "conv2d_transpose/conv2d_transpose.h"

#include <stdio.h>

void mask_head_init(mask_head *head, param_store *store, const mask_head_spec *spec) {
    CHECK(spec->n_convs >= 0 && spec->n_convs <= MASK_HEAD_MAX_CONVS, "%d mask convolutions", spec->n_convs);
    head->n_convs = spec->n_convs;
    int64_t in = spec->channels, dim = spec->conv_dim;
    for (int i = 0; i < spec->n_convs; i++) {
        char name[PARAM_NAME_SIZE], norm_name[PARAM_NAME_SIZE];
        snprintf(name, sizeof name, "roi_heads.mask_head.%d.0", i);
        snprintf(norm_name, sizeof norm_name, "roi_heads.mask_head.%d.1", i);
        conv_layer_spec conv = {.name = name,
                                .norm_name = norm_name,
                                .in_channels = in,
                                .out_channels = dim,
                                .kernel = 3,
                                .stride = 1,
                                .norm = spec->norm,
                                .relu = true,
                                .init = init_msra(dim, 9)};
        conv_layer_init(&head->convs[i], store, &conv);
        in = dim;
    }
    /* PyTorch counts the fan-out of a transposed convolution over its first axis, the inputs. */
    weight_init init = init_msra(in, 4);
    head->upsample_weight =
        param_store_add(store, &(param_spec){.name = "roi_heads.mask_predictor.conv5_mask.weight",
                                             .kind = PARAM_WEIGHT,
                                             .layout = LAYOUT_DECONV,
                                             .rank = 4,
                                             .shape = {in, 2, 2, dim},
                                             .trainable = true,
                                             .init = init.kind,
                                             .init_value = init.value});
    head->upsample_bias =
        param_store_add(store, &(param_spec){.name = "roi_heads.mask_predictor.conv5_mask.bias",
                                             .kind = PARAM_BIAS,
                                             .rank = 1,
                                             .shape = {dim},
                                             .trainable = true});
    conv_layer_spec logits = {.name = "roi_heads.mask_predictor.mask_fcn_logits",
                              .in_channels = dim,
                              .out_channels = spec->classes + 1,
                              .kernel = 1,
                              .stride = 1,
                              .init = spec->torchvision_init ? init_msra(spec->classes + 1, 1)
                                                             : init_normal(0.001)};
    conv_layer_init(&head->logits, store, &logits);
}

tensor *mask_head_apply(const mask_head *head, graph *g, tensor *pooled, tensor *labels) {
    tensor *x = pooled;
    for (int i = 0; i < head->n_convs; i++) x = conv_layer_apply(&head->convs[i], g, x, NULL);
    tape_scope(g->tape, "roi_heads.mask_predictor.conv5_mask");
    conv2d_transpose_params up = {.stride = 2, .pad = 0, .relu = true};
    x = conv2d_transpose(g->tape, x, graph_weight(g, head->upsample_weight),
                         graph_param(g, head->upsample_bias), &up);
    tape_scope(g->tape, head->logits.name);
    return class_logits(g->tape, (tensor *[]){x, graph_weight(g, head->logits.weight),
                                              graph_param(g, head->logits.bias), labels});
}
