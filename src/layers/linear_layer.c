#include "layers/linear_layer.h"

#include "linear/linear.h"

#include <stdio.h>
#include <string.h>

void linear_layer_init(linear_layer *layer, param_store *store, const linear_layer_spec *spec) {
    char name[2 * PARAM_NAME_SIZE];
    snprintf(layer->name, sizeof layer->name, "%s", spec->name);
    layer->relu = spec->relu;
    layer->f32_output = spec->f32_output;
    snprintf(name, sizeof name, "%s.weight", spec->name);
    param_spec weight = {.name = name,
                         .kind = PARAM_WEIGHT,
                         .layout = spec->map[0] ? LAYOUT_FLATTENED : LAYOUT_SAME,
                         .rank = 2,
                         .shape = {spec->out_features, spec->in_features},
                         .trainable = true,
                         .init = spec->init.kind,
                         .init_value = spec->init.value};
    memcpy(weight.map, spec->map, sizeof weight.map);
    layer->weight = param_store_add(store, &weight);
    snprintf(name, sizeof name, "%s.bias", spec->name);
    layer->bias =
        param_store_add(store, &(param_spec){.name = name,
                                             .kind = PARAM_BIAS,
                                             .rank = 1,
                                             .shape = {spec->out_features},
                                             .trainable = true,
                                             .init = spec->bias_bound > 0.0 ? INIT_UNIFORM : INIT_CONSTANT,
                                             .init_value = spec->bias_bound});
}

tensor *linear_layer_apply(const linear_layer *layer, graph *g, tensor *x) {
    tape_scope(g->tape, layer->name);
    return linear(g->tape, x, graph_weight(g, layer->weight), graph_param(g, layer->bias),
                  &(linear_params){.relu = layer->relu, .flatten = true, .f32_output = layer->f32_output});
}
