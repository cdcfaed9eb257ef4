#include "model/res5_head.h"

#include "base/check.h"
#include "spatial_mean/spatial_mean.h"

#include <stdio.h>
#include <string.h>

/* On the tape a layer is called after what it works for, so that times of a step are not the backbone's. */
static void rename_layer(conv_layer *layer) {
    static const char stage[] = "backbone.body.layer4.";
    char name[PARAM_NAME_SIZE];
    CHECK(strncmp(layer->name, stage, sizeof stage - 1) == 0, "%s in res5", layer->name);
    snprintf(name, sizeof name, "roi_heads.res5.%s", layer->name + sizeof stage - 1);
    memcpy(layer->name, name, sizeof name);
}

static void rename_block(resnet_block *block) {
    for (int i = 0; i < block->n_convs; i++) rename_layer(&block->convs[i]);
    if (block->projects) rename_layer(&block->shortcut);
}

void res5_head_init(res5_head *head, param_store *store, const resnet_spec *spec, int classes,
                    bool pytorch_init) {
    resnet_stage_init(&head->res5, store, spec, RESNET_STAGES - 1, false);
    for (int i = 0; i < head->res5.n_blocks; i++) rename_block(&head->res5.blocks[i]);
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
