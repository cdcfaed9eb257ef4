#include "layers/box_head.h"

#include <math.h>
#include <string.h>

static void add_linear(linear_layer *layer, param_store *store, linear_layer_spec spec, bool pytorch_init) {
    if (pytorch_init) {
        spec.init = init_pytorch(spec.in_features);
        spec.bias_bound = 1.0 / sqrt((double)spec.in_features);
    }
    linear_layer_init(layer, store, &spec);
}

void box_head_init(box_head *head, param_store *store, const box_head_spec *spec) {
    int64_t pooled = spec->channels * spec->resolution * spec->resolution, fc = spec->fc_dim;
    add_linear(&head->fc6, store,
               (linear_layer_spec){.name = "roi_heads.box_head.fc6",
                                   .in_features = pooled,
                                   .out_features = fc,
                                   .map = {spec->resolution, spec->resolution, spec->channels},
                                   .relu = true,
                                   .init = init_xavier(pooled)},
               spec->pytorch_init);
    add_linear(&head->fc7, store,
               (linear_layer_spec){.name = "roi_heads.box_head.fc7",
                                   .in_features = fc,
                                   .out_features = fc,
                                   .relu = true,
                                   .init = init_xavier(fc)},
               spec->pytorch_init);
    box_predictor_init(
        &head->predictor, store,
        &(box_predictor_spec){.features = fc, .classes = spec->classes, .pytorch_init = spec->pytorch_init});
}

void box_head_apply(const box_head *head, graph *g, tensor *pooled, tensor **scores, tensor **deltas) {
    tensor *x = linear_layer_apply(&head->fc7, g, linear_layer_apply(&head->fc6, g, pooled));
    box_predictor_apply(&head->predictor, g, x, scores, deltas);
}
