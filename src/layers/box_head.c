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
    int64_t pooled = spec->channels * spec->resolution * spec->resolution, fc = spec->fc_dim,
            rows = spec->classes + 1;
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
    add_linear(&head->scores, store,
               (linear_layer_spec){.name = "roi_heads.box_predictor.cls_score",
                                   .in_features = fc,
                                   .out_features = rows,
                                   .f32_output = true,
                                   .init = init_normal(0.01)},
               spec->pytorch_init);
    add_linear(&head->deltas, store,
               (linear_layer_spec){.name = "roi_heads.box_predictor.bbox_pred",
                                   .in_features = fc,
                                   .out_features = 4 * rows,
                                   .f32_output = true,
                                   .init = init_normal(0.001)},
               spec->pytorch_init);
}

void box_head_apply(const box_head *head, graph *g, tensor *pooled, tensor **scores, tensor **deltas) {
    tensor *x = linear_layer_apply(&head->fc7, g, linear_layer_apply(&head->fc6, g, pooled));
    *scores = linear_layer_apply(&head->scores, g, x);
    *deltas = linear_layer_apply(&head->deltas, g, x);
}
