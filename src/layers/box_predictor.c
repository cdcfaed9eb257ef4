#include "layers/box_predictor.h"

#include <math.h>

void box_predictor_init(box_predictor *predictor, param_store *store, const box_predictor_spec *spec) {
    linear_layer_spec layers[] = {{.name = "roi_heads.box_predictor.cls_score",
                                   .out_features = spec->classes + 1,
                                   .init = init_normal(0.01)},
                                  {.name = "roi_heads.box_predictor.bbox_pred",
                                   .out_features = 4 * (spec->classes + 1),
                                   .init = init_normal(0.001)}};
    for (int i = 0; i < 2; i++) {
        layers[i].in_features = spec->features;
        layers[i].f32_output = true;
        if (!spec->pytorch_init) continue;
        layers[i].init = init_pytorch(spec->features);
        layers[i].bias_bound = 1.0 / sqrt((double)spec->features);
    }
    linear_layer_init(&predictor->scores, store, &layers[0]);
    linear_layer_init(&predictor->deltas, store, &layers[1]);
}

void box_predictor_apply(const box_predictor *predictor, graph *g, tensor *x, tensor **scores,
                         tensor **deltas) {
    *scores = linear_layer_apply(&predictor->scores, g, x);
    *deltas = linear_layer_apply(&predictor->deltas, g, x);
}
