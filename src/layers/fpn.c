#include "layers/fpn.h"

#include "max_pool2d/max_pool2d.h"
#include "upsample_add/upsample_add.h"

#include <stdio.h>

static void add_conv(conv_layer *layer, param_store *store, const char *group, int level,
                     conv_layer_spec *spec) {
    char name[PARAM_NAME_SIZE], norm_name[PARAM_NAME_SIZE];
    snprintf(name, sizeof name, "backbone.fpn.%s.%d.0", group, level);
    snprintf(norm_name, sizeof norm_name, "backbone.fpn.%s.%d.1", group, level);
    spec->name = name;
    spec->norm_name = norm_name;
    spec->stride = 1;
    spec->init = init_xavier(spec->in_channels * spec->kernel * spec->kernel);
    conv_layer_init(layer, store, spec);
}

void fpn_init(fpn *net, param_store *store, const fpn_spec *spec) {
    for (int i = 0; i < FPN_INPUTS; i++) {
        conv_layer_spec lateral = {.in_channels = spec->in_channels[i],
                                   .out_channels = spec->channels,
                                   .kernel = 1,
                                   .norm = spec->norm};
        add_conv(&net->lateral[i], store, "inner_blocks", i, &lateral);
    }
    for (int i = 0; i < FPN_INPUTS; i++) {
        conv_layer_spec output = {
            .in_channels = spec->channels, .out_channels = spec->channels, .kernel = 3, .norm = spec->norm};
        add_conv(&net->output[i], store, "layer_blocks", i, &output);
    }
}

void fpn_apply(const fpn *net, graph *g, tensor *const features[FPN_INPUTS], tensor *levels[FPN_LEVELS]) {
    tensor *top = NULL;
    for (int i = FPN_INPUTS - 1; i >= 0; i--) {
        tensor *lateral = conv_layer_apply(&net->lateral[i], g, features[i], NULL);
        top = top ? upsample_add(g->tape, top, lateral) : lateral;
        levels[i] = conv_layer_apply(&net->output[i], g, top, NULL);
    }
    tape_scope(g->tape, "backbone.fpn.p6");
    levels[FPN_INPUTS] =
        max_pool2d(g->tape, levels[FPN_INPUTS - 1], &(max_pool2d_params){.kernel = 1, .stride = 2, .pad = 0});
}
