#include "model/res5_head.h"

#include "spatial_mean/spatial_mean.h"

void res5_head_init(res5_head *head, param_store *store, const resnet_spec *spec, int classes,
                    bool pytorch_init) {
    resnet_stage_init(&head->res5, store, spec, RESNET_STAGES - 1, false);
    box_predictor_init(&head->predictor, store,
                       &(box_predictor_spec){.features = head->res5.channels,
                                             .classes = classes,
                                             .pytorch_init = pytorch_init});
}

tensor *res5_head_features(const res5_head *head, graph *g, tensor *pooled) {
    return resnet_stage_apply(&head->res5, g, pooled);
}

void res5_head_predict(const res5_head *head, graph *g, tensor *features, tensor **scores, tensor **deltas) {
    tape_scope(g->tape, "roi_heads.mean");
    box_predictor_apply(&head->predictor, g, spatial_mean(g->tape, features), scores, deltas);
}
