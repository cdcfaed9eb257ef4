#include "layers/rpn_head.h"

void rpn_head_init(rpn_head *head, param_store *store, int64_t channels, int anchors, int sampled) {
    conv_layer_spec conv = {.name = "rpn.head.conv.0.0",
                            .in_channels = channels,
                            .out_channels = channels,
                            .kernel = 3,
                            .stride = 1,
                            .relu = true,
                            .live_pixels = sampled,
                            .init = init_normal(0.01)};
    conv_layer_init(&head->conv, store, &conv);
    conv_layer_spec logits = {.name = "rpn.head.cls_logits",
                              .in_channels = channels,
                              .out_channels = anchors,
                              .kernel = 1,
                              .stride = 1,
                              .f32_output = true,
                              .live_pixels = sampled,
                              .init = init_normal(0.01)};
    conv_layer_init(&head->logits, store, &logits);
    conv_layer_spec deltas = {.name = "rpn.head.bbox_pred",
                              .in_channels = channels,
                              .out_channels = 4 * anchors,
                              .kernel = 1,
                              .stride = 1,
                              .f32_output = true,
                              .live_pixels = sampled,
                              .init = init_normal(0.01)};
    conv_layer_init(&head->deltas, store, &deltas);
}

void rpn_head_apply(const rpn_head *head, graph *g, tensor *level, tensor **logits, tensor **deltas) {
    tensor *hidden = conv_layer_apply(&head->conv, g, level, NULL);
    *logits = conv_layer_apply(&head->logits, g, hidden, NULL);
    *deltas = conv_layer_apply(&head->deltas, g, hidden, NULL);
}
