#include "model/resnet.h"

#include "base/check.h"
#include "max_pool2d/max_pool2d.h"

#include <stdio.h>

typedef struct block_shape {
    int64_t in, width, out;
    int stride;
    bool frozen;
} block_shape;

static void add_conv(conv_layer *layer, param_store *store, const char *prefix, int number,
                     const conv_layer_spec *shape) {
    char name[2 * PARAM_NAME_SIZE], norm_name[2 * PARAM_NAME_SIZE];
    snprintf(name, sizeof name, "%s.conv%d", prefix, number);
    snprintf(norm_name, sizeof norm_name, "%s.bn%d", prefix, number);
    conv_layer_spec spec = *shape;
    spec.name = name;
    spec.norm_name = norm_name;
    spec.init = init_msra(spec.out_channels, (int64_t)spec.kernel * spec.kernel);
    conv_layer_init(layer, store, &spec);
}

static void block_init(resnet_block *block, param_store *store, const char *prefix, const block_shape *s,
                       const resnet_spec *spec) {
    bool bottleneck = spec->depth >= 50;
    *block = (resnet_block){.n_convs = bottleneck ? 3 : 2};
    conv_layer_spec conv = {.norm = spec->norm, .frozen = s->frozen, .relu = true, .stride = 1};
    for (int i = 0; i < block->n_convs; i++) {
        conv.kernel = bottleneck && i != 1 ? 1 : 3;
        conv.in_channels = i == 0 ? s->in : s->width;
        conv.out_channels = i == block->n_convs - 1 ? s->out : s->width;
        int strided = bottleneck && !spec->stride_in_1x1 ? 1 : 0;
        conv.stride = i == strided ? s->stride : 1;
        add_conv(&block->convs[i], store, prefix, i + 1, &conv);
    }
    block->projects = s->in != s->out || s->stride != 1;
    if (!block->projects) return;
    char name[2 * PARAM_NAME_SIZE], norm_name[2 * PARAM_NAME_SIZE];
    snprintf(name, sizeof name, "%s.downsample.0", prefix);
    snprintf(norm_name, sizeof norm_name, "%s.downsample.1", prefix);
    conv = (conv_layer_spec){.name = name,
                             .norm_name = norm_name,
                             .in_channels = s->in,
                             .out_channels = s->out,
                             .kernel = 1,
                             .stride = s->stride,
                             .norm = spec->norm,
                             .frozen = s->frozen,
                             .init = init_msra(s->out, 1)};
    conv_layer_init(&block->shortcut, store, &conv);
}

static const int *blocks_of(int depth) {
    static const int table[][1 + RESNET_STAGES] = {
        {18, 2, 2, 2, 2}, {34, 3, 4, 6, 3}, {50, 3, 4, 6, 3}, {101, 3, 4, 23, 3}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i][0] == depth) return table[i] + 1;
    CHECK(false, "ResNet of depth %d", depth);
}

void resnet_stage_init(resnet_stage *stage, param_store *store, const resnet_spec *spec, int number,
                       bool frozen) {
    int64_t out = (int64_t)spec->res2_channels << number,
            in = number > 0 ? out / 2 : (int64_t)spec->stem_channels;
    int64_t width = spec->depth >= 50 ? (int64_t)spec->bottleneck_width << number : out;
    *stage = (resnet_stage){.n_blocks = blocks_of(spec->depth)[number], .channels = out};
    for (int i = 0; i < stage->n_blocks; i++) {
        char prefix[PARAM_NAME_SIZE];
        snprintf(prefix, sizeof prefix, "backbone.body.layer%d.%d", number + 1, i);
        block_shape shape = {
            .in = in, .width = width, .out = out, .stride = i == 0 && number > 0 ? 2 : 1, .frozen = frozen};
        block_init(&stage->blocks[i], store, prefix, &shape, spec);
        in = out;
    }
}

void resnet_init(resnet *net, param_store *store, const resnet_spec *spec) {
    conv_layer_spec stem = {.name = "backbone.body.conv1",
                            .norm_name = "backbone.body.bn1",
                            .in_channels = 3,
                            .out_channels = spec->stem_channels,
                            .kernel = 7,
                            .stride = 2,
                            .norm = spec->norm,
                            .relu = true,
                            .frozen = spec->freeze_at >= 1,
                            .init = init_msra(spec->stem_channels, 49)};
    conv_layer_init(&net->stem, store, &stem);
    net->n_stages = spec->ends_with_res4 ? RESNET_STAGES - 1 : RESNET_STAGES;
    for (int i = 0; i < net->n_stages; i++)
        resnet_stage_init(&net->stages[i], store, spec, i, spec->freeze_at >= i + 2);
}

static tensor *block_apply(const resnet_block *block, graph *g, tensor *x) {
    tensor *y = x;
    for (int i = 0; i < block->n_convs - 1; i++) y = conv_layer_apply(&block->convs[i], g, y, NULL);
    tensor *shortcut = block->projects ? conv_layer_apply(&block->shortcut, g, x, NULL) : x;
    return conv_layer_apply(&block->convs[block->n_convs - 1], g, y, shortcut);
}

tensor *resnet_stage_apply(const resnet_stage *stage, graph *g, tensor *x) {
    for (int i = 0; i < stage->n_blocks; i++) x = block_apply(&stage->blocks[i], g, x);
    return x;
}

void resnet_apply(const resnet *net, graph *g, tensor *images, tensor *features[RESNET_STAGES]) {
    tensor *x = conv_layer_apply(&net->stem, g, images, NULL);
    tape_scope(g->tape, "backbone.body.maxpool");
    x = max_pool2d(g->tape, x, &(max_pool2d_params){.kernel = 3, .stride = 2, .pad = 1});
    for (int i = 0; i < RESNET_STAGES; i++)
        features[i] = i < net->n_stages ? x = resnet_stage_apply(&net->stages[i], g, x) : NULL;
}
